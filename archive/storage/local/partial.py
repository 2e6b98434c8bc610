"""Files of saves that consume their input: what arrived outlives a failure, under ``NAME.partial``."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import Any

from archive import system
from archive.errors import ArchiveError, MissingError, NotAnArchiveError, StorageError
from archive.owner import Descriptor, unforked
from archive.storage.local.journal import has_journal
from archive.storage.local.sink import AtomicFile
from archive.storage.local.slots import HEAD_BYTES, begins_as_archive
from archive.storage.local.source import FileSource
from archive.storage.local.volumes import hold, is_held_here, lock_file, sync_folder

__all__ = ["CompletedFile", "PartialFile"]

_NO_FOLDER_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)
"""What file systems say that sync no folders, and folders that must not be read."""


class PartialFile(AtomicFile):
    """An AtomicFile whose temporary file is ``NAME.partial``, which no other save removes.

    For saves that consume their input: what a failed one leaves is the only copy.
    """

    _written = False

    @property
    def partial(self) -> str:
        """Path of the temporary file."""
        return self._temporary

    @property
    def url(self) -> str:
        """Where it will appear."""
        return self.path

    def secure(self) -> None:
        """Make the bytes survive a power cut, whether or not the save is to be durable.

        For what a failed save leaves: it is the only copy.

        Raises
        ------
        StorageError
        """
        fd = self.fileno()
        try:
            system.fsync(fd)
        except OSError as error:
            raise self._failure("the partial file may not survive a power cut", error) from error

    def secure_names(self) -> None:
        """Make the names of partial file and journal survive a power cut, and what was removed stay removed.

        Raises
        ------
        StorageError
        """
        try:
            sync_folder(self._folder)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise self._failure("the partial file may not survive a power cut", error) from error

    def write(self, buffer: Any, offset: int) -> None:
        """Write a contiguous buffer at ``offset``; several threads may, each its own."""
        self._written = True
        super().write(buffer, offset)

    def __del__(self) -> None:
        # what arrived is the only copy: nothing but success removes it
        if hasattr(self, "_file"):
            if self._written:
                self.leave()
            else:
                self.discard()

    def _take_slot(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | system.O_NOFOLLOW | system.O_CLOEXEC
        for number in itertools.count(1):
            path = f"{self.path}.partial" + (f"-{number}" if number > 1 else "")
            if has_journal(path):
                continue  # of a partial file that was moved away: it may be needed yet
            self._temporary = path
            try:
                with unforked():
                    self.owner.require_here()
                    fd = self._file.open(path, flags, self._mode)
            except FileExistsError:
                continue
            if hold(fd, path):
                return
            self._file.close()  # somebody is about to complete it, or it was removed
        raise AssertionError("unreachable")


class CompletedFile(PartialFile):
    """A partial file taken up again, to be completed in place.

    A file that is written to must be the one that was named, and a save's: no link, no second name of
    another file, and its first bytes those of an archive in the making.

    Parameters
    ----------
    path : str
        Path of the partial file, absolute.

    Raises
    ------
    MissingError, StorageError
        It is not there, it is a link, or its writer is still at work.
    NotAnArchiveError
        It is the file of something else.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._overwrite = self._durable = True
        self._folder, self._name = os.path.split(self.path)
        self._reserved = self._pushed = 0
        self._push = False
        self._begin()
        self._written = True
        self._temporary = self.path
        flags = os.O_RDWR | system.O_NOFOLLOW | system.O_NONBLOCK | system.O_CLOEXEC
        if is_held_here(path):
            raise _still_running(path)
        try:
            with unforked():
                fd = self._file.open(self.path, flags)
            held = not lock_file(fd)
            problem = self._problem()
        except FileNotFoundError as error:
            raise MissingError(
                "no such file", path=path, errno=errno.ENOENT, remedy="check the path"
            ) from error
        except OSError as error:
            self.leave()  # who holds on to the error would keep the lock
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise StorageError(
                    "is a link, which is not followed", path=path, errno=errno.ELOOP, remedy="name the file"
                ) from error
            raise self._failure("cannot open the partial file", error) from error
        if held:
            self.leave()
            raise _still_running(path)
        if problem is not None:
            self.leave()
            raise problem

    def open_source(self) -> FileSource:
        """Open the file for reading, under the lock.

        Raises
        ------
        StorageError
        """
        try:
            return FileSource(self.path, Descriptor([os.dup(self.fileno())]), os.fstat(self.fileno()).st_size)
        except OSError as error:
            raise self._failure("cannot open the partial file", error) from error

    def _problem(self) -> ArchiveError | None:
        """Return why the open file must not be written to."""
        path, opened = self.path, os.fstat(self.fileno())
        if not stat.S_ISREG(opened.st_mode):
            return StorageError("not a file", path=path, errno=errno.EINVAL, remedy="name a file")
        if opened.st_nlink > 1:
            return StorageError(
                "has another name, under which it would be changed too",
                path=path,
                errno=errno.EMLINK,
                remedy="make a copy of it and of its journal, and recover that",
            )
        if not begins_as_archive(system.pread(self.fileno(), HEAD_BYTES, 0)):
            return NotAnArchiveError("not the partial file of a save", path=path, remedy="check the path")
        return None


def _still_running(path: str) -> StorageError:
    return StorageError(
        "the save is still running", path=path, errno=errno.EBUSY, remedy="wait for it, or stop it first"
    )
