"""Sources and sinks by location: the one place that tells local files from remote objects.

Each is imported when it is asked for: who opens a local file loads nothing of writing or of networks.
"""

from __future__ import annotations

import errno
import importlib
from typing import TYPE_CHECKING, cast

from archive import tuning
from archive.errors import StorageError, UnsupportedURLError
from archive.storage.local.source import open_source
from archive.storage.protocols import Sink, Source
from archive.storage.url import Location

if TYPE_CHECKING:
    from archive.storage.local.partial import PartialFile
    from archive.storage.remote.firstrequest import Purpose
    from archive.storage.remote.objectstore import ObjectStore
    from archive.storage.remote.staging import Spool

__all__ = ["locate_partial", "locate_sink", "locate_source", "locate_store"]


def locate_source(location: Location, access: str, purpose: Purpose = "open") -> Source:
    """Open a file or object for reading: its index and values, or its values alone.

    Raises
    ------
    MissingError, StorageError, UnsupportedURLError
    """
    if not location.remote:
        return open_source(location.path, access)
    store, path = locate_store(location)
    if location.cache:
        cache = importlib.import_module("archive.storage.remote.cachedsource")  # hashlib costs 4 ms
        opened = cache.CachedSource(store, path, location.cache, access, location.cache_bytes, purpose)
        return cast("Source", opened)
    from archive.storage.remote.source import RemoteSource

    return RemoteSource(store, path, purpose)


def locate_sink(
    location: Location,
    *,
    overwrite: bool,
    durable: bool,
    push: bool,
    nbytes: int = 0,
    spool: Spool = True,
    marked: bool = False,
) -> Sink:
    """Begin a file or object.

    Parameters
    ----------
    location : Location
    overwrite, durable, push : bool
        As for `AtomicFile`; an object is durable when it appears.
    nbytes : int
        Length of the whole, 0 where it is not known yet.
    spool : bool or str
        Where an object that cannot be sent in parts is collected; False: in memory.
    marked : bool
        As for `AtomicFile`: of what is no archive.

    Raises
    ------
    ExistsError, MissingError, StorageError, UnsupportedURLError
    """
    _require_file(location)
    if not location.remote:
        from archive.storage.local.sink import AtomicFile

        return AtomicFile(location.path, overwrite=overwrite, durable=durable, push=push, marked=marked)
    from archive.storage.remote.staging import SpooledSink, parse_spool
    from archive.storage.remote.upload import RemoteSink

    folder = parse_spool(spool)
    store, path = _writable_store(location)
    small = 0 < nbytes <= tuning.PART_BYTES
    if store.multipart or small or folder is None:
        return RemoteSink(store, path, overwrite=overwrite, nbytes=nbytes)
    return SpooledSink(store, path, overwrite=overwrite, folder=folder, marked=marked)


def locate_partial(location: Location, *, overwrite: bool, durable: bool, folder: str) -> PartialFile:
    """Begin a file of a save that consumes its input; what is to be an object is in ``folder`` until then.

    Raises
    ------
    ExistsError, MissingError, StorageError, UnsupportedURLError
    """
    from archive.storage.local.partial import PartialFile
    from archive.storage.remote.staging import SpooledPartialFile

    _require_file(location)
    if not location.remote:
        return PartialFile(location.path, overwrite=overwrite, durable=durable, push=True)
    store, path = _writable_store(location)
    return SpooledPartialFile(store, path, overwrite=overwrite, folder=folder)


def locate_store(location: Location) -> tuple[ObjectStore, str]:
    """Return the client of a remote location and the path there; its package is imported now."""
    remote = importlib.import_module("archive.storage.remote.clients")
    return cast("tuple[ObjectStore, str]", remote.open_store(location))


def _require_file(location: Location) -> None:
    if location.path.endswith("/"):
        raise StorageError(
            "names a folder", path=location.display, errno=errno.EISDIR, remedy="name a file in it"
        )


def _writable_store(location: Location) -> tuple[ObjectStore, str]:
    """Return the client and the path of what is to be written: refused before any input is consumed."""
    store, path = locate_store(location)
    if not store.writable:
        raise UnsupportedURLError(
            "this store is read, not written",
            path=store.url(path),
            remedy="save to a local path or to object storage",
        )
    return store, path
