"""A folder of cache files: how they are named, opened, made, listed and removed.

Each version of an object has one file. ``NAME.bytes`` is sparse and as long as the object; after that comes
the block bitmap: one byte for each block of the object, 1 where `archive.storage.remote.cachedsource` fetched
the block. It is a byte and not a bit, so that processes can mark neighbours without a lock. The bitmap is in
the same file, so that one unlink removes both and a new file never meets an old bitmap. ``NAME.json`` beside
it is for people: URL, tag, size, created; its time of modification is that of the last open. No text of a URL
is part of a name.

Who has a file open or mapped holds a shared lock of it. Files are removed by whoever has the exclusive lock,
or is told to clear the folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType

from archive import system
from archive.errors import StorageError
from archive.owner import Descriptor
from archive.storage.local.exclusive import place_new
from archive.storage.remedies import remedy_of
from archive.storage.remote.objectstore import ObjectVersion

__all__ = [
    "BLOCK_BYTES",
    "CacheEntry",
    "CacheFolder",
    "clear_cache",
    "list_cache",
    "marks_at",
    "prune_cache",
]

BLOCK_BYTES = 4096
"""What is fetched, kept and marked as one: a page, so that each is in the file whole or not at all."""
SUFFIX = ".bytes"
_OURS = re.compile(r"([0-9a-f]{16}-[0-9a-f]{64})(\.bytes|\.json|\.[0-9a-f]{16}\.new)")
_TRIES = 4


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What a cache keeps of one version of an object."""

    name: str
    """Name of its files, without suffix."""
    url: str
    """Of which object, without credentials; empty where the sidecar is gone."""
    tag: str
    """Which version."""
    nbytes: int
    """Length of the object."""
    cached_bytes: int
    """How much of it is kept."""
    created: float
    """When the file was made; seconds since 1970."""
    used: float
    """When it was last opened."""


