"""Completion in real shells, by the key that people press."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from archive.cli import main
from archive.cli.dispatch import _COMMANDS

CASES = [
    ("ver", "verify"),
    ("--vers", "--version"),
    ("reco", "recover"),
    ("ls --js", "--json"),
    ("ls --sort si", "size"),
    ("ls --rev", "--reverse"),
    ("ls --sort size lone", "lonely.h5"),
    ("info lone", "lonely.h5"),
    ("edit lonely.h5 --set fc lone", "lonely.h5"),
    ("runs hist", "history"),
    ("runs history lone", "lonely.h5"),
    ("runs --experiment adam hist", "history"),
    ("cache pru", "prune"),
    ("completion fi", "fish"),
    ("cp lonely.h5 --no-ov", "--no-overwrite"),
]
Complete = Callable[[str], str]


@pytest.fixture(params=["bash", "zsh"])
def typed(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Complete:
    """Type a line, TAB and return, and see what the shell made of it."""
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "lonely.h5").touch()
    assert main(["completion", request.param]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    start = {
        "bash": "PS1='$ '; bind 'set enable-bracketed-paste off'; source ./script",
        "zsh": "PS1='$ '; autoload -U compinit; compinit -u -D; unset zle_bracketed_paste; source ./script",
    }[request.param]
    quiet = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}[request.param]

    def complete(line: str) -> str:
        ours, other = pty.openpty()
        process = subprocess.Popen(
            [shell, *quiet],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        try:
            os.write(
                ours, f'{start}; fedarchive() {{ printf "<%s>" "${{@: -1}}"; }}; echo rea"dy"\n'.encode()
            )
            _until(ours, "ready")
            os.write(ours, f"fedarchive {line}\t\n".encode())
            return _until(ours, "<(.*?)>")
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    return complete


def _until(descriptor: int, pattern: str) -> str:
    seen, end = "", time.monotonic() + 20
    while time.monotonic() < end:
        if select.select([descriptor], [], [], 1)[0]:
            seen += os.read(descriptor, 65536).decode(errors="replace")
        if found := re.search(pattern, seen):
            return found[found.lastindex or 0]
    raise AssertionError(f"the shell said {seen!r}")


@pytest.mark.tools
@pytest.mark.parametrize(("line", "word"), CASES)
def test_a_key_completes(line: str, word: str, typed: Complete) -> None:
    assert typed(line) == word


@pytest.fixture
def fish(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Complete:
    """Ask fish what it would offer."""
    shell = shutil.which("fish")
    if shell is None:
        pytest.skip("fish is not installed")
    (tmp_path / "lonely.h5").touch()
    assert main(["completion", "fish"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)

    def offers(line: str) -> str:
        done = subprocess.run(
            [shell, "--no-config", "-c", 'source ./script; complete -C "$argv[1]"', "--", line],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return offers


@pytest.mark.tools
@pytest.mark.parametrize(("line", "word"), CASES)
def test_fish_offers(line: str, word: str, fish: Complete) -> None:
    assert word in [offer.split("\t")[0] for offer in fish(f"fedarchive {line}").splitlines()]


@pytest.mark.tools
def test_fish_offers_no_files_where_a_command_is_wanted(fish: Complete) -> None:
    offers = [offer.split("\t")[0] for offer in fish("fedarchive ").splitlines()]
    assert set(offers) == set(_COMMANDS)


@pytest.mark.tools
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_parse_the_scripts(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in _COMMANDS)
    (tmp_path / "script").write_text(script)
    done = subprocess.run([program, "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
