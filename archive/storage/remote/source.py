"""A remote object to be read: its end is kept from the request that opened it, the rest is fetched."""

from __future__ import annotations

import contextlib
import copy
import errno
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.errors import ClosedError, MissingError, ReplacedError
from archive.storage.protocols import Take
from archive.storage.remote.firstrequest import Purpose, first_bytes, note_needed
from archive.storage.remote.objectstore import ObjectStore, ObjectVersion, strong_tag

__all__ = ["RemoteSource"]


class RemoteSource:
    """Ranges of one version of an object, each by one request.

    Parameters
    ----------
    store : ObjectStore
    path : str
        Path of the object in its store.
    purpose : {"open", "values"}
        How much the first request asks for: see `archive.storage.remote.firstrequest`.
    tail_bytes : int
        How much it asks for instead, unless 0.
    """

    version: ObjectVersion
    mapped: bool = False
    pinned = True

    def __init__(self, store: ObjectStore, path: str, purpose: Purpose = "open", tail_bytes: int = 0) -> None:
        self.path: str = store.url(path)
        self._store: ObjectStore | None = store
        self._object = path
        self._purpose: Purpose = purpose
        tail, self.version = store.get_suffix(path, tail_bytes or first_bytes(self.path, purpose))
        self.nbytes: int = self.version.nbytes
        self.parallel: int = store.parallel
        self.pins: bool = store.pins
        self._tail = _read_only(tail)

    @property
    def keeps(self) -> bool:
        """Whether what is fetched is kept in a local file."""
        return False

    @property
    def tag(self) -> str:
        """What no other version of the object has, without its quotes: its ETag."""
        return strong_tag(self.version.tag)

    def extend_tail(self, offset: int) -> None:
        """Keep what lies from ``offset`` on, fetching by one request what is not there yet."""
        note_needed(self.path, self._purpose, self.nbytes - offset)
        kept = self._tail  # read once: another thread may replace the attribute meanwhile
        begin = self.nbytes - len(kept)
        if offset < begin:
            fetched = self._fetch(offset, begin)
            self._tail = _read_only(np.concatenate([fetched, kept]))

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range; memory of its own, or a read-only view of what was kept."""
        kept = self._tail
        begin = self.nbytes - len(kept)
        if offset >= begin:
            self._require_open()
            view: NDArray = kept[offset - begin : offset - begin + nbytes]
            return view
        return self._fetch(offset, offset + nbytes)

    def reread(self, offset: int, nbytes: int) -> NDArray | None:
        """Fetch a range whose bytes fail their digest: they may have been changed on the way.

        Raises
        ------
        ReplacedError
            They are of another version, which the store did not tell.
        """
        self._require_version()
        return self._fetch(offset, offset + nbytes)

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` from ``offset``."""
        out[:] = self.read(offset, len(out))

    def stream(self, offset: int, nbytes: int, take: Take) -> None:
        """Hand over a range as it comes."""
        if offset >= self.nbytes - len(self._tail):
            take(0, self.read(offset, nbytes))
        else:
            self._require_open().stream_range(self._object, offset, offset + nbytes, self.version, take)

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a range in memory of its own."""
        data = self.read(offset, nbytes)
        return data if data.flags.writeable else data.copy()

    def release(self, offset: int, nbytes: int) -> None:
        """Nothing to give back: what was read belongs to the caller."""

    def share(self) -> RemoteSource:
        """Return the same version of the object once more."""
        return copy.copy(self)

    def close(self) -> None:
        """Let go of the client."""
        self._store = None

    def _fetch(self, start: int, stop: int) -> NDArray:
        data = self._require_open().get_range(self._object, start, stop, self.version)
        return np.frombuffer(data, np.uint8)

    def _require_version(self) -> None:
        if self.pins:
            return
        found = None
        with contextlib.suppress(MissingError):
            found = self._require_open().head(self._object)
        if found != self.version:
            raise ReplacedError(
                "the object was replaced while it was open",
                path=self.path,
                errno=errno.ESTALE,
                remedy="open it again",
            )

    def _require_open(self) -> ObjectStore:
        store = self._store
        if store is None:
            raise ClosedError("the archive is closed", path=self.path, remedy="open it again")
        return store


def _read_only(data: Any) -> NDArray:
    """Return a view that nobody writes to: many callers may be handed parts of it."""
    view: NDArray = np.frombuffer(data, np.uint8)
    view.flags.writeable = False
    return view
