"""K1 of FAULTS.md: forks, threads, pickles, many opens, closed handles, and Ctrl-C in a save."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.types import Access
from tests.children import ROOT
from tests.descriptors import open_files
from tests.faults.conftest import Forge, environment
from tests.faults.scenes import LARGE, content, litter, save, version_of

THREADS = 16
FORKING = """
import os, sys
import archive
from tests.descriptors import open_files
from tests.faults.scenes import content
with archive.open(sys.argv[1], access=sys.argv[2]) as handle:
    if sys.argv[3] == "after":
        handle["w"].numpy(); handle.verify()
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            ok = (handle["w"].numpy() == 7).all() and handle.verify().ok
            handle.close()
            os._exit(0 if ok else 9)
        assert os.waitpid(pid, 0)[1] == 0
    assert (handle["b"].numpy() == 7).all() and handle.verify().ok
"""
UNPICKLING = """
import pickle, sys
handle, array = pickle.load(open(sys.argv[1], "rb"))
assert (array.numpy() == 7).all() and (handle["b"].numpy() == 7).all() and handle.verify().ok
"""


@pytest.mark.parametrize("access", ["mmap", "pread"])
@pytest.mark.parametrize("moment", [pytest.param("before", marks=pytest.mark.slow), "after"])
def test_fork_with_an_open_handle(tmp_path: Path, access: Access, moment: str) -> None:
    """K1: a child reads through the handle of its parent, before and after threads ran, and may close it."""
    save(tmp_path / "model.h5", 7, LARGE, durable=False)
    command = [sys.executable, "-c", FORKING, str(tmp_path / "model.h5"), access, moment]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=60)


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_threads_share_a_handle(tmp_path: Path, access: Access) -> None:
    """K1: 16 threads read and verify at once."""
    keys = [f"k{number}" for number in range(200)]
    archive.save({key: np.full(1000, n, "<i4") for n, key in enumerate(keys)}, tmp_path / "many.h5")
    barrier = threading.Barrier(THREADS)

    def read(share: int) -> int:
        barrier.wait()
        for number in range(len(keys)):
            n = (number * 7 + share * 13) % len(keys)
            assert (handle[keys[n]].numpy() == n).all()
        return len(handle.records.parameters_records["model"])

    with archive.open(tmp_path / "many.h5", access=access) as handle, ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(read, range(THREADS))) == [len(keys)] * THREADS


@pytest.mark.parametrize("rounds", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_descriptors_stay_flat(tmp_path: Path, rounds: int) -> None:
    """K1: handles closed, dropped, or refused leave no descriptor and no map behind."""
    path, damaged = tmp_path / "model.h5", tmp_path / "damaged.h5"
    save(path, 1)
    damaged.write_bytes(path.read_bytes()[:-1] + b"?")
    version_of(path)
    descriptors, maps = open_files(tmp_path), _maps(tmp_path)
    for number in range(rounds):
        handle = archive.open(path, access=("mmap", "pread")[number % 2])
        handle["b"].numpy()
        if number % 3:
            handle.close()
        del handle
        with pytest.raises(archive.errors.DamagedError):
            archive.open(damaged)
    assert open_files(tmp_path) == descriptors
    assert _maps(tmp_path) == maps


def _maps(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder))


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_pickled_to_another_process(tmp_path: Path, access: Access) -> None:
    """K1: handles and arrays cross by reference; a replaced file is not taken for the old one."""
    path, pickled = tmp_path / "model.h5", tmp_path / "handle.pickle"
    save(path, 7)
    command = [sys.executable, "-c", UNPICKLING, str(pickled)]
    with archive.open(path, access=access) as handle:
        pickled.write_bytes(pickle.dumps((handle, handle["w"])))
        subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=60)
        save(path, 8)
        failed = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False
        )
        assert failed.returncode == 1
        assert "replaced by another version" in failed.stderr
        assert (handle["w"].numpy() == 7).all()


@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_closed_while_arrays_live(tmp_path: Path, access: Access) -> None:
    """K1: views outlive the handle; arrays that were not read say that it is closed."""
    save(tmp_path / "model.h5", 5)
    with archive.open(tmp_path / "model.h5", access=access) as handle:
        view, unread = handle["w"].numpy(), handle["b"]
    os.unlink(tmp_path / "model.h5")
    assert (view == 5).all()
    for ask in (
        unread.numpy,
        lambda: len(unread.data),
        lambda: unread[0],
        handle["w"].numpy,
        handle.verify,
    ):
        with pytest.raises(archive.errors.ClosedError):
            ask()
    handle.close()


def test_closed_while_threads_read(tmp_path: Path) -> None:
    """K1: a handle closed under readers: each gets right bytes or ClosedError, never another file's."""
    save(tmp_path / "model.h5", 5)
    other = tmp_path / "other"
    other.write_bytes(b"\xee" * 100_000)
    outcomes: Counter[str] = Counter()

    def read(handle: archive.Archive) -> None:
        try:
            for _ in range(50):
                assert (handle["w"].numpy() == 5).all()
            outcomes["read"] += 1
        except archive.ArchiveError as error:
            outcomes[type(error).__name__] += 1

    for turn in range(60):
        handle = archive.open(tmp_path / "model.h5", access=("mmap", "pread")[turn % 2])
        readers = [threading.Thread(target=read, args=(handle,)) for _ in range(4)]
        for reader in readers:
            reader.start()
        handle.close()
        taken = other.open("rb")  # the number of the descriptor is used again at once
        for reader in readers:
            reader.join()
        taken.close()
    assert set(outcomes) <= {"read", "ClosedError"}
    assert sum(outcomes.values()) == 240


