"""Errors become one line and an exit code; interrupts and closed pipes are quiet."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.__main__ import main as main_of_module
from archive.cli import main
from tests.children import child_environment

COMMANDS = [
    "info",
    "ls",
    "verify",
    "demo",
    "reindex",
    "recover",
    "mean",
    "edit",
    "runs",
    "convert",
    "extract",
]
READERS = ["info", "ls", "verify"]


def one_line(text: str) -> str:
    """Return the one line that an error may print."""
    assert text.startswith("fedarchive: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


def test_both_doors_are_one() -> None:
    assert main_of_module is main


def test_version_in_both_ways(capsys: pytest.CaptureFixture[str], fedarchive: Any) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fedarchive {archive.__version__}\n"
    assert fedarchive("--version").stdout == f"fedarchive {archive.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n    {name} " in told for name in COMMANDS)
    assert "exit codes:" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_says_what_its_json_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert "\nJSON: " in told
    assert "--json" in told
    assert "--csv" in told


@pytest.mark.parametrize("name", [*COMMANDS, "cp", "cache", "gc", ""])
def test_help_loads_neither_engine_nor_numpy(name: str) -> None:
    code = f"""
    import sys
    from archive.cli import main
    main([{name!r}, "--help"] if {name!r} else ["--help"])
    heavy = {{"numpy", "h5py", "archive.reading", "archive.engine.read.handle", "archive.cli.training"}}
    sys.exit(" ".join(heavy & set(sys.modules)))
    """
    # -S: site packages may load numpy by themselves in an editable install. They are not searched
    # then: the folder of the package is named, for where the package is installed.
    done = subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(code)],
        env=child_environment(str(Path(archive.__file__).parents[1])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["info"],
        ["verify"],
        ["ls", "a", "--rec", "model"],
        ["demo", "--rounds", "0"],
        ["demo", "--rounds", "many"],
        ["demo", "--rounds"],
        ["recover"],
        ["mean", "out.h5"],
        ["info", "a", "--\x1b[2J"],
        ["info", "a", "--json", "--csv"],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "--help" in one_line(told.err)
    assert "\x1b" not in told.err


def test_an_unknown_argument_is_told_of_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "a.h5", "b.h5", "c.h5", "--nope"]) == 2
    said = one_line(capsys.readouterr().err)
    assert said.rstrip() == "fedarchive: unrecognized arguments: c.h5 --nope; try: fedarchive diff --help"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere.h5", "no such file"),
        ("notes.txt", "too few for an archive"),
        ("long.txt", "no archive footer"),
        ("empty.h5", "too few for an archive"),
        ("nosuch://bucket/model.h5", "fsspec does not open it"),
        ("", "no path"),
        ("no\x1b[31mwhere\n.h5", r"no\x1b[31mwhere\n.h5"),
    ],
)
def test_no_archive_there(
    name: str,
    path: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("nothing of interest\n")
    Path("long.txt").write_text("nothing of interest\n" * 5000)
    Path("empty.h5").touch()
    Path("folder").mkdir()
    assert main([name, path]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in one_line(told.err)


@pytest.mark.parametrize("name", READERS)
def test_a_file_cut_in_half(name: str, cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, str(cut)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert f"the file has {cut.stat().st_size} of" in one_line(told.err)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_index(name: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(saved.read_bytes())
    data[-400] ^= 1
    saved.write_bytes(data)
    assert main([name, str(saved)]) == 1
    assert "does not match its digest" in one_line(capsys.readouterr().err)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be somebody who may not read everything."""
    user = os.geteuid()
    if user == 0:
        _ = archive.save  # loaded while we may still read the package
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.parametrize("name", READERS)
def test_an_unreadable_file(name: str, saved: Path, request: pytest.FixtureRequest) -> None:
    saved.chmod(0)
    capsys = request.getfixturevalue("capsys")
    request.getfixturevalue("nobody")
    assert main([name, str(saved)]) == 2
    assert "Permission denied" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [["info"], ["ls"], ["verify"], ["reindex"]])
def test_the_same_as_a_process(arguments: list[str], fedarchive: Any) -> None:
    done = fedarchive(*arguments, "nowhere.h5")
    assert done.returncode == 2
    assert done.stdout == ""
    one_line(done.stderr)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More lines than a pipe holds."""
    path = tmp_path_factory.mktemp("many") / "many.h5"
    archive.save({f"layer.{number:05}.weight": np.zeros(1) for number in range(5000)}, path, durable=False)
    return path


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_a_reader_that_goes_away(
    form: list[str], many: Path, command: list[str], environment: dict[str, str]
) -> None:
    with subprocess.Popen(
        [*command, "ls", many, *form], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout(saved: Path, command: list[str], environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "info", saved],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left" in one_line(done.stderr)


def test_ctrl_c(tmp_path: Path, command: list[str], environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*command[:1], "-u", *command[1:], "demo", "--rounds", "1000000"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert select.select([process.stdout], [], [], 60)[0]
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == b""
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_an_encoding_without_the_name(saved: Path, fedarchive: Any, environment: dict[str, str]) -> None:
    archive.save({"größe": np.zeros(1)}, saved)
    done = fedarchive("ls", saved, env={**environment, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert r"model/gr\xf6\xdfe" in done.stdout


def test_closed_stdout(saved: Path, command: list[str], environment: dict[str, str]) -> None:
    line = ["sh", "-c", '"$@" >&-', "sh", *command, "verify", str(saved)]
    done = subprocess.run(line, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