def marks_at(nbytes: int) -> int:
    """Return where the block bitmap of a file begins: after the last block."""
    return -(-nbytes // BLOCK_BYTES) * BLOCK_BYTES


class CacheFolder:
    """An open cache folder, made if it is not there; a context manager.

    Parameters
    ----------
    path : str

    Raises
    ------
    StorageError
        It cannot be made or opened, is not ours, or others may write to it: they could cut files that we
        have mapped.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDONLY | system.O_DIRECTORY | system.O_CLOEXEC)
        except OSError as error:
            raise self._failure(error) from error
        status = os.fstat(self._fd)
        if status.st_uid != system.geteuid() or status.st_mode & 0o022:
            os.close(self._fd)
            raise StorageError(
                "others may write to the cache folder",
                path=self.path,
                errno=errno.EPERM,
                remedy="name another folder, or: chmod 700 on your own",
            )
        self.device: int = status.st_dev

    def knows(self, url: str) -> bool:
        """Tell whether any version of an object has a file here."""
        prefix = _hash(url)[:16] + "-"
        return any(name.startswith(prefix) and suffix == SUFFIX for name, suffix in self.names())

    def open(self, url: str, version: ObjectVersion) -> int:
        """Return a descriptor, for reading and writing, of the file of a version; made if it is not there.

        A file in its place that is not ours, or not of the right length, is unlinked and never written to.

        Raises
        ------
        StorageError
        """
        name = file_name(url, version)
        total = marks_at(version.nbytes) // BLOCK_BYTES * (BLOCK_BYTES + 1)
        try:
            for _ in range(_TRIES):
                fd = self._existing(name, total)
                if fd is not None and _is_held(fd):
                    self._tell(name, url, version)
                    return fd
                self._create(name, total)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise self._failure(error) from error
        raise self._failure(OSError(errno.EBUSY, os.strerror(errno.EBUSY)))

    def discard(self, url: str, version: ObjectVersion) -> None:
        """Unlink the file of a version; who has it open goes on with it."""
        self.unlink(file_name(url, version) + SUFFIX)

    def remove(self, name: str) -> None:
        """Unlink the files of a version; who has it open goes on with it."""
        self.unlink(name + SUFFIX)
        self.unlink(name + ".json")

    def remove_unused(self, name: str) -> bool:
        """Unlink the files of a version unless somebody has it open, and return whether that was done."""
        with Descriptor() as file:
            try:
                file.open(name + SUFFIX, os.O_RDWR | _FLAGS, dir_fd=self._fd)
                system.flock(file[0], system.LOCK_EX | system.LOCK_NB)
            except OSError:
                return False  # it is in use, or the file system has no locks to tell
            self.remove(name)
        return True

    def unlink(self, name: str) -> None:
        """Remove a name; harmless where it is gone already.

        Raises
        ------
        StorageError
        """
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failure(error) from error

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield (name, suffix) of everything here that is ours.

        Raises
        ------
        StorageError
        """
        try:
            names = sorted(os.listdir(self._fd))
        except OSError as error:
            raise self._failure(error) from error
        for name in names:
            match = _OURS.fullmatch(name)
            if match:
                yield match[1], match[2]

    def entry(self, name: str) -> CacheEntry | None:
        """Return the facts of a file; None where it is gone meanwhile, unreadable, or something else."""
        try:
            fd = os.open(name + SUFFIX, os.O_RDONLY | _FLAGS, dir_fd=self._fd)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            blocks = status.st_size // (BLOCK_BYTES + 1)
            kept = _count_marks(fd, blocks)
        except OSError:
            return None
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
        facts, used = self._facts(name)
        url, tag, nbytes = (facts.get(key) for key in ("url", "tag", "size"))
        whole = blocks * BLOCK_BYTES
        if isinstance(nbytes, int) and marks_at(nbytes) == whole:
            whole = nbytes
        return CacheEntry(
            name,
            url if isinstance(url, str) else "",
            tag if isinstance(tag, str) else "",
            whole,
            min(kept * BLOCK_BYTES, whole),
            _seconds(facts.get("created"), status.st_ctime),
            used or status.st_mtime,
        )

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._fd)

    def __enter__(self) -> CacheFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _existing(self, name: str, total: int) -> int | None:
        """Open an existing file; None where the file is missing or cannot be ours."""
        try:
            fd = os.open(name + SUFFIX, os.O_RDWR | _FLAGS, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EACCES):
                raise
        else:
            status = os.fstat(fd)
            ours = stat.S_ISREG(status.st_mode) and status.st_uid == system.geteuid()
            # touching a shorter file after its end would kill this process
            if ours and status.st_size == total:
                return fd
            os.close(fd)
        self.unlink(name + SUFFIX)
        return None

    def _create(self, name: str, total: int) -> None:
        """Make a file that nobody sees before it has its length, unless another process was first."""
        temporary = f"{name}.{os.urandom(8).hex()}.new"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=self._fd)
        try:
            os.ftruncate(fd, total)
            # FileNotFoundError: the folder was cleared meanwhile
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                place_new(temporary, name + SUFFIX, dir_fd=self._fd)
        finally:
            os.close(fd)
            self.unlink(temporary)

    def _tell(self, name: str, url: str, version: ObjectVersion) -> None:
        """Write the sidecar, or its time; what is for people only keeps nobody from reading."""
        sidecar = name + ".json"
        with contextlib.suppress(OSError):
            try:
                os.utime(sidecar, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                created = datetime.now(timezone.utc).isoformat(timespec="seconds")
                facts = {"url": url, "tag": version.tag, "size": version.nbytes, "created": created}
                fd = os.open(sidecar, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=self._fd)
                with open(fd, "w", encoding="utf-8") as file:
                    json.dump(facts, file)

    def _facts(self, name: str) -> tuple[dict[str, object], float]:
        """Return what the sidecar says, and when it was last touched."""
        try:
            fd = os.open(name + ".json", os.O_RDONLY | _FLAGS, dir_fd=self._fd)
            with open(fd, encoding="utf-8", errors="replace") as file:
                used = os.fstat(fd).st_mtime
                facts = json.loads(file.read(1 << 16))
        except (OSError, ValueError, RecursionError):  # of brackets that nest thousands deep
            return {}, 0.0
        return (facts if isinstance(facts, dict) else {}), used

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(
            f"the cache folder cannot be used: {error.strerror}",
            path=self.path,
            errno=error.errno,
            remedy=remedy_of(error.errno, "name another folder, or open it without cache"),
        )


def file_name(url: str, version: ObjectVersion) -> str:
    """Return the name, without suffix, of the file of one version of an object.

    Its first part tells which files are of one object; the second is the SHA-256 of URL, tag and length.
    """
    return f"{_hash(url)[:16]}-{_hash(url, version.tag, str(version.nbytes))}"


def list_cache(path: str) -> list[CacheEntry]:
    """Return what a cache folder keeps, last used first; nothing where there is no folder.

    Raises
    ------
    StorageError
        It cannot be read, or is not ours.
    """
    if not os.path.lexists(path):
        return []
    with CacheFolder(path) as folder:
        found = [folder.entry(name) for name, suffix in folder.names() if suffix == SUFFIX]
    return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.used)


