"""A remote object that is kept in a sparse local file as it is fetched, and mapped from there.

A block is fetched, written, and only then marked, so that no reader of the file meets a mark before its
bytes. Nothing is synced: after a power cut a mark may stand without bytes. The digests of the archive find
that, as they find a flipped bit, and the range is fetched once more (`reread`). No lock keeps writers apart:
processes that fetch one block at the same time write the same bytes twice.

Pages that were not fetched are never touched. Where a block cannot be written (a full disk, the limit of the
folder), the handle goes on without: what it fetches is memory, ``mapped`` is False from then on.
"""

from __future__ import annotations

import contextlib
import copy
import itertools

import numpy as np

from archive import system, tuning
from archive.dtypes import NDArray
from archive.errors import ReplacedError, StorageError, TruncatedError
from archive.owner import Descriptor
from archive.storage.local.source import FileSource, MapSource, is_remote_filesystem
from archive.storage.protocols import Take
from archive.storage.remote.cachefolder import BLOCK_BYTES, CacheFolder, marks_at, prune_cache
from archive.storage.remote.firstrequest import Purpose, note_needed
from archive.storage.remote.objectstore import ObjectStore
from archive.storage.remote.ranges import plan_requests
from archive.storage.remote.source import RemoteSource

__all__ = ["CachedSource"]

_LOST = (ReplacedError, StorageError, TruncatedError)
"""Errors of a cache file that somebody cut or removed, or that the disk does not give back."""


