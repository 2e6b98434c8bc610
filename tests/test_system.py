"""Calls that not every system has: used where they are, and done without where they are not."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archive import system
from tests.children import ROOT, child_environment
from tests.hidden.sitecustomize import CALLS
from tests.hidden.work import JOBS

HIDDEN = str(ROOT / "tests" / "hidden")
WINDOWS = "geteuid fchmod fchown major minor O_CLOEXEC O_DIRECTORY O_NOFOLLOW"
"""What POSIX has and Windows lacks, besides descriptors of folders."""
OWN = [
    "copy_file_range",
    "pread",
    "preadv",
    "pwrite",
    "fdatasync",
    "fchmod",
    "fchown",
    "listxattr",
    "register_at_fork",
]
"""Functions that have the same name in the module os."""
SHOW = """
import ctypes, json, os, sys
from archive import system

def refused(call, *arguments):
    try:
        call(*arguments)
    except (ImportError, OSError) as error:
        return type(error).__name__
    return "done"

print(json.dumps({
    "os": [name for name in sys.argv[1].split() if hasattr(os, name)],
    "fcntl": refused(__import__, "fcntl"),
    "resource": refused(__import__, "resource"),
    "libc": refused(ctypes.CDLL, None),
    "/proc": refused(open, system.MOUNTS),
    "ours": [name for name in dir(system) if hasattr(getattr(system, name), "errcheck")],
}))
"""


def run_hidden(*arguments: str, more: str = "") -> str:
    """Run a child that these calls are hidden from, and return what it prints."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=child_environment(HIDDEN, FEDARCHIVE_HIDDEN=more),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_a_child_has_none_of_them() -> None:
    """Without this the tests below would prove nothing."""
    found = json.loads(run_hidden("-c", SHOW, f"{' '.join(CALLS)} {WINDOWS}", more=WINDOWS))
    assert found == {
        "os": [],
        "fcntl": "ModuleNotFoundError",
        "resource": "ModuleNotFoundError",
        "libc": "OSError",
        "/proc": "FileNotFoundError",
        "ours": [],
    }


def test_work_without_them(tmp_path: Path) -> None:
    jobs = ["save_and_read", "save_again", "stream", "edit", "consume", "keep_a_store", "read_side_by_side"]
    run_hidden("-m", "tests.hidden.work", str(tmp_path), *jobs)
    assert sorted(os.listdir(tmp_path)) == sorted(jobs)


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", WINDOWS], ids=["linux", "windows"])
def test_all_work_without_them(tmp_path: Path, more: str) -> None:
    run_hidden("-m", "tests.hidden.work", str(tmp_path), *JOBS, more=more)
    assert sorted(os.listdir(tmp_path)) == sorted(JOBS)


@pytest.mark.needs("fcntl", "/proc", *(f"os.{name}" for name in OWN))
def test_where_they_are_they_are_called_and_nothing_else() -> None:
    """So that a call costs what it cost: no function of ours stands between."""
    import fcntl

    assert [getattr(system, name) for name in OWN] == [getattr(os, name) for name in OWN]
    assert (system.flock, system.fcntl, system.fsync) == (fcntl.flock, fcntl.fcntl, os.fsync)
    assert system.fadvise is os.posix_fadvise
    libc = (system.mmap, system.munmap, system.madvise, system.fallocate, system.renameat2)
    assert all(hasattr(function, "errcheck") for function in libc), "functions of ctypes"


def test_a_map_that_ends_after_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with path.open("rb") as file:
        assert system._map(None, 101, 0, 0, file.fileno(), 0) == system.MAP_FAILED
        assert ctypes.get_errno() == errno.EINVAL
        address = system._map(None, 100, 0, 0, file.fileno(), 0)
        assert address is not None
        ctypes.memset(address, 1, 100)  # a page of ours
        assert system._unmap(address, 100) == 0
        assert system._maps == {}
    assert path.read_bytes() == bytes(100)


@pytest.mark.parametrize("nbytes", [0, 5, system.COPY_BYTES - 1, system.COPY_BYTES + 5])
def test_reads_and_writes_at_an_offset(tmp_path: Path, nbytes: int) -> None:
    with (tmp_path / "file").open("w+b") as file:
        assert system._pwrite(file.fileno(), bytes(range(256)) * 4100, 3) == 256 * 4100
        assert system._pread(file.fileno(), 6, 1) == b"\0\0\0\1\2\3"[:2] + bytes(range(4))
        into = bytearray(nbytes)
        assert system._preadv(file.fileno(), [memoryview(into)], 3 + 256) == min(nbytes, system.COPY_BYTES)
        assert into[:300] == (bytes(range(256)) * 2)[: min(300, nbytes)]
        assert system._preadv(file.fileno(), [memoryview(into)], 1 << 21) == 0
