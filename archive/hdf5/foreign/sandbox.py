"""Limits that a process sets on itself before libhdf5 reads a foreign file, and the spool that it fills."""

from __future__ import annotations

import codecs
import mmap
import os
from collections.abc import Callable

from archive import system
from archive.errors import StorageError
from archive.storage.local.volumes import reserve

__all__ = ["Limits", "Spool"]

MEMORY_BYTES = 4 << 30
"""Address space: numpy and h5py take 0.6 GB of it, and a chunk may be large; a bomb takes more."""
WALK_SECONDS = 60
"""Processor time for any file; a loop in libhdf5 (10 of 600 flipped heap bytes) ends here. libhdf5 looks
through all attributes for each: the 4,096 of a group in an archive take 0.3 s, 60,000 elsewhere 25 s."""
FILE_BYTES_PER_SECOND = 1_000_000
"""Added to it: a dataset takes 0.25 ms, and has some 400 bytes of metadata."""
DECODED_BYTES_PER_SECOND = 20_000_000
"""Slowest decoding: a tenth of what gzip does here."""
LISTING_BYTES = 4 << 30
"""Longest listing; it bounds the spool's own limit from below."""
BUFFER_BYTES = 1 << 20
"""Datasets below this are decoded in memory; larger ones straight into the map of the spool."""
_ALIGN = 64


class Limits:
    """Resource limits of this process; hard ones cannot be raised again."""

    def __init__(self, file_bytes: int, most_decoded: int) -> None:
        self._seconds = WALK_SECONDS + file_bytes // FILE_BYTES_PER_SECOND
        self._files = 0
        spool = LISTING_BYTES + most_decoded
        # opened now: later no file can be
        try:
            self._memory = os.open(system.MEMORY, os.O_RDONLY | system.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            self._memory = -1
        system.set_limits("RLIMIT_CORE", 0, 0)
        _lower("RLIMIT_FSIZE", spool, spool)
        _lower("RLIMIT_NPROC", 0, 0)
        self.allow(0)

    def close_files(self, highest: int) -> None:
        """Let no file be opened from here on: a link that got past the rules ends there."""
        for name in ("ascii", "latin-1", "utf-8"):
            codecs.lookup(name)  # h5py names compound members in ascii, which Python loads at first use
        self._files = highest + 2
        _lower("RLIMIT_NOFILE", 0, self._files)

    def allow(self, nbytes: int) -> None:
        """Make room and time for decoding ``nbytes`` in all, after they were validated."""
        _lower("RLIMIT_CPU", self._seconds + nbytes // DECODED_BYTES_PER_SECOND, None)
        _lower("RLIMIT_AS", MEMORY_BYTES + nbytes, None)

    def within(self, nbytes: int, act: Callable[[], object]) -> None:
        """Act under a limit of memory, where libhdf5 allocates more than the file declares."""
        if self._memory < 0:
            act()
            return
        soft, hard = system.get_limits("RLIMIT_AS")
        taken = int(system.pread(self._memory, 64, 0).split()[0]) * mmap.PAGESIZE
        system.set_limits("RLIMIT_AS", min(soft, taken + nbytes), hard)
        try:
            act()
        finally:
            system.set_limits("RLIMIT_AS", soft, hard)

    def with_files(self, act: Callable[[], mmap.mmap]) -> mmap.mmap:
        """Make a map, which takes a copy of its file descriptor for as long as it lives."""
        system.set_limits("RLIMIT_NOFILE", self._files, self._files)
        try:
            return act()
        finally:
            system.set_limits("RLIMIT_NOFILE", 0, self._files)


class Spool:
    """The file that decoded arrays are written to.

    Parameters
    ----------
    fd : int
        Open for reading and writing.
    limits : Limits
    """

    def __init__(self, fd: int, limits: Limits) -> None:
        self._fd = fd
        self._limits = limits
        self._end = 0

    def fill(self, nbytes: int, path: str, fill: Callable[[memoryview], None]) -> int:
        """Let ``fill`` write the ``nbytes`` of the dataset at an HDF5 path, and return where they are.

        The bytes are allocated first, by writing zeros where the file system reserves nothing: a full disk is
        an error here, and would be a SIGBUS in the map.
        """
        if nbytes < BUFFER_BYTES:
            buffer = bytearray(nbytes)
            fill(memoryview(buffer))
            return self.append(buffer, path)
        start = -(-self._end // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        try:
            if not reserve(self._fd, start, nbytes):
                for at in range(0, nbytes, BUFFER_BYTES):
                    self._write(bytes(min(BUFFER_BYTES, nbytes - at)), start + at)
        except OSError as error:
            raise _no_room(error, path) from error
        pages = self._limits.with_files(lambda: mmap.mmap(self._fd, nbytes, offset=start))
        fill(memoryview(pages))
        self._end = start + nbytes
        # not closed: numpy views of it may live in a cycle a moment longer, and then close() would raise
        return start

    def append(self, data: bytes | bytearray, path: str, *, aligned: bool = True) -> int:
        """Write bytes of the dataset at an HDF5 path, aligned or right after the last; return their place."""
        start = -(-self._end // _ALIGN) * _ALIGN if aligned else self._end
        try:
            self._write(data, start)
        except OSError as error:
            raise _no_room(error, path) from error
        self._end = start + len(data)
        return start

    def _write(self, data: bytes | bytearray, start: int) -> None:
        done = 0
        while done < len(data):
            done += system.pwrite(self._fd, memoryview(data)[done:], start + done)


def _no_room(error: OSError, path: str) -> StorageError:
    return StorageError(
        f"no room to decode into: {error.strerror}",
        key=path[:500],
        errno=error.errno,
        remedy="make room in the temporary folder, or point TMPDIR elsewhere",
    )


def _lower(kind: str, soft: int, hard: int | None) -> None:
    """Set a limit, keeping the system's own where that is lower."""
    limit = system.get_limits(kind)[1]
    ceiling = limit if hard is None or (limit != system.NO_LIMIT and limit < hard) else hard
    system.set_limits(kind, soft if ceiling == system.NO_LIMIT else min(soft, ceiling), ceiling)
