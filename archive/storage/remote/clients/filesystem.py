"""Any other file system of fsspec: memory, sftp, smb, other clouds, chains of them.

Through documented methods only: no requests of our own, no uploads in parts, no preconditions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import aiohttp
import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.cached import CachingFileSystem
from fsspec.spec import AbstractFileSystem

from archive import system
from archive.errors import ArchiveError, MissingError, StorageError, TruncatedError, UnsupportedURLError
from archive.owner import Owner
from archive.storage.protocols import Take
from archive.storage.remote.clients.connections import Instances
from archive.storage.remote.clients.failures import cause_of, exists_error, replaced_error
from archive.storage.remote.objectstore import (
    Buffer,
    Entry,
    ObjectVersion,
    PendingUpload,
    Upload,
    strong_tag,
)
from archive.storage.url import Location

__all__ = ["FileSystemStore"]

_ALONE = {"ftp", "blockcache", "cached"}
"""Protocols whose file system answers one thread at a time: one connection, or no lock of its blocks."""
PIPE_BYTES = 64 << 20
"""Objects up to this size are handed over at once, in one copy; larger ones in pieces of it."""


class FileSystemStore:
    """Objects of an fsspec file system.

    A version is what `info` says: length, ETag or time of modification. That a range is of that version
    is known by its digest; one request, of whoever misses it, tells why it is not (`pins`).

    What is read through a cache of fsspec (``filecache::``) is what that cache holds, perhaps an older
    version: its version is a length alone. What exists is decided by the file system behind the cache.

    Parameters
    ----------
    location : Location
    """

    name = "fsspec"
    multipart = False
    min_part_bytes = 1
    pins = False
    writable = True

    def __init__(self, location: Location) -> None:
        alone = not _ALONE.isdisjoint(location.path.partition("://")[0].split("::"))
        self._memory = location.path.startswith("memory://")
        self._shown = location.display
        self._own: str | None = None
        self.parallel = 1 if alone else 8
        options = {**({"skip_instance_cache": True} if alone else {}), **location.options}

        def make() -> tuple[Any, contextlib.AbstractContextManager[Any]]:
            filesystem = fsspec.core.url_to_fs(location.path, **options)[0]
            return filesystem, threading.RLock() if alone else contextlib.nullcontext()

        self._instances = Instances(make)

    def path_of(self, location: Location) -> str:
        """Return the path that a URL names here."""
        path = str(fsspec.core.url_to_fs(location.path, **location.options)[1])
        if self._own is None:
            self._own = path
        return path

    def url(self, path: str) -> str:
        """Return what messages call an object."""
        own = self._own
        if own is None or path == own:
            return self._shown
        # something in the folder of the location; of a chain that is its first link with a path
        end = self._shown.find("::", self._shown.find("://"))
        folder, rest = (self._shown[:end], self._shown[end:]) if end >= 0 else (self._shown, "")
        name = path.removeprefix(own).lstrip("/")
        return folder + ("" if folder.endswith("/") else "/") + name + rest

    def head(self, path: str) -> ObjectVersion:
        """Return the current version."""
        with self._asked(path, fresh=True) as filesystem:
            info = _behind_cache(filesystem).info(path)
        if info.get("type") == "directory" or info.get("size") is None:
            self._fail(path, FileNotFoundError(path))
        if isinstance(filesystem, CachingFileSystem):
            return ObjectVersion(int(info["size"]))
        tag = _tag(info)
        times = (info[name] for name in ("LastModified", "mtime", "modified", "created") if info.get(name))
        return ObjectVersion(int(info["size"]), tag, "" if tag else str(next(times, "")))

    def get_suffix(self, path: str, nbytes: int) -> tuple[Buffer, ObjectVersion]:
        """Return the last bytes, and the version they are of."""
        version = self._cached(path) or self.head(path)
        return self.get_range(path, max(version.nbytes - nbytes, 0), version.nbytes, version), version

    def get_range(self, path: str, start: int, stop: int, version: ObjectVersion) -> Buffer:
        """Return bytes ``start`` to ``stop``, exactly."""
        if stop <= start:
            return b""
        try:
            with self._asked(path) as filesystem:
                # by keyword: in s3fs the first positional argument is a version
                data = filesystem.cat_file(path, start=start, end=stop)
        except MissingError as error:
            raise replaced_error(self.url(path), removed=True) from error
        if len(data) == stop - start:
            return data
        with contextlib.suppress(MissingError):
            if self.head(path) == version:
                raise TruncatedError(
                    f"{len(data)} of {stop - start} bytes came",
                    path=self.url(path),
                    offset=start,
                    remedy="try again, or download it first",
                )
        raise replaced_error(self.url(path))

    def stream_range(self, path: str, start: int, stop: int, version: ObjectVersion, take: Take) -> None:
        """Hand over bytes ``start`` to ``stop`` at once: fsspec has no other way."""
        take(0, self.get_range(path, start, stop, version))

    def put(self, path: str, data: Buffer, *, exclusive: bool = False) -> None:
        """Make an object of ``data`` appear whole.

        Object stores show it when all of it has come. Where there are real files, which grow under the
        eyes of readers, it is written beside its place and renamed. Its length is asked for then: a file
        system may report a success that its server never had.
        """
        with self._asked(path, fresh=True) as filesystem:
            behind = getattr(filesystem, "fs", None)  # of a chain; in hdfs, something that is not of fsspec
            target = behind if isinstance(behind, AbstractFileSystem) else filesystem
            with _creating if exclusive else contextlib.nullcontext():
                if exclusive and _behind_cache(filesystem).exists(path):
                    raise exists_error(self.url(path))
                if type(target).mv is AbstractFileSystem.mv:
                    self._write(filesystem, path, memoryview(data).cast("B"))
                else:
                    self._write_beside(filesystem, path, memoryview(data).cast("B"))
            self._require_length(filesystem, path, path, memoryview(data).nbytes)

    def create_multipart(self, path: str) -> Upload:
        """Refuse: fsspec has no uploads that are completed at once."""
        raise UnsupportedURLError("no uploads in parts", path=self.url(path), remedy="put it whole")

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        """Tell whether the store keeps its word about ``exclusive``: only memory, which nobody else has."""
        return self._memory and not multipart

    def list(self, path: str, *, below: bool = True, span: tuple[str, str] | None = None) -> Iterator[Entry]:
        """Yield every object below a folder, but for folders in it that must not be read."""
        try:
            with self._asked(path, fresh=True) as filesystem:
                found = _find(filesystem, path)
        except MissingError:
            return
        prefix = path.rstrip("/") + "/"
        for name, info in found.items():
            if name.startswith(prefix):
                place, tag = name.removeprefix(prefix), strong_tag(_tag(info))
                yield Entry(place, int(info.get("size") or 0), _seconds(info), tag)

    def delete(self, path: str) -> None:
        """Remove an object; MissingError where there is none."""
        removed = self.head(path)
        with self._asked(path) as filesystem:
            filesystem.rm_file(path)
        with contextlib.suppress(MissingError):
            if self.head(path) == removed:
                raise StorageError(
                    "the file system reports that the object was removed, and it is still there",
                    path=self.url(path),
                    errno=errno.EIO,
                    remedy="check the URL and storage_options, then try again",
                )

    def list_multipart(self, path: str) -> Iterator[PendingUpload]:
        """Yield nothing: there are no uploads in parts."""
        return iter(())

    def abort(self, pending: PendingUpload) -> None:
        """Do nothing: there are no uploads in parts."""

    def _cached(self, path: str) -> ObjectVersion | None:
        """Return what a cache of fsspec holds of an object, fetched now if need be; None where none is."""
        with self._asked(path) as filesystem:
            if not isinstance(filesystem, CachingFileSystem):
                return None
            try:
                with filesystem.open(path) as file:
                    return ObjectVersion(file.seek(0, os.SEEK_END))
            except FileNotFoundError:
                _behind_cache(filesystem).info(path)  # raises what a cache takes for a missing object
                raise
            except (AttributeError, TypeError, ValueError) as error:
                raise UnsupportedURLError(
                    "this cache of fsspec cannot read from this file system",
                    path=self.url(path),
                    remedy="use filecache::, or the URL alone with cache=",
                ) from cause_of(error)

    @contextlib.contextmanager
    def _asked(self, path: str, *, fresh: bool = False) -> Iterator[Any]:
        """Yield the file system, and turn what it raises into errors of ours.

        ``fresh``: without what it remembers of listings.
        """
        try:
            filesystem, turn = self._instances.get()
            with turn:
                if fresh:
                    _forget_listings(filesystem)
                yield filesystem
        except Exception as error:  # noqa: BLE001 - other people's file systems raise what they like
            self._fail(path, error)

    def _write(self, filesystem: Any, path: str, data: memoryview) -> None:
        if data.nbytes <= PIPE_BYTES:
            filesystem.pipe_file(path, bytes(data))
            return
        owner = Owner(self.url(path))
        # not in a with block: leaving one by an error publishes what was written so far
        file = filesystem.open(path, "wb", autocommit=False)

        def discard() -> None:
            if owner.is_here:
                file.discard()

        with contextlib.ExitStack() as undo:
            undo.callback(discard)
            for start in range(0, data.nbytes, PIPE_BYTES):
                owner.require_here()
                file.write(bytes(data[start : start + PIPE_BYTES]))
            owner.require_here()
            file.close()
            file.commit()
            undo.pop_all()

    def _write_beside(self, filesystem: Any, path: str, data: memoryview) -> None:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name[:200]}.{secrets.token_hex(8)}.tmp"

        owner = Owner(self.url(path))

        def remove() -> None:
            if owner.is_here:
                with contextlib.suppress(Exception):
                    filesystem.rm_file(temporary)

        with contextlib.ExitStack() as undo:
            undo.callback(remove)
            # in object stores, whose habits we keep to, folders need not be made
            filesystem.makedirs(folder, exist_ok=True)
            with filesystem.open(temporary, "wb") as file:
                for start in range(0, data.nbytes, PIPE_BYTES):
                    owner.require_here()
                    file.write(data[start : start + PIPE_BYTES])
            owner.require_here()
            self._require_length(filesystem, path, temporary, data.nbytes)
            owner.require_here()
            filesystem.mv(temporary, path)
            undo.pop_all()

    def _require_length(self, filesystem: Any, path: str, written: str, nbytes: int) -> None:
        """Raise unless a file that was written for an object has all its bytes."""
        _forget_listings(filesystem)
        try:
            arrived = _behind_cache(filesystem).info(written).get("size")
        except FileNotFoundError:
            arrived = None
        if arrived != nbytes:
            came = "nothing" if arrived is None else f"{arrived} of {nbytes} bytes"
            raise StorageError(
                f"the file system reports success, and {came} arrived",
                path=self.url(path),
                errno=errno.EIO,
                remedy="check the URL and storage_options, then try again",
            )

    def _fail(self, path: str, error: Exception) -> NoReturn:
        if isinstance(error, ArchiveError):
            raise error
        error = _reported(error)
        if isinstance(error, FileNotFoundError):
            raise MissingError(
                "no such object", path=self.url(path), errno=errno.ENOENT, remedy="check the URL"
            ) from cause_of(error)
        if isinstance(error, NotImplementedError):
            raise UnsupportedURLError(
                "this file system cannot do that", path=self.url(path), remedy="use a local path"
            ) from cause_of(error)
        number = getattr(error, "errno", None)
        # the text of an error may repeat a signed URL
        reason = getattr(error, "strerror", None) if isinstance(number, int) else None
        raise StorageError(
            f"the store failed: {reason or type(error).__name__}",
            path=self.url(path),
            errno=number if isinstance(number, int) else errno.EIO,
            remedy="check the URL and storage_options, then try again",
        ) from cause_of(error)


_creating = threading.RLock()
"""Held from the look whether an object is there until it is written: threads share their memory.

