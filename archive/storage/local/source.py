"""The bytes of one local file: read by a private map, or by preads into memory of our own."""

from __future__ import annotations

import copy
import errno
import mmap
import os
import re
import time
from collections.abc import Callable

import numpy as np

from archive import system, tuning
from archive.dtypes import NDArray
from archive.errors import ClosedError, MissingError, ReplacedError, StorageError, TruncatedError
from archive.owner import Descriptor
from archive.storage.protocols import Take
from archive.storage.remedies import remedy_of

__all__ = [
    "FileSource",
    "MapSource",
    "advise_dontneed",
    "file_tag",
    "filesystem_of",
    "is_remote_filesystem",
    "map_private",
    "open_source",
]

COPY_BELOW = 65536
"""Writable ranges smaller than this are copied: a map of its own costs more than the copy, and
arrays of this size and above start on a page of their own."""

# Maps of files there are 30 to 50 times slower than reads, or kill the process with SIGBUS when the
# server or another client truncates the file (safetensors issue 562, TensorRT-LLM pull request 17368).
_REMOTE = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|9p|fuse.*|lustre|ceph|glusterfs|gpfs|beegfs|afs|orangefs|vboxsf)$"
)
PAGE = mmap.ALLOCATIONGRANULARITY


def file_tag(status: os.stat_result, now: float) -> str:
    """Return what no other version of a local file has: its inode and times.

    Empty of a file that changed so lately that a clock which ticks slowly would give the next change the same
    time (`tuning.SETTLED_SECONDS`).

    Parameters
    ----------
    status : os.stat_result
    now : float
        When the status was asked for, or a little before, in seconds since 1970.
    """
    if now - status.st_ctime < tuning.SETTLED_SECONDS:
        return ""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


