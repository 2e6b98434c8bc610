"""A lock that a process takes by a file, and that ends with the process."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from archive.errors import ClosedError, StorageError
from archive.storage.local.lockfile import LockFile

pytestmark = pytest.mark.needs("fcntl.flock")


def test_one_has_it(tmp_path: Path) -> None:
    first, second = (LockFile(str(tmp_path / "lock")) for _ in range(2))
    assert first.take(b"first and a longer text")
    assert first.exclusive
    assert first.take(b"taken already: this is not written")
    assert not second.take(b"second")
    assert second.read() == b"first and a longer text"
    first.release()
    first.release()
    assert second.take(b"second")
    assert first.read() == b"second"


def test_it_is_let_go_with_its_object(tmp_path: Path) -> None:
    LockFile(str(tmp_path / "lock")).take(b"")
    assert LockFile(str(tmp_path / "lock")).take(b"")


def test_the_file_follows_the_umask_and_stays(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        lock = LockFile(str(tmp_path / "lock"))
        assert lock.take(b"text")
    finally:
        os.umask(before)
    lock.release()
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    assert (tmp_path / "lock").read_bytes() == b"text"


def test_threads_share_nothing(tmp_path: Path) -> None:
    """Two objects of one process are two takers."""
    taken = []
    locks = [LockFile(str(tmp_path / "lock")) for _ in range(8)]
    threads = [threading.Thread(target=lambda lock=lock: taken.append(lock.take(b""))) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 7 + [True]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_something_else_is_not_locked(tmp_path: Path, kind: str) -> None:
    (tmp_path / "other").write_bytes(b"of somebody")
    path = tmp_path / "lock"
    {"link": lambda: path.symlink_to("other"), "fifo": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(StorageError) as caught:
        LockFile(str(path)).take(b"text")
    assert caught.value.path == str(path)
    assert caught.value.remedy
    assert (tmp_path / "other").read_bytes() == b"of somebody"


def test_a_second_name_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(b"as it was")
    os.link(tmp_path / "backup", tmp_path / "lock")
    lock = LockFile(str(tmp_path / "lock"))
    assert lock.take(b"text")
    assert (tmp_path / "backup").read_bytes() == b"as it was"
    assert not LockFile(str(tmp_path / "lock")).take(b"text")


@pytest.mark.needs("os.fork")
@pytest.mark.parametrize("how", ["release", "exit", "take"])
def test_a_fork_has_no_part_in_it(tmp_path: Path, how: str) -> None:
    lock = LockFile(str(tmp_path / "lock"))
    assert lock.take(b"")
    ready, held = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            if how == "release":
                lock.release()
            if how == "take":
                try:
                    lock.take(b"")
                except ClosedError:
                    pass
                else:
                    os._exit(2)
            code = 0 if not lock.taken and not LockFile(lock.path).take(b"") else 3
            os.write(ready[1], b"x")
            os.read(held[0], 1)
        finally:
            os._exit(code)
    os.read(ready[0], 1)
    assert not LockFile(lock.path).take(b""), "the parent has it still"
    lock.release()
    assert LockFile(lock.path).take(b""), "the child, which lives, keeps nothing"
    os.write(held[1], b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for fd in (*ready, *held):
        os.close(fd)
