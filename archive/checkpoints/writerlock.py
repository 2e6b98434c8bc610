"""One writer for a run: a lock that ends with its process, and a proof that rounds can be saved."""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

from archive.errors import LockedError, MissingError, StorageError, UnsupportedURLError
from archive.storage.folder import locate_folder, make_place, remove_file
from archive.storage.local.lockfile import LockFile
from archive.storage.location import locate_sink
from archive.storage.remote.objectstore import PROBE_PREFIX, PROBES
from archive.storage.url import URL, Location, parse_url

__all__ = ["LOCK", "WriterLock"]

LOCK = "writer.lock"
"""Name of the file in the folder of a run. Its only line is JSON: host, pid, started, owner."""
_log = logging.getLogger("archive.checkpoints")


class WriterLock:
    """The right to go on with a run, for one process at a time.

    In a local folder it is a lock of the file `LOCK`, and ends with its process, however that ends. In a
    remote folder there is no lock: a round is created exclusively, and the second writer gets ExistsError.
    On a file system without locks a warning is logged, and the run goes on.

    A child of a fork neither has the lock nor lets go of it. A copy, or what is loaded from a pickle, has not
    taken it.

    Parameters
    ----------
    url : str or path-like
        Folder of the run, local or any URL of fsspec; it is made when the lock is taken.
    owner : str
        What takes the lock, for the message that another process gets.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Examples
    --------
    >>> with WriterLock("/tmp/fedarchive-doctest-locked", owner="FedAvg") as lock:
    ...     lock.taken
    True
    """

    def __init__(
        self, url: URL, *, owner: str = "", storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self.location: Location = locate_folder(url, storage_options)
        self._owner = owner
        self._file: LockFile | None = None

    @property
    def taken(self) -> bool:
        """Whether this process has the lock; False of a remote folder."""
        return self._file is not None and self._file.taken

    def take(self) -> None:
        """Take the lock, and prove that the folder can be written.

        Raises
        ------
        LockedError
            Another process has the lock.
        StorageError, UnsupportedURLError, MissingError
            Nothing can be saved in the folder, or nothing there can be removed.
        ClosedError
            The lock belongs to the process that forked this one.
        """
        proven = False
        try:
            if not self.location.remote:
                self._lock()
            self.probe()
            proven = True
        finally:
            if not proven:
                self.release()

    def probe(self) -> None:
        """Prove that the folder can be written: create a small file as a round is created, and remove it.

        Raises
        ------
        StorageError, UnsupportedURLError, MissingError
            As `take` says.
        """
        folder, options = self.location.path, self.location.options
        name = PROBE_PREFIX + secrets.token_hex(8)
        try:
            place = parse_url(make_place(folder, name, options), options)
            sink = locate_sink(place, overwrite=False, durable=False, push=False, nbytes=len(PROBES[0]))
            try:
                sink.write(PROBES[0], 0)
                sink.publish()
            finally:
                sink.discard()
            remove_file(folder, name, options)
        except (StorageError, UnsupportedURLError, MissingError) as error:
            error.problem = f"no round can be saved in this folder: {error.problem}"
            raise

    def release(self) -> None:
        """Let go of the lock; harmless where it was not taken."""
        if self._file is not None:
            self._file.release()

    def __enter__(self) -> WriterLock:
        self.take()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(WriterLock, owner=self._owner), (self.location,)

    def _lock(self) -> None:
        if self._file is None:
            path = make_place(self.location.path, LOCK)
            self._file = LockFile(path)
        if not self._file.take(self._text()):
            raise LockedError(
                f"another process writes this run: {_holder(self._file.read())}",
                path=self.location.display,
                errno=errno.EBUSY,
                remedy="wait until it ends, or end it; or save this run under another url or experiment",
            )
        if not self._file.exclusive:
            _log.warning(
                "fedarchive: %s is on a file system without locks: start no second process that writes there",
                self.location.display,
            )

    def _text(self) -> bytes:
        facts = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "owner": self._owner[:200],
        }
        return json.dumps(facts).encode() + b"\n"


def _holder(text: bytes) -> str:
    """Return who has a lock, as far as its file says."""
    try:
        facts = json.loads(text.partition(b"\n")[0])
        owner = f" ({facts['owner']})" if facts["owner"] else ""
        found = f"process {int(facts['pid'])} on {facts['host']}, since {facts['started']}{owner}"
        return found if found.isprintable() else ascii(found)
    except (ValueError, KeyError, OverflowError, TypeError, RecursionError):  # somebody else wrote the file
        return "its lock file does not say which"