class FileSource:
    """Reads with pread: safe on file systems where a map is slow or can kill the process."""

    mapped = False
    pinned = False
    pins = True  # an open file stays the one it is
    keeps = False
    parallel: int = min(8, os.cpu_count() or 1)
    tag = ""

    def __init__(self, path: str, file: Descriptor, nbytes: int) -> None:
        self.path = path
        self.nbytes = nbytes
        # a read in another thread keeps it open past `close`: the next file would get its number
        self._descriptor: Descriptor | None = file

    def extend_tail(self, offset: int) -> None:
        """Nothing to prepare: the system reads ahead."""

    def reread(self, offset: int, nbytes: int) -> NDArray | None:
        """Return None: a disk gives the same bytes again."""
        return None

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range in memory of its own."""
        out = np.empty(nbytes, np.uint8)
        self.read_into(offset, out)
        return out

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out``; short reads are continued, an early end is an error."""
        view, done, descriptor = out.data, 0, self._require_open()
        while done < len(view):
            try:
                count = system.preadv(descriptor[0], [view[done:]], offset + done)
            except OSError as error:
                raise read_error(self.path, offset + done, error) from error
            if not count:
                raise TruncatedError(
                    f"the file ended {len(view) - done} bytes early",
                    path=self.path,
                    offset=offset + done,
                    remedy="something truncated it while it was open: take another copy",
                )
            done += count

    def stream(self, offset: int, nbytes: int, take: Take) -> None:
        """Hand over a range at once."""
        take(0, self.read(offset, nbytes))

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a range in memory of its own."""
        return FileSource.read(self, offset, nbytes)

    def release(self, offset: int, nbytes: int) -> None:
        """Nothing to give back: what was read belongs to the caller."""

    def fileno(self) -> int:
        """Return the file descriptor, which stays ours to close."""
        return self._require_open()[0]

    def share(self) -> FileSource:
        """Return the same open file once more; the descriptor is closed with the last of them."""
        return copy.copy(self)

    def close(self) -> None:
        """Let go of the file descriptor; reads that are under way end first."""
        self._descriptor = None

    def _require_open(self) -> Descriptor:
        descriptor = self._descriptor
        if descriptor is None:
            raise ClosedError("the archive is closed", path=self.path, remedy="open it again")
        return descriptor


class MapSource(FileSource):
    """Reads through one private map of the whole file; nothing is copied until it is written."""

    mapped = True

    def __init__(self, path: str, file: Descriptor, nbytes: int) -> None:
        super().__init__(path, file, nbytes)
        self._map: NDArray | None = map_private(file[0], 0, nbytes, path, read_only=True)

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a read-only view of the map."""
        whole = self._map  # asked once: another thread may close
        if whole is None:
            raise ClosedError("the archive is closed", path=self.path, remedy="open it again")
        view: NDArray = whole[offset : offset + nbytes]
        return view

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a copy-on-write map of the range (a copy below 64 KiB), so that callers never share."""
        if nbytes < COPY_BELOW:
            copied: NDArray = self.read(offset, nbytes).copy()
            return copied
        descriptor = self._require_open()
        return map_private(descriptor[0], offset, nbytes, self.path)

    def release(self, offset: int, nbytes: int) -> None:
        """Give the pages of the range back to the system."""
        whole = self._map
        if whole is not None:
            advise_dontneed(whole[offset : offset + nbytes], self.path)

    def close(self) -> None:
        """Drop our reference to the map; live views keep it."""
        self._map = None
        super().close()


def open_source(path: str, access: str) -> FileSource:
    """Open a local file for reading.

    Parameters
    ----------
    path : str
        Absolute.
    access : {"auto", "mmap", "pread"}
        ``auto`` maps unless the file lies on a network or FUSE file system.

    Raises
    ------
    MissingError, ReplacedError, StorageError
    """
    file = Descriptor()
    try:
        # one call of C, as in `Descriptor.open`
        file.extend(map(os.open, (path,), (os.O_RDONLY | system.O_CLOEXEC | system.O_NONBLOCK,)))
    except FileNotFoundError as error:
        raise MissingError("no such file", path=path, errno=errno.ENOENT, remedy="check the path") from error
    except OSError as error:
        raise read_error(path, None, error) from error
    try:
        opened = time.time()
        status = os.fstat(file[0])
        regular = _is_regular(status.st_mode)
        nbytes = os.lseek(file[0], 0, os.SEEK_END) if regular else 0  # no pipe has a length
        use_map = access == "mmap" or (access == "auto" and not is_remote_filesystem(status.st_dev))
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise read_error(path, None, error) from error
    if not regular:
        raise StorageError("not a regular file", path=path, errno=errno.EINVAL, remedy="name an archive file")
    kind = MapSource if use_map and nbytes else FileSource
    source = kind(path, file, nbytes)
    source.tag = file_tag(status, opened)
    return source


def read_error(path: str, offset: int | None, error: OSError) -> StorageError | ReplacedError:
    """Return the error of a failed read."""
    if error.errno == errno.ESTALE:
        return ReplacedError(
            "another client of the network file system removed or replaced it",
            path=path,
            offset=offset,
            errno=error.errno,
            remedy="open it again",
        )
    return StorageError(
        f"reading failed: {error.strerror}",
        path=path,
        offset=offset,
        errno=error.errno,
        remedy=remedy_of(error.errno, "check permissions, the disk and its cables"),
    )


def _is_regular(mode: int) -> bool:
    return (mode & 0o170000) in (0o100000, 0o060000)


class _Map:
    """Owner of one system map; numpy arrays over it hold it as their base."""

    __slots__ = ("__array_interface__", "_address", "_nbytes")

    def __init__(self, address: int, nbytes: int, read_only: bool) -> None:
        self._address, self._nbytes = address, nbytes
        self.__array_interface__ = {
            "data": (address, read_only),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self, munmap: Callable[[int, int], int] = system.munmap) -> None:
        if hasattr(self, "_address"):  # not after an interrupt of its making
            munmap(self._address, self._nbytes)


def map_private(fd: int, offset: int, nbytes: int, path: str, *, read_only: bool = False) -> NDArray:
    """Map a range of a file; writes go to copies of its pages that only this process sees.

    Parameters
    ----------
    fd : int
        Open for reading; may be closed afterwards.
    offset, nbytes : int
        Any range within the file. Bytes beyond its end raise SIGBUS when touched: compare first.
    path : str
        Named in errors.
    read_only : bool
        Views cannot be made writable. The pages still can be written by what ignores that (torch over a
        read-only array), which then changes copies of ours instead of killing the process.

    Returns
    -------
    ndarray of uint8, shape (nbytes,)
        Unmapped when the last view of it is gone.

    Raises
    ------
    StorageError
        The system refused, with its errno.
    """
    if not nbytes:
        return np.empty(0, np.uint8)
    start = offset // PAGE * PAGE
    length = offset + nbytes - start
    address = system.mmap(None, length, *system.PRIVATE, fd, start)
    if address == system.MAP_FAILED:
        code = system.get_errno()
        raise StorageError(
            f"cannot map {nbytes} bytes ({os.strerror(code)})",
            path=path,
            offset=offset,
            errno=code,
            remedy='open it with access="pread"',
        )
    return np.asarray(_Map(address, length, read_only))[offset - start :]


def advise_dontneed(array: NDArray, path: str) -> None:
    """Give back the whole pages of a range of a private map; they are read again when touched.

    Pages that were written are lost, so this is only for ranges nobody wrote to.
    """
    address = array.__array_interface__["data"][0]
    start = -(-address // PAGE) * PAGE
    end = (address + array.nbytes) // PAGE * PAGE
    if end > start and system.madvise(start, end - start, system.MADV_DONTNEED):
        code = system.get_errno()
        if code not in (errno.EINVAL, errno.ENOMEM, errno.ENOSYS):
            raise StorageError("madvise failed", path=path, errno=code, remedy='open it with access="pread"')


def is_remote_filesystem(device: int) -> bool:
    """Tell whether a device number (``st_dev``) belongs to a network or FUSE file system.

    False where the system does not tell (no ``/proc``).
    """
    if system.major(device):
        return False  # a block device; network file systems have none. Saves 0.2 ms of reading mounts
    return bool(_REMOTE.match(filesystem_of(device)))


def filesystem_of(device: int) -> str:
    """Return the type of the file system of a device number, empty where the system does not tell.

    Raises
    ------
    StorageError
    """
    wanted = f"{system.major(device)}:{system.minor(device)}"
    try:
        with open(system.MOUNTS, errors="replace") as file:
            mounts = file.read()
    except (FileNotFoundError, PermissionError):
        return ""
    except OSError as error:
        raise read_error(system.MOUNTS, None, error) from error
    for line in mounts.splitlines():
        fields = line.split(" ")
        if fields[2] == wanted and "-" in fields:
            return fields[fields.index("-") + 1]
    return ""