def clear_cache(path: str, older_than: float = 0.0) -> list[CacheEntry]:
    """Unlink files that were last opened longer ago than so many seconds, and return what they kept.

    No file is cut: a process that has one mapped goes on reading it, and its space comes back when that
    process closes it. What is not ours is left alone.

    Raises
    ------
    StorageError
    """
    entries = {entry.name: entry for entry in list_cache(path)}
    if not os.path.lexists(path):
        return []
    latest = time.time() - older_than
    removed = [entry for entry in entries.values() if not older_than or entry.used <= latest]
    with CacheFolder(path) as folder:
        for entry in removed:
            folder.remove(entry.name)
        # what a killed process left: a file without its name, a sidecar without its file
        for name, suffix in folder.names():
            if name not in entries and suffix != SUFFIX:
                folder.unlink(name + suffix)
    return removed


def prune_cache(path: str, keep_bytes: int, older_than: float = 0.0) -> list[CacheEntry]:
    """Unlink files that were opened longest ago until so many bytes are kept, and return what they kept.

    A file that a process has open or mapped stays, and counts; so does a file that was opened less than
    ``older_than`` seconds ago.

    Raises
    ------
    StorageError
    """
    entries = list_cache(path)
    kept = sum(entry.cached_bytes for entry in entries)
    if kept <= keep_bytes:
        return []
    latest = time.time() - older_than
    removed = []
    with CacheFolder(path) as folder:
        for entry in reversed(entries):
            old = not older_than or entry.used <= latest
            if kept > keep_bytes and old and folder.remove_unused(entry.name):
                kept -= entry.cached_bytes
                removed.append(entry)
    return removed


_FLAGS = system.O_NOFOLLOW | system.O_CLOEXEC | system.O_NONBLOCK


def _is_held(fd: int) -> bool:
    """Lock a file as one that is in use; False where it was removed meanwhile, and is closed."""
    with contextlib.suppress(OSError):  # without locks nothing is known to be unused: nothing is pruned
        system.flock(fd, system.LOCK_SH)
    if os.fstat(fd).st_nlink:
        return True
    os.close(fd)
    return False


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _count_marks(fd: int, blocks: int) -> int:
    step, first, kept = 1 << 20, blocks * BLOCK_BYTES, 0
    for at in range(first, first + blocks, step):
        kept += system.pread(fd, min(step, first + blocks - at), at).count(1)
    return kept


def _seconds(text: object, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else otherwise
    except (ValueError, OverflowError):
        return otherwise
