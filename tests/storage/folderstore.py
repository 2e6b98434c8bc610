"""A store over a local folder: real objects, real uploads in parts, and a list of what was asked of it.

For tests that count requests and bytes, or have the k-th of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from archive.errors import ExistsError, MissingError, ReplacedError, StorageError, TruncatedError
from archive.storage.protocols import Take
from archive.storage.remote.objectstore import Entry, ObjectVersion, PendingUpload
from archive.storage.url import Location

PIECE_BYTES = 100_000
"""How many bytes a stream hands over at a time."""


class FolderStore:
    """Objects are files below a folder; uploads that were not ended are folders below ``.uploads``."""

    name = "folder"

    def __init__(
        self, root: Path, *, multipart: bool = True, exclusive: bool = True, parallel: int = 8
    ) -> None:
        self.root = root
        self.multipart = multipart
        self.exclusive = exclusive
        self.parallel = parallel
        self.min_part_bytes = 5 << 20
        self.pins = True
        self.writable = True
        self.asked: list[tuple[str, str, int]] = []
        """(what, path, bytes) of every request, in the order they came."""
        self.at_once = self.most_at_once = 0
        self.fail: dict[int, BaseException] = {}
        """What the k-th request raises, from 0."""
        self.flip: dict[int, int] = {}
        """Which byte of the answer to the k-th request is wrong."""
        self.before: dict[int, Callable[[], object]] = {}
        """What happens before the k-th range is read, from 0."""
        self.delay = 0.0
        self._lock = threading.Lock()
        self._names = itertools.count()

    # what tests ask

    def clear(self) -> None:
        self.asked.clear()
        self.most_at_once = 0

    def counted(self, *kinds: str) -> int:
        return sum(not kinds or what in kinds for what, _, _ in self.asked)

    def nbytes(self, *kinds: str) -> int:
        return sum(nbytes for what, _, nbytes in self.asked if not kinds or what in kinds)

    def kinds(self) -> Counter[str]:
        return Counter(what for what, _, _ in self.asked)

    def uploads(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.root / ".uploads"))
        return []

    def file(self, path: str) -> Path:
        return self.root / path

    # what the engine asks

    def url(self, path: str) -> str:
        return f"folder://{path}"

    def head(self, path: str) -> ObjectVersion:
        with self._request("head", path):
            return self._version(path)

    def get_suffix(self, path: str, nbytes: int) -> tuple[bytes, ObjectVersion]:
        version = self._version(path)
        start = max(version.nbytes - nbytes, 0)
        return self._read("get_suffix", path, start, version.nbytes, version), version

    def get_range(self, path: str, start: int, stop: int, version: ObjectVersion) -> bytes:
        return self._read("get_range", path, start, stop, version)

    def stream_range(self, path: str, start: int, stop: int, version: ObjectVersion, take: Take) -> None:
        at = 0
        for piece in self._pieces("get_range", path, start, stop, version, PIECE_BYTES):
            take(at, piece)
            at += len(piece)

    def put(self, path: str, data: Any, *, exclusive: bool = False) -> None:
        with self._request("put", path, memoryview(data).nbytes):
            temporary = self._temporary()
            temporary.write_bytes(memoryview(data))
            self._publish(temporary, path, exclusive)

    def create_multipart(self, path: str) -> FolderUpload:
        with self._request("create_multipart", path):
            folder = self.root / ".uploads" / f"{next(self._names)}"
            folder.mkdir(parents=True)
            (folder / "path").write_text(path)
            return FolderUpload(self, folder, path)

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        return self.exclusive

    def list(self, path: str, *, below: bool = True, span: tuple[str, str] | None = None) -> Iterator[Entry]:
        with self._request("list", path):
            found = [file for file in sorted(self.root.glob(f"{path}/**/*")) if file.is_file()]
        for file in found:
            status = file.stat()
            yield Entry(str(file.relative_to(self.root / path)), status.st_size, status.st_mtime)

    def delete(self, path: str) -> None:
        with self._request("delete", path):
            try:
                self.file(path).unlink()
            except FileNotFoundError as error:
                raise MissingError("no such object", path=self.url(path), errno=errno.ENOENT) from error

    def list_multipart(self, path: str) -> Iterator[PendingUpload]:
        with self._request("list_multipart", path):
            for upload in self.uploads():
                folder = self.root / ".uploads" / upload
                target = (folder / "path").read_text()
                if target == path or target.startswith(path.rstrip("/") + "/"):
                    yield PendingUpload(target, upload, folder.stat().st_mtime)

    def abort(self, pending: PendingUpload) -> None:
        with self._request("abort", pending.path):
            shutil.rmtree(self.root / ".uploads" / pending.upload, ignore_errors=True)

    @contextlib.contextmanager
    def _request(self, what: str, path: str, nbytes: int = 0) -> Iterator[int]:
        with self._lock:
            number = len(self.asked)
            self.asked.append((what, path, nbytes))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            error = self.fail.get(number)
            if what in ("get_suffix", "get_range"):
                self.before.get(self.counted("get_suffix", "get_range") - 1, int)()
        try:
            if self.delay:
                time.sleep(self.delay)
            if error is not None:
                raise error
            yield number
        finally:
            with self._lock:
                self.at_once -= 1

    def _version(self, path: str) -> ObjectVersion:
        try:
            status = self.file(path).stat()
        except FileNotFoundError as error:
            raise MissingError("no such object", path=self.url(path), errno=errno.ENOENT) from error
        return ObjectVersion(status.st_size, f"{status.st_ino}-{status.st_mtime_ns}")

    def _read(self, what: str, path: str, start: int, stop: int, version: ObjectVersion) -> bytes:
        return b"".join(self._pieces(what, path, start, stop, version, max(stop - start, 1)))

    def _pieces(
        self, what: str, path: str, start: int, stop: int, version: ObjectVersion, most: int
    ) -> Iterator[bytes]:
        with self._request(what, path, stop - start) as number:
            if self._version(path) != version:
                raise ReplacedError("the object was replaced", path=self.url(path), remedy="open it again")
            with self.file(path).open("rb") as file:
                file.seek(start)
                for at in range(start, stop, most):
                    data = file.read(min(most, stop - at))
                    if len(data) != min(most, stop - at):
                        raise TruncatedError("a short answer", path=self.url(path))
                    wrong = self.flip.get(number, -1) % (stop - start) + start - at
                    if number in self.flip and 0 <= wrong < len(data):
                        changed = bytearray(data)
                        changed[wrong] ^= 0x55
                        data = bytes(changed)
                    yield data

    def _temporary(self) -> Path:
        (self.root / ".temporary").mkdir(parents=True, exist_ok=True)
        return self.root / ".temporary" / f"{next(self._names)}"

    def _publish(self, temporary: Path, path: str, exclusive: bool) -> None:
        self.file(path).parent.mkdir(parents=True, exist_ok=True)
        if not exclusive:
            temporary.replace(self.file(path))
            return
        try:
            os.link(temporary, self.file(path))
        except FileExistsError as error:
            raise ExistsError("an object is there", path=self.url(path), errno=errno.EEXIST) from error
        finally:
            temporary.unlink()


class FolderUpload:
    """An upload: one file a part."""

    def __init__(self, store: FolderStore, folder: Path, path: str) -> None:
        self._store = store
        self._folder = folder
        self._path = path

    def put_part(self, number: int, data: Any) -> None:
        with self._store._request("put_part", self._path, memoryview(data).nbytes):
            if not self._folder.exists():
                raise StorageError("no such upload", path=self._path)
            (self._folder / f"{number:05}").write_bytes(memoryview(data))

    def complete(self, *, exclusive: bool) -> None:
        with self._store._request("complete", self._path):
            temporary = self._store._temporary()
            parts = sorted(part for part in self._folder.iterdir() if part.name != "path")
            assert [part.name for part in parts] == [f"{number:05}" for number in range(1, len(parts) + 1)]
            assert all(part.stat().st_size >= self._store.min_part_bytes for part in parts[:-1])
            with temporary.open("wb") as out:
                for part in parts:
                    with part.open("rb") as file:
                        shutil.copyfileobj(file, out, 1 << 20)
            self._store._publish(temporary, self._path, exclusive)
            shutil.rmtree(self._folder)

    def abort(self) -> None:
        with self._store._request("abort", self._path):
            shutil.rmtree(self._folder, ignore_errors=True)


def reach(store: FolderStore, monkeypatch: Any) -> None:
    """Have every remote URL lead to a store: the path is what follows ``://``."""

    def open_store(location: Location) -> tuple[FolderStore, str]:
        return store, location.path.partition("://")[2]

    monkeypatch.setattr("archive.storage.remote.clients.open_store", open_store)
    monkeypatch.setattr("archive.storage.remote.firstrequest._needed", {})  # not what other tests needed
