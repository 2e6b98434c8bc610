"""Clients of one NFS-like file system: stale names, stale handles, late errors, locks of processes."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.nfslike import Mount, nfs_client

pytestmark = pytest.mark.root
TTL = 30.0
"""Seconds that a client keeps what it knows: as NFS does."""


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    """The folder that the server of the file system keeps."""
    folder = tmp_path / "backing"
    folder.mkdir()
    return folder


@pytest.fixture
def client(backing: Path, tmp_path: Path) -> Iterator[Mount]:
    """A client whose locks belong to processes."""
    with nfs_client(backing, tmp_path / "client", ttl=TTL) as mount:
        yield mount


@pytest.fixture
def other(backing: Path, tmp_path: Path) -> Iterator[Mount]:
    """Another client of the same folder."""
    with nfs_client(backing, tmp_path / "other", ttl=TTL) as mount:
        yield mount


def wait_for(met: Callable[[], bool]) -> None:
    """Wait for the end of a request that nobody waits for."""
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


# The file system itself


def test_a_client_sees_late_what_others_do(client: Mount, other: Mount) -> None:
    (client.folder / "a").write_text("1")
    assert os.listdir(other.folder) == ["a"]
    assert not (other.folder / "b").exists()
    (client.folder / "b").write_text("2")
    assert sorted(os.listdir(client.folder)) == ["a", "b"]
    assert os.listdir(other.folder) == ["a"]
    assert not (other.folder / "b").exists()
    fd = os.open(other.folder / "a", os.O_RDONLY)
    (client.folder / "a").unlink()
    with pytest.raises(OSError, match="Stale") as caught:
        os.pread(fd, 10, 0)
    assert caught.value.errno == errno.ESTALE
    os.close(fd)


def test_an_open_file_is_removed_in_silence(client: Mount, backing: Path) -> None:
    fd = os.open(client.folder / "a", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"kept")
    (client.folder / "a").unlink()
    (name,) = os.listdir(client.folder)
    assert name.startswith(".nfs")
    assert os.pread(fd, 10, 0) == b"kept"
    os.close(fd)
    wait_for(lambda: not os.listdir(backing))


def test_errors_of_writing_come_late(client: Mount) -> None:
    fd = os.open(client.folder / "a", os.O_RDWR | os.O_CREAT)
    client.reset({"op": "WRITE", "at": 1, "error": "ENOSPC"}, {"op": "WRITE", "at": 2, "error": "EDQUOT"})
    assert os.write(fd, b"lost") == 4
    with pytest.raises(OSError, match="No space"):
        os.fsync(fd)
    os.fsync(fd)  # told once
    assert os.write(fd, b"lost") == 4
    with pytest.raises(OSError, match="quota"):
        os.close(fd)
