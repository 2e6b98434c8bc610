"""Files of saves that consume their input: what arrived outlives a failure, under ``NAME.partial``."""

from __future__ import annotations

import errno
import itertools
import os

from archive.errors import MissingError, StorageError
from archive.storage.journal import SUFFIX
from archive.storage.sink import AtomicFile
from archive.storage.slots import lock_file

__all__ = ["CompletedFile", "PartialFile"]


class PartialFile(AtomicFile):
    """An AtomicFile whose temporary file is ``NAME.partial``, which no other save removes.

    For saves that consume their input: what a failed one leaves is the only copy.
    """

    @property
    def partial(self) -> str:
        """Path of the temporary file."""
        return self._temporary

    @property
    def url(self) -> str:
        """Where it will appear."""
        return self.path

    def __del__(self) -> None:
        # what arrived is the only copy: nothing but success removes it
        if getattr(self, "_fd", -1) >= 0:
            self.leave()

    def _take_slot(self) -> tuple[str, int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        for number in itertools.count(1):
            path = f"{self.path}.partial" + (f"-{number}" if number > 1 else "")
            if os.path.lexists(path + SUFFIX):
                continue  # of a partial file that was moved away: it may be needed yet
            try:
                fd = os.open(path, flags, 0o666)
            except FileExistsError:
                continue
            try:
                lock_file(fd)
            except OSError:
                os.close(fd)
                os.unlink(path)
                raise
            return path, fd
        raise AssertionError("unreachable")


class CompletedFile(PartialFile):
    """A partial file taken up again, to be completed in place.

    Parameters
    ----------
    path : str
        Path of the partial file.

    Raises
    ------
    MissingError, StorageError
        It is not there, or its writer is still at work.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._overwrite = self._durable = True
        self._folder, self._name = os.path.split(self.path)
        self._temporary = self.path
        self._reserved = self._pushed = 0
        self._push = False
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise MissingError(
                "no such file", path=path, errno=errno.ENOENT, remedy="check the path"
            ) from error
        except OSError as error:
            raise self._failure("cannot open the partial file", error) from error
        if not lock_file(self._fd):
            self.leave()
            raise StorageError(
                "the save is still running",
                path=path,
                errno=errno.EBUSY,
                remedy="wait for it, or stop it first",
            )
