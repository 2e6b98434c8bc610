"""A remote object to be read: its end is kept from the request that opened it, the rest is fetched."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.errors import ClosedError
from archive.storage.store import ObjectStore

__all__ = ["TAIL_BYTES", "RemoteSource"]

NDArray = np.ndarray[Any, np.dtype[Any]]

TAIL_BYTES = 512 << 10
"""Bytes that the first request asks for: metadata, index and footer of about a thousand arrays."""


class RemoteSource:
    """Ranges of one version of an object.

    Parameters
    ----------
    store : ObjectStore
    path : str
        Path of the object in its store.
    """

    mapped = False
    pinned = True

    def __init__(self, store: ObjectStore, path: str) -> None:
        self.path = store.url(path)
        self._store: ObjectStore | None = store
        self._object = path
        tail, self.version = store.tail(path, TAIL_BYTES)
        self.nbytes = self.version.nbytes
        self.parallel = store.parallel
        self._tail = np.frombuffer(tail, np.uint8)

    def extend_tail(self, offset: int) -> None:
        """Keep everything from ``offset`` on: one request for what is not there yet."""
        begin = self.nbytes - len(self._tail)
        if offset < begin:
            self._tail = np.concatenate([self._fetch(offset, begin), self._tail])

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range; memory of its own, or of what was kept."""
        begin = self.nbytes - len(self._tail)
        if offset >= begin:
            self._require_open()
            kept: NDArray = self._tail[offset - begin : offset - begin + nbytes]
            return kept
        return self._fetch(offset, offset + nbytes)

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` from ``offset``."""
        out[:] = self.read(offset, len(out))

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a range in memory of its own."""
        copied: NDArray = self.read(offset, nbytes).copy()
        return copied

    def release(self, offset: int, nbytes: int) -> None:
        """Nothing to give back: what was read belongs to the caller."""

    def close(self) -> None:
        """Let go of the client."""
        self._store = None

    def _fetch(self, start: int, stop: int) -> NDArray:
        data = self._require_open().fetch(self._object, start, stop, self.version)
        return np.frombuffer(data, np.uint8)

    def _require_open(self) -> ObjectStore:
        store = self._store
        if store is None:
            raise ClosedError("the archive is closed", path=self.path, remedy="open it again")
        return store