class CacheFile(MapSource):
    """The file of one version: its bytes by offset, and which of its blocks were fetched.

    Parameters
    ----------
    path : str
        Named in errors.
    fd : int
        Open for reading and writing; ours from now on.
    nbytes : int
        Length of the object.
    mapped : bool
    """

    def __init__(self, path: str, fd: int, nbytes: int, *, mapped: bool) -> None:
        if mapped and nbytes:
            super().__init__(path, Descriptor([fd]), nbytes)
        else:
            FileSource.__init__(self, path, Descriptor([fd]), nbytes)
            self._map = None
            self.mapped = False
        self._marks_at = marks_at(nbytes)

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the ranges, of whole blocks, that a range needs and that are not there.

        Raises
        ------
        TruncatedError
            Somebody cut the file: the marks are its end.
        """
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        marks = np.empty(max(last - first, 0), np.uint8)
        self.read_into(self._marks_at + first, marks)
        absent = marks != 1
        if not absent.any():
            return []
        edges = (np.flatnonzero(np.diff(absent, prepend=False, append=False)) + first) * BLOCK_BYTES
        return [
            (begin, min(end, self.nbytes)) for begin, end in zip(*[iter(edges.tolist())] * 2, strict=True)
        ]

    def kept_blocks(self) -> int:
        """Return how many blocks were fetched."""
        marks = np.empty(self._marks_at // BLOCK_BYTES, np.uint8)
        self.read_into(self._marks_at, marks)
        return int(np.count_nonzero(marks == 1))

    def copy(self, offset: int, nbytes: int) -> NDArray:
        """Return a range in memory of its own."""
        return FileSource.read(self, offset, nbytes)

    def keep(self, start: int, data: NDArray) -> None:
        """Write the whole blocks of some bytes, then mark them.

        Raises
        ------
        OSError
            Nothing is marked of what could not be written.
        """
        first = -(-start // BLOCK_BYTES)
        stop = start + len(data)
        last = first + max(stop - first * BLOCK_BYTES, 0) // BLOCK_BYTES
        if stop == self.nbytes:
            last = -(-stop // BLOCK_BYTES)
        if last <= first:
            return
        descriptor = self._require_open()
        begin, end = first * BLOCK_BYTES, min(last * BLOCK_BYTES, self.nbytes)
        _write(descriptor[0], data[begin - start : end - start].data, begin)
        _write(descriptor[0], memoryview(b"\x01" * (last - first)), self._marks_at + first)


class CachedSource(RemoteSource):
    """Ranges of one version of an object, fetched once for all who share a folder.

    Where the store has no tag for the version, nothing could tell a later one from it: then nothing is kept,
    and this is a `RemoteSource`.

    Parameters
    ----------
    store : ObjectStore
    path : str
        Path of the object in its store.
    folder : str
        Where files are kept; made if it is not there.
    access : {"auto", "mmap", "pread"}
        ``auto`` maps unless the folder lies on a network or FUSE file system.
    purpose : {"open", "values"}
        As for `RemoteSource`.
    keep_bytes : int, optional
        The most that the folder keeps: it is pruned now and when this is closed, and no more than that is
        kept of this object.

    Raises
    ------
    StorageError
        The folder cannot be used.
    """

    def __init__(
        self,
        store: ObjectStore,
        path: str,
        folder: str,
        access: str,
        keep_bytes: int | None = None,
        purpose: Purpose = "open",
    ) -> None:
        self._file: CacheFile | None = None
        self._writable = True
        self._folder, self._keep_bytes = folder, keep_bytes
        url = store.url(path)
        with CacheFolder(folder) as cache:
            super().__init__(store, path, purpose, tuning.CACHE_PIN_BYTES if cache.knows(url) else 0)
            if not self.version.tag:
                return
            use_map = access == "mmap" or (access == "auto" and not is_remote_filesystem(cache.device))
            file = self._open_file(cache, url, use_map)
            if not self._is_same(file):
                cache.discard(url, self.version)
                file = self._open_file(cache, url, use_map)
        self._file = file
        self.mapped = file.mapped
        self._kept_blocks = itertools.count(0 if keep_bytes is None else file.kept_blocks())
        self._prune()
        self._keep(file, self.nbytes - len(self._tail), self._tail)

    @property
    def keeps(self) -> bool:
        """Whether what is fetched is kept."""
        return self._file is not None and self._writable

    def extend_tail(self, offset: int) -> None:
        """Have what lies from ``offset`` on in the file."""
        file = self._file
        if file is not None and self._writable:
            self._bring(file, offset, self.nbytes)
        if self.keeps:
            note_needed(self.path, self._purpose, self.nbytes - offset)
        else:
            super().extend_tail(offset)

    def reread(self, offset: int, nbytes: int) -> NDArray | None:
        """Fetch a range whose bytes fail their digest, and keep it in place of those."""
        start = offset // BLOCK_BYTES * BLOCK_BYTES
        stop = min(-(-(offset + nbytes) // BLOCK_BYTES) * BLOCK_BYTES, self.nbytes)
        self._require_version()
        data = self._fetch(start, stop)
        file = self._file
        if file is not None:
            self._keep(file, start, data)
        return data[offset - start : offset - start + nbytes]

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range: a read-only view of the map, or memory."""
        file, stop = self._file, offset + nbytes
        # always fetch the footer: everything else is validated against it
        if file is None or not nbytes or offset >= self.nbytes - tuning.CACHE_PIN_BYTES:
            return super().read(offset, nbytes)
        fetched = self._bring(file, offset, stop)
        if fetched is not None:
            start, data = fetched
            return data[offset - start : stop - start]
        if self.mapped:
            return file.read(offset, nbytes)
        try:
            if not file.missing(offset, stop):
                return file.copy(offset, nbytes)
        except _LOST:
            self._give_up()
        return super().read(offset, nbytes)

    def stream(self, offset: int, nbytes: int, take: Take) -> None:
        """Hand over a range: at once where a file keeps it."""
        if self._file is None:
            super().stream(offset, nbytes, take)
        else:
            take(0, self.read(offset, nbytes))

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a writable range: pages copied when written, or memory of its own."""
        file = self._file
        if file is None or not self.mapped or offset >= self.nbytes - tuning.CACHE_PIN_BYTES:
            return super().private(offset, nbytes)
        fetched = self._bring(file, offset, offset + nbytes)
        if fetched is None and self.mapped:
            return file.private(offset, nbytes)
        return super().private(offset, nbytes)

    def release(self, offset: int, nbytes: int) -> None:
        """Give the pages of the range back to the system; the file keeps them."""
        if self._file is not None:
            self._file.release(offset, nbytes)

    def share(self) -> CachedSource:
        """Return the same version of the object once more, and its file."""
        made = copy.copy(self)
        made._file = copy.copy(self._file)
        return made

    def close(self) -> None:
        """Let go of client and file; views that were handed out stay valid."""
        is_open = self._store is not None
        super().close()
        if self._file is not None:
            self._file.close()
        if is_open:
            with contextlib.suppress(StorageError):  # the next open will find the same
                self._prune()

    def _open_file(self, cache: CacheFolder, url: str, mapped: bool) -> CacheFile:
        return CacheFile(self.path, cache.open(url, self.version), self.nbytes, mapped=mapped)

    def _is_same(self, file: CacheFile) -> bool:
        """Tell whether a file ends as the object does: a tag alone may be no more than a date."""
        nbytes = min(tuning.CACHE_PIN_BYTES, self.nbytes)
        at = self.nbytes - nbytes
        try:
            if file.missing(at, self.nbytes):
                return True
            found = file.copy(at, nbytes)
        except _LOST:
            return False
        return bool((found == self._tail[len(self._tail) - nbytes :]).all())

    def _bring(self, file: CacheFile, start: int, stop: int) -> tuple[int, NDArray] | None:
        """Fetch what a range lacks, and keep it.

        Returns
        -------
        tuple or None
            Offset and bytes of a request that brought all of the range, where it is not to be had from
            the map; else None.
        """
        try:
            missing = file.missing(start, stop)
        except _LOST:
            self._give_up()
            return None
        step = tuning.CACHE_PIECE_BYTES
        pieces = (
            (low, min(step, end - low), None) for begin, end in missing for low in range(begin, end, step)
        )
        request_bytes = tuning.CACHE_REQUEST_BYTES
        for request in plan_requests(pieces, request_bytes=request_bytes, gap_bytes=BLOCK_BYTES):
            if not self._writable and not (request.start <= start and stop <= request.stop):
                return None  # in pieces that are not kept, it would have to be fetched again
            data = self._fetch(request.start, request.stop)
            self._keep(file, request.start, data)
            if not self.mapped and request.start <= start and stop <= request.stop:
                return request.start, data
        return None

    def _keep(self, file: CacheFile, start: int, data: NDArray) -> None:
        """Write and mark what was fetched; where that fails, go on without."""
        if not self._writable:
            return
        with contextlib.suppress(OSError):
            if self._has_room(len(data)):
                file.keep(start, data)
                return
        self._writable = self.mapped = False

    def _has_room(self, nbytes: int) -> bool:
        """Count some bytes as kept, and return whether the limit allows that."""
        if self._keep_bytes is None:
            return True
        # a counter that threads and shares have in common, and no lock, which a fork could catch held
        blocks = itertools.islice(self._kept_blocks, -(-nbytes // BLOCK_BYTES))
        return max(blocks, default=0) < self._keep_bytes // BLOCK_BYTES

    def _prune(self) -> None:
        if self._keep_bytes is not None and self._file is not None:
            prune_cache(self._folder, self._keep_bytes)

    def _give_up(self) -> None:
        """Forget a file that somebody cut, or that the disk does not give back."""
        self.mapped: bool = False
        self._writable = False
        self._file = None


def _write(fd: int, view: memoryview, offset: int) -> None:
    done = 0
    while done < len(view):
        done += system.pwrite(fd, view[done:], offset + done)