An RLock: Python 3.14 lets an interrupt in before the `with` block that releases a lock; the same thread may
come again."""


def _forget_creators() -> None:
    """Start afresh in the child of a fork."""
    global _creating  # noqa: PLW0603 another thread of the parent may have held it
    _creating = threading.RLock()


system.register_at_fork(after_in_child=_forget_creators)


def _find(filesystem: Any, path: str) -> dict[str, Any]:
    """Return the files below a folder.

    fsspec's own walk takes a folder for empty that could not be listed, because its server was away.
    """
    method = getattr(filesystem, "_find", filesystem.find)
    if getattr(method, "__func__", None) not in (AbstractFileSystem.find, AsyncFileSystem._find):
        return dict(filesystem.find(path, detail=True))
    failed: list[Exception] = []
    found: dict[str, Any] = filesystem.find(path, detail=True, on_error=failed.append)
    ignored = (FileNotFoundError, PermissionError) if found else (FileNotFoundError,)
    for error in failed:
        if not isinstance(error, ignored):
            raise error
    return found


def _behind_cache(filesystem: Any) -> Any:
    """Return the file system that caches of fsspec stand before: some look for a file in a listing alone."""
    while isinstance(filesystem, CachingFileSystem):
        filesystem = filesystem.fs
    return filesystem


def _reported(error: Exception) -> Exception:
    """Return what a web server reported, where fsspec makes a missing object of any error."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    missing = getattr(cause, "status", 0) in (404, 410)
    return cause if isinstance(cause, aiohttp.ClientError) and not missing else error


def _forget_listings(filesystem: Any) -> None:
    with contextlib.suppress(AttributeError, NotImplementedError):
        filesystem.invalidate_cache()


def _tag(info: dict[str, Any]) -> str:
    return next((str(info[name]) for name in ("ETag", "etag") if info.get(name)), "")


def _seconds(info: dict[str, Any]) -> float:
    """Return when an object was written; 0.0 where the file system does not say it in a way that we know."""
    modified = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    try:
        return float(modified.timestamp() if hasattr(modified, "timestamp") else modified)
    except (TypeError, ValueError, OverflowError):
        return 0.0
