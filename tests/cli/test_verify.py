"""``fedarchive verify``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from tests.children import child_environment
from tests.storage.folderstore import FolderStore, reach


def test_a_good_archive(saved: Path, fedarchive: Any) -> None:
    done = fedarchive("verify", saved)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{saved}: ok, 5 arrays, ")


def test_a_flipped_byte_is_named(flipped: Path, fedarchive: Any) -> None:
    done = fedarchive("verify", flipped)
    assert (done.returncode, done.stderr) == (1, "")
    assert "model/fc.weight: segment 0, at byte 4096: does not match its digest" in done.stdout
    assert f"{flipped}: DAMAGED in 1 place\n" in done.stdout


def test_json(saved: Path, flipped: Path, cut: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--json", str(saved), str(flipped), str(cut)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["ok", "files"]
    assert told["ok"] is False
    good, bad, short = told["files"]
    keys = ["path", "ok", "arrays", "checked_bytes", "unverifiable", "failures", "error"]
    assert list(good) == list(bad) == list(short) == keys
    assert good["ok"] is True
    assert good["checked_bytes"] == saved.stat().st_size
    [failure] = bad["failures"]
    assert list(failure) == ["record", "key", "segment", "offset", "problem", "bytes_match"]
    assert (failure["record"], failure["key"]) == ("model", "fc.weight")
    assert short["error"]["kind"] == "TruncatedError"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["good.h5", "good.h5"], 0),
        (["good.h5", "nowhere.h5"], 2),
        (["nowhere.h5", "flipped.h5", "good.h5"], 1),
        (["cut.h5", "nowhere.h5"], 1),
    ],
)
def test_several_files_are_all_checked(
    names: list[str],
    code: int,
    saved: Path,
    flipped: Path,
    cut: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(saved.parent)
    assert main(["verify", *names]) == code
    told = capsys.readouterr()
    assert told.out.count("ok,") == names.count("good.h5")
    assert told.err.count("fedarchive: ") == sum(name in ("nowhere.h5", "cut.h5") for name in names)


def test_padding_belongs_to_no_array(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(saved.read_bytes())
    data[100] = 1
    saved.write_bytes(data)
    assert main(["verify", str(saved)]) == 1
    assert f"{saved}: padding: segment 0, at byte 100: is not zero" in capsys.readouterr().out


@pytest.mark.parametrize("remote", [False, True])
def test_archives_beside_runs_are_checked(
    tmp_path: Path, remote: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(tmp_path / "m")
    (tmp_path / "m/old").mkdir(parents=True)
    if remote:
        reach(FolderStore(tmp_path), monkeypatch)
        url = "folder://m"
    for run in ("adam", "sgd"):
        store = archive.CheckpointStore(url, run)
        store.save({"w": np.ones(3)}, 1, client="Berlin")
        store.save({"w": np.ones(3)}, 1)
    for name in ("best.h5", "sgd/notes.h5", "old/rounds.h5"):
        archive.save({"w": np.ones(3)}, f"{url}/{name}")
    assert main(["verify", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ok")[0] for line in lines] == [
        *(f"{url}/{name}: round 1" for name in ("adam", "sgd")),
        *(f"{url}/{name}" for name in ("best.h5", "old/rounds.h5", "sgd/notes.h5")),
        "all 5 are ok",
    ]
    path = tmp_path / "m" / "best.h5"
    path.write_bytes(path.read_bytes().replace(np.ones(3).tobytes(), np.zeros(3).tobytes()))
    assert main(["verify", url]) == 1
    assert "best.h5: model/w: segment 0" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("whole_group", [False, True], ids=["the command alone", "as Ctrl-C does"])
def test_an_interrupt_ends_workers(tmp_path: Path, whole_group: bool) -> None:
    archive.save({"w": np.zeros(3)}, tmp_path / "0.h5", durable=False)
    for number in range(1, 20_000):
        os.link(tmp_path / "0.h5", tmp_path / f"{number}.h5")
    command = [sys.executable, "-m", "archive", "verify", str(tmp_path), "--workers", "2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        assert "ok, 1 array" in child.stdout.readline()
        (os.killpg if whole_group else os.kill)(child.pid, signal.SIGINT)
        told, complained = child.communicate(timeout=60)
    assert child.returncode == 130
    assert told.count("ok, 1 array") < 19_000
    assert "Traceback" not in complained


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_command_that_is_killed(tmp_path: Path, number: int) -> None:
    archive.save({"w": np.zeros(3)}, tmp_path / "0.h5", durable=False)
    for link in range(1, 20_000):
        os.link(tmp_path / "0.h5", tmp_path / f"{link}.h5")
    command = [sys.executable, "-m", "archive", "verify", str(tmp_path), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=child_environment(), text=True
    ) as child:
        assert child.stdout is not None
        assert "ok, 1 array" in child.stdout.readline()
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert len(children) >= 2, "workers, and what keeps account of their semaphores"
        child.send_signal(number)
    ends = time.monotonic() + 20
    while alive := [one for one in children if is_alive(one)]:
        assert time.monotonic() < ends, f"{len(alive)} processes are left"
        time.sleep(0.05)


def is_alive(number: str) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
