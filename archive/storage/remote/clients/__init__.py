"""Clients of object stores: the only modules that import fsspec or s3fs.

Imported when the first remote URL is used, and not before: fsspec costs 60 ms, s3fs 250.

`retry` is the one rule for requests that fail, `replies` how bytes are asked for and what a reply must say
before one is believed, `ranged` both together, `proofs` what any other reply of S3 must show, `failures` the
errors that callers see. `s3`, `http` and `filesystem` are the clients.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any, cast

from archive.errors import ArchiveError, StorageError, UnsupportedURLError
from archive.storage.remote.clients.failures import cause_of, setup_problem
from archive.storage.remote.objectstore import ObjectStore
from archive.storage.url import Location
from archive.workers import drop_oldest

__all__ = ["open_store"]

_CLIENTS = {
    "s3": ("archive.storage.remote.clients.s3", "S3Store"),
    "s3a": ("archive.storage.remote.clients.s3", "S3Store"),
    "http": ("archive.storage.remote.clients.http", "HttpStore"),
    "https": ("archive.storage.remote.clients.http", "HttpStore"),
}
_ANY = ("archive.storage.remote.clients.filesystem", "FileSystemStore")

KEEP = 16
"""Clients that are kept: making one costs 100 ms and a connection."""
KEEP_SECONDS = 300.0
"""How long, so that credentials that were renewed in a file are read again."""
_kept: dict[str, tuple[float, Any]] = {}


def open_store(location: Location) -> tuple[ObjectStore, str]:
    """Return the client for a remote location, and its path there.

    Raises
    ------
    UnsupportedURLError
        fsspec has no such protocol, or its package is not installed.
    StorageError
        The client cannot be set up: bad options, no credentials.
    """
    scheme = location.path.partition("://")[0]
    try:
        store = _client(scheme, location)
        return cast("ObjectStore", store), store.path_of(location)
    except ArchiveError:
        raise
    except (ValueError, ImportError) as error:
        raise UnsupportedURLError(
            f"fsspec does not open it: {_first_line(error)}",
            path=location.display,
            remedy="install what it names, or check storage_options",
        ) from error
    except Exception as error:  # noqa: BLE001 - some connect when they are made, and raise what they like
        raise StorageError(
            f"the client cannot be set up: {setup_problem(error)}",
            path=location.display,
            remedy="check storage_options",
        ) from cause_of(error)


def _client(scheme: str, location: Location) -> Any:
    identity = _identity(scheme, location)
    if scheme not in _CLIENTS or identity is None:
        return _kind(scheme)(location)
    made, store = _kept.get(identity, (0.0, None))
    if store is None or time.monotonic() - made > KEEP_SECONDS or store.denied:
        store = _kind(scheme)(location)
        drop_oldest(_kept, KEEP)
        _kept[identity] = time.monotonic(), store
    return store


def _kind(scheme: str) -> Callable[[Location], Any]:
    module, name = _CLIENTS.get(scheme, _ANY)
    kind: Callable[[Location], Any] = getattr(importlib.import_module(module), name)
    return kind


def _identity(scheme: str, location: Location) -> str | None:
    """Return what two locations share whose client is the same; None where that cannot be told."""
    if not _is_plain(location.options):
        return None
    # credentials, region, endpoint and proxy may come from the environment
    environment = sorted(
        (name, value)
        for name, value in os.environ.items()
        if name.startswith(("AWS_", "FSSPEC_")) or name.lower().endswith("_proxy")
    )
    versioned = "versionId=" in location.path
    return repr((os.getpid(), scheme, versioned, _ordered(location.options), environment))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def _ordered(value: Any) -> Any:
    return (
        sorted((name, _ordered(item)) for name, item in value.items()) if isinstance(value, dict) else value
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
