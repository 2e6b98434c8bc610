"""Any other file system of fsspec: memory, sftp, smb, other clouds, chains of them.

Through documented methods only: no requests of our own, no uploads in parts, no preconditions.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Iterator
from typing import Any, NoReturn

import fsspec
from fsspec.spec import AbstractFileSystem

from archive.errors import ArchiveError, MissingError, StorageError, TruncatedError, UnsupportedURLError
from archive.storage.remote.connections import Instances
from archive.storage.remote.failures import exists_error, replaced_error
from archive.storage.store import Buffer, Entry, ObjectVersion, PendingUpload, Upload
from archive.storage.url import Location

__all__ = ["FileSystemStore"]

PIPE_BYTES = 64 << 20
"""Objects up to this size are handed over at once, in one copy; larger ones in pieces of it."""


class FileSystemStore:
    """Objects of an fsspec file system.

    A version is what `info` says: length, ETag or time of modification. That a range is of that version
    is known by its digest; one request tells why it is not.

    Parameters
    ----------
    location : Location
    """

    name = "fsspec"
    parallel = 8
    multipart = False
    min_part_bytes = 1

    def __init__(self, location: Location) -> None:
        self._display = location.display
        self._instances = Instances(lambda: fsspec.core.url_to_fs(location.path, **location.options)[0])

    def path_of(self, location: Location) -> str:
        """Return the path that a URL names here."""
        return str(fsspec.core.url_to_fs(location.path, **location.options)[1])

    def url(self, path: str) -> str:
        """Return what messages call an object."""
        return f"{self._display.partition('://')[0]}://{path.lstrip('/')}"

    def head(self, path: str) -> ObjectVersion:
        """Return the current version."""
        filesystem = self._fresh()
        try:
            info = filesystem.info(path)
        except Exception as error:  # noqa: BLE001 - other people's file systems raise what they like
            self._fail(path, error)
        if info.get("type") == "directory" or info.get("size") is None:
            self._fail(path, FileNotFoundError(path))
        tag = next((str(info[name]) for name in ("ETag", "etag") if info.get(name)), "")
        times = (info[name] for name in ("LastModified", "mtime", "modified", "created") if info.get(name))
        return ObjectVersion(int(info["size"]), tag, "" if tag else str(next(times, "")))

    def tail(self, path: str, nbytes: int) -> tuple[Buffer, ObjectVersion]:
        """Return the last bytes, and the version they are of."""
        version = self.head(path)
        return self.fetch(path, max(version.nbytes - nbytes, 0), version.nbytes, version), version

    def fetch(self, path: str, start: int, stop: int, version: ObjectVersion) -> Buffer:
        """Return bytes ``start`` to ``stop``, exactly."""
        if stop <= start:
            return b""
        try:
            # by keyword: in s3fs the first positional argument is a version
            data = self._instances.get().cat_file(path, start=start, end=stop)
        except FileNotFoundError as error:
            raise replaced_error(self.url(path), removed=True) from error
        except Exception as error:  # noqa: BLE001 - other people's file systems raise what they like
            self._fail(path, error)
        if len(data) == stop - start:
            return data
        with contextlib.suppress(MissingError):
            if self.head(path) == version:
                raise TruncatedError(
                    f"{len(data)} of {stop - start} bytes came",
                    path=self.url(path),
                    offset=start,
                    remedy="try again, or copy it first: fedarchive cp URL PATH",
                )
        raise replaced_error(self.url(path))

    def put(self, path: str, data: Buffer, *, exclusive: bool = False) -> None:
        """Make an object of ``data`` appear whole.

        Object stores show it when all of it has come. Where there are real files, which grow under the
        eyes of readers, it is written beside its place and renamed.
        """
        filesystem = self._fresh()
        target = getattr(filesystem, "fs", filesystem)
        try:
            if exclusive and filesystem.exists(path):
                raise exists_error(self.url(path))
            if type(target).mv is AbstractFileSystem.mv:
                self._write(filesystem, path, memoryview(data).cast("B"))
            else:
                self._write_beside(filesystem, path, memoryview(data).cast("B"))
        except Exception as error:  # noqa: BLE001 - other people's file systems raise what they like
            self._fail(path, error)

    def begin(self, path: str) -> Upload:
        """Refuse: fsspec has no uploads that are completed at once."""
        raise UnsupportedURLError("no uploads in parts", path=self.url(path), remedy="put it whole")

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        """Tell whether the store keeps its word about ``exclusive``: nothing says so."""
        return False

    def list(self, path: str) -> Iterator[Entry]:
        """Yield every object below a folder."""
        filesystem = self._fresh()
        try:
            found = filesystem.find(path, detail=True)
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001 - other people's file systems raise what they like
            self._fail(path, error)
        prefix = path.rstrip("/") + "/"
        for name, info in found.items():
            if name.startswith(prefix):
                yield Entry(name.removeprefix(prefix), int(info.get("size") or 0), _seconds(info))

    def delete(self, path: str) -> None:
        """Remove an object; MissingError where there is none."""
        self.head(path)
        try:
            self._instances.get().rm_file(path)
        except Exception as error:  # noqa: BLE001 - other people's file systems raise what they like
            self._fail(path, error)

    def pending(self, path: str) -> Iterator[PendingUpload]:
        """Yield nothing: there are no uploads in parts."""
        return iter(())

    def abort(self, pending: PendingUpload) -> None:
        """Do nothing: there are no uploads in parts."""

    def _fresh(self) -> Any:
        """Return the file system without what it remembers of listings."""
        filesystem = self._instances.get()
        with contextlib.suppress(AttributeError, NotImplementedError):
            filesystem.invalidate_cache()
        return filesystem

    def _write(self, filesystem: Any, path: str, data: memoryview) -> None:
        if data.nbytes <= PIPE_BYTES:
            filesystem.pipe_file(path, bytes(data))
            return
        # not in a with block: leaving one by an error publishes what was written so far
        file = filesystem.open(path, "wb", autocommit=False)
        try:
            for start in range(0, data.nbytes, PIPE_BYTES):
                file.write(bytes(data[start : start + PIPE_BYTES]))
            file.close()
            file.commit()
        except BaseException:
            file.discard()
            raise

    def _write_beside(self, filesystem: Any, path: str, data: memoryview) -> None:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name[:200]}.{secrets.token_hex(8)}.tmp"
        try:
            # in object stores, whose habits we keep to, folders need not be made
            filesystem.makedirs(folder, exist_ok=True)
            with filesystem.open(temporary, "wb") as file:
                for start in range(0, data.nbytes, PIPE_BYTES):
                    file.write(data[start : start + PIPE_BYTES])
            arrived = filesystem.info(temporary).get("size")
            if arrived != data.nbytes:
                raise StorageError(
                    f"{arrived} of {data.nbytes} bytes arrived", path=self.url(path), errno=errno.EIO
                )
            filesystem.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                filesystem.rm_file(temporary)
            raise

    def _fail(self, path: str, error: Exception) -> NoReturn:
        if isinstance(error, ArchiveError):
            raise error
        if isinstance(error, FileNotFoundError):
            raise MissingError(
                "no such object", path=self.url(path), errno=errno.ENOENT, remedy="check the URL"
            ) from error
        if isinstance(error, NotImplementedError):
            raise UnsupportedURLError(
                "this file system cannot do that", path=self.url(path), remedy="use a local path"
            ) from error
        number = getattr(error, "errno", None)
        # the text of an error may repeat a signed URL
        reason = getattr(error, "strerror", None) if isinstance(number, int) else None
        raise StorageError(
            f"the store failed: {reason or type(error).__name__}",
            path=self.url(path),
            errno=number if isinstance(number, int) else errno.EIO,
            remedy="check the URL and storage_options, then try again",
        ) from error


def _seconds(info: dict[str, Any]) -> float:
    modified = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    return float(modified.timestamp() if hasattr(modified, "timestamp") else modified)
