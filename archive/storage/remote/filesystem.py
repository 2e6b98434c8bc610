"""Any file system of fsspec: memory, sftp, other clouds. No multipart, no conditional requests."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import fsspec

from archive.errors import (
    ExistsError,
    MissingError,
    ReplacedError,
    StorageError,
    TruncatedError,
    UnsupportedURLError,
)
from archive.storage.store import Buffer, Entry, ObjectVersion, PendingUpload, Upload
from archive.storage.url import Location

__all__ = ["FileSystemStore", "open_filesystem"]


def open_filesystem(location: Location) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path there."""
    try:
        filesystem, path = fsspec.core.url_to_fs(location.path, **location.options)
    except (ValueError, ImportError) as error:
        raise UnsupportedURLError(
            f"fsspec does not open it: {error}", path=location.display, remedy="install what it names"
        ) from error
    return filesystem, path


class FileSystemStore:
    """Objects of an fsspec file system, through its documented methods only.

    Its version is length and modification mark; that a range is of that version is known by its digest.
    """

    name = "fsspec"
    parallel = 8
    multipart = False
    min_part_bytes = 1

    def __init__(self, filesystem: Any, location: Location) -> None:
        self._filesystem = filesystem
        self._location = location

    def url(self, path: str) -> str:
        """Return what messages call an object."""
        return f"{self._location.display.partition('://')[0]}://{path.lstrip('/')}"

    def head(self, path: str) -> ObjectVersion:
        """Return the current version."""
        try:
            info = self._filesystem.info(path)
        except OSError as error:
            raise self._failure(path, error) from error
        tag = next((str(info[name]) for name in ("ETag", "etag", "mtime", "created") if info.get(name)), "")
        return ObjectVersion(int(info["size"] or 0), tag)

    def tail(self, path: str, nbytes: int) -> tuple[Buffer, ObjectVersion]:
        """Return the last bytes, and the version they are of."""
        version = self.head(path)
        return self.fetch(path, max(version.nbytes - nbytes, 0), version.nbytes, version), version

    def fetch(self, path: str, start: int, stop: int, version: ObjectVersion) -> Buffer:
        """Return bytes ``start`` to ``stop``, exactly."""
        try:
            data = self._filesystem.cat_file(path, start=start, end=stop)
        except OSError as error:
            raise self._failure(path, error) from error
        if len(data) != stop - start:
            if self.head(path) != version:
                raise ReplacedError(
                    "the object was replaced while it was open", path=self.url(path), remedy="open it again"
                )
            raise TruncatedError(
                f"{len(data)} of {stop - start} bytes came", path=self.url(path), offset=start
            )
        return data

    def put(self, path: str, data: Buffer, *, exclusive: bool = False) -> None:
        """Make an object of ``data`` appear whole."""
        try:
            if exclusive and self._filesystem.exists(path):
                raise ExistsError("an object is already there", path=self.url(path), errno=errno.EEXIST)
            self._filesystem.pipe_file(path, bytes(data))
        except OSError as error:
            raise self._failure(path, error) from error

    def begin(self, path: str) -> Upload:
        """Refuse: fsspec has no uploads that are completed at once."""
        raise UnsupportedURLError("no uploads in parts", path=self.url(path))

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        """Tell whether the store keeps its word about ``exclusive``: nothing says so."""
        return False

    def list(self, path: str) -> Iterator[Entry]:
        """Yield every object below a folder."""
        try:
            found = self._filesystem.find(path, detail=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failure(path, error) from error
        prefix = path.rstrip("/") + "/"
        for name, info in found.items():
            yield Entry(name.removeprefix(prefix), int(info.get("size") or 0), _seconds(info))

    def delete(self, path: str) -> None:
        """Remove an object."""
        try:
            self._filesystem.rm_file(path)
        except OSError as error:
            raise self._failure(path, error) from error

    def pending(self, path: str) -> Iterator[PendingUpload]:
        """Yield nothing: there are no uploads in parts."""
        return iter(())

    def abort(self, pending: PendingUpload) -> None:
        """Do nothing: there are no uploads in parts."""

    def _failure(self, path: str, error: OSError) -> MissingError | StorageError:
        if isinstance(error, (MissingError, StorageError)):
            return error
        if isinstance(error, FileNotFoundError):
            return MissingError(
                "no such object", path=self.url(path), errno=errno.ENOENT, remedy="check the URL"
            )
        return StorageError(
            f"the store failed: {error.strerror or type(error).__name__}",
            path=self.url(path),
            errno=error.errno,
            remedy="try again",
        )


def _seconds(info: dict[str, Any]) -> float:
    modified = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    return float(modified.timestamp() if hasattr(modified, "timestamp") else modified)
