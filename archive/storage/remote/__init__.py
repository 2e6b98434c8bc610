"""Clients of object stores: the only modules that import fsspec, s3fs or obstore.

Imported when the first remote URL is used, and not before: fsspec costs 60 ms, s3fs 250.
"""

from __future__ import annotations

from archive.storage.remote.filesystem import FileSystemStore, open_filesystem
from archive.storage.store import ObjectStore
from archive.storage.url import Location

__all__ = ["open_store"]


def open_store(location: Location) -> tuple[ObjectStore, str]:
    """Return the client for a remote location, and its path there.

    Raises
    ------
    UnsupportedURLError
        fsspec has no such protocol, or its package is not installed.
    StorageError
        The client cannot be set up: bad options, no credentials.
    """
    filesystem, path = open_filesystem(location)
    return FileSystemStore(filesystem, location), path