@pytest.mark.parametrize("each", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_interrupted_save(forge: Forge, tmp_path: Path, each: int, figures: Callable[[str], None]) -> None:
    """K1: Ctrl-C in the middle of a save: nothing published, nothing left, descriptors closed."""
    path = tmp_path / "model.h5"
    size = 10 * LARGE
    save(path, 1)
    outcomes: Counter[str] = Counter()
    for turn in range(each):
        answer: dict[str, Any] = forge(
            path, 2, size, options={"durable": False}, interrupt_after=0.02 + 0.2 * turn / each
        )
        assert answer["exit"] == 0, answer
        assert litter(tmp_path, path.name) == []
        assert answer["fds"] == 0
        if answer["error"] is None:
            assert path.stat().st_size > 8 * size
            save(path, 1)
        else:
            assert answer["error"] == "KeyboardInterrupt"
            if path.stat().st_size < 8 * size:
                assert version_of(path) == 1
        outcomes[str(answer["error"])] += 1
    figures(f"K1 interrupts of a 200 MB save: {dict(outcomes)}")
    assert outcomes["KeyboardInterrupt"]


def test_exception_of_the_progress(tmp_path: Path) -> None:
    """K1: an exception out of the caller's own progress callable, at every call."""
    path = tmp_path / "model.h5"
    save(path, 1)
    calls: list[int] = []
    save(tmp_path / "other.h5", 2, LARGE, progress=lambda done, total: calls.append(done))
    before = open_files(tmp_path)
    for stop in range(1, len(calls) + 1):
        seen: list[int] = []

        def fail(done: int, total: int, seen: list[int] = seen, stop: int = stop) -> None:
            seen.append(done)
            if len(seen) == stop:
                raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            save(path, 2, LARGE, progress=fail)
        assert version_of(path) == 1
        assert litter(tmp_path, "model.h5", "other.h5") == []
        assert open_files(tmp_path) == before


def test_exception_of_an_iterable(tmp_path: Path) -> None:
    """M2: a generator of arrays that fails at the k-th: the old archive stays."""
    path = tmp_path / "model.h5"
    save(path, 1)

    def arrays(k: int) -> Any:
        for number, item in enumerate(content(2).items()):
            if number == k:
                raise RuntimeError("lost the client")
            yield item

    for k in range(4):
        with pytest.raises(RuntimeError, match="lost the client"):
            archive.save(arrays(k), path)
        assert version_of(path) == 1
        assert litter(tmp_path, path.name) == []
