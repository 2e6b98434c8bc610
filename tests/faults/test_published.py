"""Published means readable: h5py, which locks what it opens, opens an archive the moment its name appears."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import archive
from tests.children import ROOT
from tests.faults.conftest import Forge, environment
from tests.faults.scenes import consume, litter
from tests.storage.folderstore import FolderStore, reach

IN_MOVED_TO, IN_CREATE = 0x80, 0x100
MANY = 2_000

WRITING = """
import sys
import numpy as np
import archive

how, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
for number in range(count):
    path, arrays = f"{folder}/{number}.h5", {"w": np.full(300, number)}
    if how == "create":
        with archive.create(path) as writer:
            writer.add("model", "w", arrays["w"])
    else:
        options = {"exclusive": {"overwrite": False}, "consuming": {"keep_input": False}}
        archive.save(arrays, path, **options.get(how, {}))
"""


@contextlib.contextmanager
def writing(how: str, folder: Path, count: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that saves ``0.h5``, ``1.h5`` and so on when it is sent a line."""
    command = [sys.executable, "-c", WRITING, how, str(folder), str(count)]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def names_as_they_appear(folder: Path, begin: Callable[[], None]) -> Iterator[str]:
    """Yield names when the system tells that they were made or moved here."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(folder), IN_MOVED_TO | IN_CREATE) < 0:
        pytest.skip("no inotify here")
    try:
        begin()
        while True:
            data = os.read(fd, 1 << 16)
            while data:
                nbytes = struct.unpack_from("=iIII", data)[3]
                yield os.fsdecode(data[16 : 16 + nbytes].rstrip(b"\0"))
                data = data[16 + nbytes :]
    finally:
        os.close(fd)


def names_as_they_are_listed(folder: Path, begin: Callable[[], None]) -> Iterator[str]:
    """Yield names as soon as a listing has them."""
    seen: set[str] = set()
    begin()
    while True:
        for name in sorted(set(os.listdir(folder)) - seen):
            seen.add(name)
            yield name


def open_each(folder: Path, how: str, count: int, watch: Callable[..., Iterator[str]]) -> list[str]:
    """Open ``count`` archives as they appear, and return what h5py complained about."""
    complaints: list[str] = []
    opened = 0
    with writing(how, folder, count) as process:
        for name in watch(folder, lambda: go(process)):
            if not name.endswith(".h5") or name.startswith("."):
                continue
            try:
                with h5py.File(folder / name) as file:
                    assert (file["arrays/model/w"][:] == int(name.removesuffix(".h5"))).all()
            except OSError as error:
                complaints.append(f"{name}: {error}")
            opened += 1
            if opened == count:
                break
        assert process.wait(60) == 0
    assert len(litter(folder)) == count
    return complaints


@pytest.mark.parametrize("how", ["save", "exclusive", "consuming", "create"])
def test_h5py_opens_what_appears(tmp_path: Path, how: str) -> None:
    assert open_each(tmp_path, how, 15, names_as_they_appear) == []


def opens_in_h5py(path: Path) -> list[str]:
    """Return the keys of the record that h5py, in a process of its own, finds in an archive."""
    code = "import h5py, sys; print(*h5py.File(sys.argv[1])['arrays/model'])"
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_h5py_opens_what_a_failed_save_left(tmp_path: Path) -> None:
    """The partial file is whole, and let go of, when the error comes."""
    with pytest.raises(archive.errors.PartialSaveError) as caught:
        consume(tmp_path / "model.h5", 4)
    assert caught.value.partial is not None
    assert len(opens_in_h5py(Path(caught.value.partial))) == 4


@pytest.mark.tools
def test_h5py_opens_what_was_recovered(forge: Forge, tmp_path: Path) -> None:
    """After a kill, while the handle of what `recover` returned is open."""
    path = tmp_path / "model.h5"
    kill = ["--trace=fsync", "-e", "inject=fsync:signal=SIGKILL:when=2"]
    assert forge(path, 1, options={"consume": 6}, strace=kill)["signal"]
    partial = path.with_name("model.h5.partial")
    records = archive.recover(partial)
    keys = opens_in_h5py(partial)
    assert keys == list(records["model"])
    assert len(keys) >= 6
    partial.rename(path)
    assert opens_in_h5py(path) == keys


def test_h5py_opens_a_cache_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache file that has all of its object, while it is open and mapped."""
    reach(FolderStore(tmp_path / "objects"), monkeypatch)
    arrays = {"a": np.arange(300_000.0), "b": np.arange(4)}
    archive.save(arrays, "folder://model.h5")
    with archive.open("folder://model.h5", cache=tmp_path / "cache") as handle:
        assert all((array.numpy() == arrays[key]).all() for (_, key), array in handle.drain())
        handle.verify()
        (kept,) = (tmp_path / "cache").glob("*.bytes")
        assert opens_in_h5py(kept) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("watch", [names_as_they_appear, names_as_they_are_listed])
@pytest.mark.parametrize("how", ["save", "exclusive", "consuming", "create"])
def test_h5py_opens_each_of_many(
    tmp_path: Path, how: str, watch: Callable[..., Iterator[str]], figures: Callable[[str], None]
) -> None:
    complaints = open_each(tmp_path, how, MANY // 8, watch)
    figures(f"{how}, {watch.__name__}: h5py opened {MANY // 8 - len(complaints)} of {MANY // 8}")
    assert complaints == []
