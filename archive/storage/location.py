"""Sources and sinks by location: the one place that tells local files from remote objects."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast

from archive.storage.remotesource import RemoteSource
from archive.storage.sink import AtomicFile
from archive.storage.source import Source, open_source
from archive.storage.store import ObjectStore
from archive.storage.upload import RemoteSink
from archive.storage.url import Location

__all__ = ["Sink", "locate_sink", "locate_source", "locate_store"]


class Sink(Protocol):
    """A file or object in the making: it appears complete when it is published, or not at all."""

    path: str
    """Where it will appear, for messages."""

    def reserve(self, nbytes: int) -> None:
        """Reserve the first ``nbytes``, so that a full disk is found early."""
        ...

    def reserve_if_possible(self, nbytes: int) -> bool:
        """Reserve ahead, and tell whether that worked."""
        ...

    def truncate(self, nbytes: int) -> None:
        """Cut what was reserved and not needed."""
        ...

    def write(self, buffers: Sequence[Any], offset: int, nbytes: int) -> None:
        """Write contiguous buffers, ``nbytes`` in all, one after the other from ``offset`` on."""
        ...

    def publish(self) -> None:
        """Make it appear; after an error `discard` it."""
        ...

    def discard(self) -> None:
        """Drop what is not published and let go; harmless after `publish`."""
        ...


def locate_source(location: Location, access: str) -> Source:
    """Open a file or object for reading.

    Raises
    ------
    MissingError, StorageError, UnsupportedURLError
    """
    if not location.remote:
        return open_source(location.path, access)
    store, path = locate_store(location)
    return RemoteSource(store, path)


def locate_sink(location: Location, *, overwrite: bool, durable: bool, push: bool) -> Sink:
    """Begin a file or object; parameters are those of `AtomicFile`.

    Raises
    ------
    ExistsError, MissingError, StorageError, UnsupportedURLError
    """
    if not location.remote:
        return AtomicFile(location.path, overwrite=overwrite, durable=durable, push=push)
    store, path = locate_store(location)
    return RemoteSink(store, path, overwrite=overwrite)


def locate_store(location: Location) -> tuple[ObjectStore, str]:
    """Return the client of a remote location and the path there; its package is imported now."""
    remote = importlib.import_module("archive.storage.remote")
    return cast("tuple[ObjectStore, str]", remote.open_store(location))
