"""``fedarchive gc``: what killed writers left, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from archive.cli.dispatch import main
from archive.tools.collection import collect_garbage
from tests.storage.folderstore import FolderStore, reach


def test_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    store = FolderStore(tmp_path)
    reach(store, monkeypatch)
    for number, path in enumerate(("runs/a.h5", "runs/b/c.h5", "others/d.h5", "runs/young.h5")):
        store.create_multipart(path).put_part(1, b"some")
        old = time.time() - 90_000 * (number < 3)
        os.utime(tmp_path / ".uploads" / str(number), (old, old))
    assert main(["gc", "folder://runs", "--dry-run"]) == 0
    assert "would remove 2" in capsys.readouterr().out
    assert len(store.uploads()) == 4
    assert main(["gc", "folder://runs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [left["path"] for left in told["removed"]] == ["folder://runs/a.h5", "folder://runs/b/c.h5"]
    assert store.uploads() == ["2", "3"]
    assert main(["gc", "folder://runs/young.h5", "--older-than", "0s"]) == 0
    assert store.uploads() == ["2"]


def test_temporary_files(tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs"
    (folder / "deep").mkdir(parents=True)
    content = saved.read_bytes()[:9000]
    litter = [folder / ".model.h5.0.tmp", folder / "deep" / f".x.{'a' * 16}.tmp", folder / ".empty.3.tmp"]
    kept = [
        folder / ".model.h5.1.tmp",  # held by a writer
        folder / ".young.0.tmp",
        folder / ".model.h5.9.tmp",  # no name of ours
        folder / ".notes.0.tmp",  # not our content
        folder / "model.h5.partial",
        folder / "model.h5",
    ]
    for path in (*litter, *kept):
        path.write_bytes(content)
        if "young" not in path.name:
            os.utime(path, (1e9, 1e9))
    litter[2].write_bytes(b"")
    kept[3].write_bytes(b"notes of somebody else")
    for path in (litter[2], kept[3]):
        os.utime(path, (1e9, 1e9))
    (folder / ".link.0.tmp").symlink_to(saved)
    with kept[0].open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["gc", str(folder), "--older-than", "1h"]) == 0
    out = capsys.readouterr().out
    assert f"{folder}: removed 3" in out
    assert not any(path.exists() for path in litter)
    assert all(path.exists() for path in kept)
    assert saved.exists()


def test_files_of_the_year_9999_and_of_before_christ(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file system of 64-bit seconds has them."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("no file system of 64-bit seconds")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for number, seconds in enumerate((5e11, -1e12, -5)):
            path = Path(folder, f".model.h5.{number}.tmp")
            path.write_bytes(saved.read_bytes()[:9000])
            os.utime(path, (seconds, seconds))
        assert main(["gc", folder, "--older-than", "1h"]) == 0
        out = capsys.readouterr().out
        assert "a temporary file of 1970 - 1000000000000 s: " in out
        assert "a temporary file of 1969-12-31T23:59:55+00:00: " in out
        assert [path.name for path in Path(folder).iterdir()] == [".model.h5.0.tmp"]


def test_nothing_of_others_and_nothing_behind_a_link(tmp_path: Path, saved: Path) -> None:
    content = saved.read_bytes()[:9000]
    others, folder = tmp_path / "others", tmp_path / "disk"
    others.mkdir()
    folder.mkdir()
    kept = [
        others / ".model.h5.0.tmp",
        folder / "model.h5.partial",  # nobody has recovered it yet
        folder / "model.h5.partial.journal",
        folder / ".model.h5.partial",
    ]
    for path in kept:
        path.write_bytes(content)
    (folder / "linked").symlink_to(others)
    (folder / "essay.partial").write_text("an essay")
    (folder / ".essay.1.tmp").write_text("an essay")
    (folder / ".model.h5.1.tmp").write_bytes(content)
    (tmp_path / "named").symlink_to(folder)  # by the user: this one is followed
    assert main(["gc", str(tmp_path / "named"), "--older-than", "0s"]) == 0
    assert all(path.read_bytes() == content for path in kept)
    assert (folder / "essay.partial").read_text() == (folder / ".essay.1.tmp").read_text() == "an essay"
    assert not (folder / ".model.h5.1.tmp").exists()


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    for age in ("1", "d", "1w", "-1d"):
        assert main(["gc", str(tmp_path), f"--older-than={age}"]) == 2
        assert "s, m, h or d" in capsys.readouterr().err


def test_a_dry_run_tells_what_would_be_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".model.h5.0.tmp", ".model.h5.1.tmp"):
        (tmp_path / name).write_bytes(bytes(5000))
    with (tmp_path / ".model.h5.0.tmp").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for dry in (["--dry-run"], []):
            assert main(["gc", str(tmp_path), "--older-than", "0s", "--json", *dry]) == 0
            told = json.loads(capsys.readouterr().out)
            assert [left["path"] for left in told["removed"]] == [str(tmp_path / ".model.h5.1.tmp")]
    assert [path.name for path in tmp_path.iterdir()] == [".model.h5.0.tmp"]


def test_files_that_are_published_meanwhile(tmp_path: Path) -> None:
    """A folder may be swept while somebody saves to it."""
    done = threading.Event()

    def save() -> None:
        while not done.is_set():
            for number in range(8):
                path = tmp_path / f".m{number}.h5.0.tmp"
                path.write_bytes(b"")
                path.unlink()

    writer = threading.Thread(target=save)
    writer.start()
    try:
        for _ in range(3000):
            collect_garbage(tmp_path, older_than=3600)
    finally:
        done.set()
        writer.join()
