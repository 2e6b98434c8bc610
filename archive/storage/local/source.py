"""Bytes of one file to be read: by a private map, or by preads into memory of our own."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from archive.errors import ClosedError, MissingError, StorageError, TruncatedError
from archive.storage.local.maps import advise_dontneed, map_private
from archive.storage.local.mounts import is_remote_filesystem

__all__ = ["FileSource", "MapSource", "Source", "open_source"]

NDArray = np.ndarray[Any, np.dtype[Any]]

COPY_BELOW = 65536
"""Writable ranges smaller than this are copied: a map of its own costs more than the copy, and
arrays of this size and above start on a page of their own."""


class Source(Protocol):
    """A file of fixed length whose bytes are read by offset; one version for the life of the handle."""

    path: str
    """Absolute path, for errors and for pickling by reference."""
    nbytes: int
    """Length of the file."""
    mapped: bool
    """Whether `read` gives views of a map rather than memory of its own."""
    pinned: bool
    """Whether the storage itself keeps to one version, so that the superblock need not be compared."""
    pins: bool
    """Whether it is found out, without digests, when another version lies there by now."""
    parallel: int
    """Reads worth having under way at once."""

    @property
    def keeps(self) -> bool:
        """Whether what is fetched is kept in a local file."""
        ...

    def extend_tail(self, offset: int) -> None:
        """Say that everything from ``offset`` to the end is read next, and what is before it is not."""
        ...

    def reread(self, offset: int, nbytes: int) -> NDArray | None:
        """Return a range that failed its digest, read again; None where that gives the same bytes."""
        ...

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range as uint8, shape (nbytes,); not to be written to."""
        ...

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` (contiguous uint8) from ``offset``."""
        ...

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a writable range that no other caller sees: copied, or copied when written."""
        ...

    def release(self, offset: int, nbytes: int) -> None:
        """Say that a range is not needed for now."""
        ...

    def close(self) -> None:
        """Let go of the file; views already handed out stay valid."""
        ...


class _Descriptor:
    """Owner of a file descriptor, which is closed when nothing refers to it any more.

    A read in another thread keeps it open past `FileSource.close`: its number would be given to the next
    file that is opened, and that file's bytes be read. Reference counts need no lock, which a fork could
    catch held.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.number)


class FileSource:
    """Reads with pread: safe on file systems where a map is slow or can kill the process."""

    mapped = False
    pinned = False
    pins = True  # an open file stays the one it is
    keeps = False
    parallel = min(8, os.cpu_count() or 1)

    def __init__(self, path: str, fd: int, nbytes: int) -> None:
        self.path = path
        self.nbytes = nbytes
        self._descriptor: _Descriptor | None = _Descriptor(fd)

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
                count = os.preadv(descriptor.number, [view[done:]], offset + done)
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

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a range in memory of its own."""
        return FileSource.read(self, offset, nbytes)

    def release(self, offset: int, nbytes: int) -> None:
        """Nothing to give back: what was read belongs to the caller."""

    def fileno(self) -> int:
        """Return the file descriptor, which stays ours to close."""
        return self._require_open().number

    def close(self) -> None:
        """Let go of the file descriptor; reads that are under way end first."""
        self._descriptor = None

    def _require_open(self) -> _Descriptor:
        descriptor = self._descriptor
        if descriptor is None:
            raise ClosedError("the archive is closed", path=self.path, remedy="open it again")
        return descriptor


class MapSource(FileSource):
    """Reads through one private map of the whole file; nothing is copied until it is written."""

    mapped = True

    def __init__(self, path: str, fd: int, nbytes: int) -> None:
        super().__init__(path, fd, nbytes)
        self._map: NDArray | None = map_private(fd, 0, nbytes, path, read_only=True)

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
        return map_private(descriptor.number, offset, nbytes, self.path)

    def release(self, offset: int, nbytes: int) -> None:
        """Give the pages of the range back to the system."""
        whole = self._map
        if whole is not None:
            advise_dontneed(whole[offset : offset + nbytes])

    def close(self) -> None:
        """Drop our reference to the map; live views keep it."""
        self._map = None
        super().close()


def open_source(path: str, access: str) -> FileSource:
    """Open a local file for reading.

    Parameters
    ----------
    path : str
    access : {"auto", "mmap", "pread"}
        ``auto`` maps unless the file lies on a network or FUSE file system.

    Raises
    ------
    MissingError, StorageError
    """
    path = os.path.abspath(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise MissingError("no such file", path=path, errno=errno.ENOENT, remedy="check the path") from error
    except OSError as error:
        raise read_error(path, None, error) from error
    try:
        status = os.fstat(fd)
        nbytes = os.lseek(fd, 0, os.SEEK_END)
    except OSError as error:
        os.close(fd)
        raise read_error(path, None, error) from error
    if not _is_regular(status.st_mode):
        os.close(fd)
        raise StorageError("not a regular file", path=path, errno=errno.EINVAL, remedy="name an archive file")
    use_map = access == "mmap" or (access == "auto" and not is_remote_filesystem(status.st_dev))
    kind = MapSource if use_map and nbytes else FileSource
    return kind(path, fd, nbytes)


def read_error(path: str, offset: int | None, error: OSError) -> StorageError:
    """Return the StorageError of a failed read."""
    full = error.errno in (errno.EMFILE, errno.ENFILE)
    return StorageError(
        f"reading failed: {error.strerror}",
        path=path,
        offset=offset,
        errno=error.errno,
        remedy="close some, or raise the limit (ulimit -n)"
        if full
        else "check permissions, the disk and its cables",
    )


def _is_regular(mode: int) -> bool:
    return (mode & 0o170000) in (0o100000, 0o060000)
