"""Remote objects written to a local file first, and sent when they are complete.

For stores without uploads in parts, and for saves that consume their input: what arrived in a local file
outlives a failure of the network.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

from archive import tuning
from archive.dtypes import NDArray
from archive.errors import StorageError
from archive.owner import Owner
from archive.storage.local.partial import PartialFile
from archive.storage.local.sink import AtomicFile
from archive.storage.remote.objectstore import ObjectStore
from archive.storage.remote.upload import RemoteSink, require_creatable
from archive.storage.url import local_path

__all__ = ["Spool", "SpooledPartialFile", "SpooledSink", "parse_spool"]

Spool = bool | str | os.PathLike[str]
"""True: a local file first, where it is needed, in the folder for temporary files; a folder: there; False:
never."""


def parse_spool(spool: Spool) -> str | None:
    """Return the folder of local files, None where local files are declined.

    Raises
    ------
    TypeError
        Neither a bool nor a folder.
    StorageError
        True, and no folder for temporary files can be written to.
    UnsupportedURLError
        Not a local folder.
    """
    if not isinstance(spool, (bool, str, os.PathLike)):
        raise TypeError(f"spool is a bool or a folder, not {type(spool).__name__}")
    if spool is False:
        return None
    if spool is not True:
        return local_path(spool)
    import tempfile  # 5 ms of every save, with what it imports

    try:
        return os.path.abspath(tempfile.gettempdir())
    except OSError as error:
        raise StorageError(
            f"no folder for temporary files: {error.strerror}",
            path="",
            errno=error.errno,
            remedy="free some space, set TMPDIR, or name a folder by spool",
        ) from error


class SpooledSink:
    """An object whose bytes are collected in a local file, which goes in any case.

    Parameters
    ----------
    store : ObjectStore
    path : str
        Path of the object in its store.
    overwrite : bool
        False: an existing object is an error.
    folder : str
        Where the local file lies; full, it is the disk of this folder that is.
    marked : bool
        As for `AtomicFile`.

    Raises
    ------
    ExistsError, MissingError, StorageError, UnsupportedURLError
    """

    any_order = True
    temporary = ""
    """The object, not the local file, is what has to be read back."""

    def __init__(
        self, store: ObjectStore, path: str, *, overwrite: bool, folder: str, marked: bool = False
    ) -> None:
        self.path: str = store.url(path)
        self.owner: Owner = Owner(self.path)
        self._store = store
        self._object = path
        self._overwrite = overwrite
        if not overwrite:
            require_creatable(store, path, multipart=store.multipart)
        self._file = AtomicFile(_local_name(folder, path), durable=False, private=True, marked=marked)

    def reserve(self, nbytes: int) -> None:
        """Reserve the first ``nbytes`` on the local disk."""
        self._file.reserve(nbytes)

    def reserve_if_possible(self, nbytes: int) -> bool:
        """Reserve ahead, and tell whether that worked."""
        return self._file.reserve_if_possible(nbytes)

    def truncate(self, nbytes: int) -> None:
        """Cut what was reserved and not needed."""
        self._file.truncate(nbytes)

    def write(self, buffer: Any, offset: int) -> None:
        """Write a contiguous buffer at ``offset``."""
        self._file.write(buffer, offset)

    def copy(self, source: int, start: int, offset: int, nbytes: int) -> bool:
        """Have the system copy bytes of another file; False where it cannot."""
        return self._file.copy(source, start, offset, nbytes)

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` with what was copied."""
        self._file.read_into(offset, out)

    def push_to(self, end: int) -> None:
        """Leave the writing of the local file to the system: it is read again at once."""

    def publish(self) -> None:
        """Send the file, and make the object appear."""
        send_file(self._file.map_written(), self._store, self._object, overwrite=self._overwrite)
        self._file.discard()

    def discard(self) -> None:
        """Remove the local file; harmless after `publish`."""
        self._file.discard()


class SpooledPartialFile(PartialFile):
    """``NAME.partial`` in a local folder, for an object NAME: sent when it is complete, and removed then.

    Parameters
    ----------
    store, path, overwrite, folder
        As for `SpooledSink`.
    """

    def __init__(self, store: ObjectStore, path: str, *, overwrite: bool, folder: str) -> None:
        self._store = store
        self._object = path
        self._replace = overwrite
        if not overwrite:
            require_creatable(store, path, multipart=store.multipart)
        super().__init__(_local_name(folder, path), push=True, private=True)

    @property
    def url(self) -> str:
        """Where the object will appear."""
        return self._store.url(self._object)

    def publish(self) -> None:
        """Send the file, make the object appear, and remove the file; after an error it is complete."""
        send_file(self.map_written(), self._store, self._object, overwrite=self._replace)
        self.discard()


def send_file(mapped: NDArray, store: ObjectStore, path: str, *, overwrite: bool) -> None:
    """Send a file that is mapped as an object, which appears when all of it is there."""
    nbytes = len(mapped)
    if not store.multipart:
        store.put(path, mapped, exclusive=not overwrite)
        return
    sink = RemoteSink(store, path, overwrite=overwrite, nbytes=nbytes)
    try:
        for start in range(0, nbytes, tuning.PART_BYTES):
            sink.write(mapped[start : start + tuning.PART_BYTES], start)
        sink.publish()
    finally:
        sink.discard()


def _local_name(folder: str, path: str) -> str:
    """Return a path in a folder that names nothing, or a regular file.

    Others may list a folder for temporary files, and guess the name: the file is private from the beginning.
    """
    name = first = os.path.join(folder, path.rstrip("/").rpartition("/")[2] or "archive")
    for number in itertools.count(2):
        if not os.path.lexists(name) or (os.path.isfile(name) and not os.path.islink(name)):
            break
        name = f"{first}-{number}"
    return name
