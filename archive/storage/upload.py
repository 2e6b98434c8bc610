"""A remote object to be written: it appears complete, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from archive.errors import ExistsError
from archive.storage.store import ObjectStore

__all__ = ["RemoteSink"]


class RemoteSink:
    """An object that appears when it is published.

    Parameters
    ----------
    store : ObjectStore
    path : str
        Path of the object in its store.
    overwrite : bool
        False: an existing object is an error.
    """

    def __init__(self, store: ObjectStore, path: str, *, overwrite: bool) -> None:
        self.path = store.url(path)
        self._store = store
        self._object = path
        self._overwrite = overwrite
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the sink

    def reserve(self, nbytes: int) -> None:
        """Nothing to reserve: a store tells that it is full when it is."""

    def reserve_if_possible(self, nbytes: int) -> bool:
        """Nothing to reserve."""
        return True

    def truncate(self, nbytes: int) -> None:
        """Nothing was reserved."""

    def write(self, buffers: Sequence[Any], offset: int, nbytes: int) -> None:
        """Write contiguous buffers, ``nbytes`` in all, one after the other from ``offset`` on."""
        os.pwrite(self._spool.fileno(), b"".join(buffers), offset)

    def publish(self) -> None:
        """Make the object appear."""
        if not self._overwrite and not self._store.is_exclusive(self._object, multipart=False):
            raise ExistsError("the store cannot create exclusively", path=self.path)
        self._spool.seek(0)
        self._store.put(self._object, self._spool.read(), exclusive=not self._overwrite)

    def discard(self) -> None:
        """Drop what was not published."""
        self._spool.close()
