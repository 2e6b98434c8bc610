"""The tree of errors, grouped by what a handler can do.

::

    ArchiveError                         every error of this package about an archive
    ├── NotAnArchiveError  (ValueError)  not an archive, or no longer: open with foreign=True, or reindex
    ├── TruncatedError     (EOFError)    shorter than its footer states: fetch it again, or take an older one
    ├── VersionError       (ValueError)  written by a newer format: upgrade fedarchive
    ├── DamagedError       (ValueError)  an archive whose index or metadata fail their digest
    │   └── DigestError                  the bytes of one array fail their digest
    ├── HostileFileError   (ValueError)  digests hold, but the content breaks the rules
    ├── ReplacedError      (OSError)     another version is there by now: open it again
    ├── PartialSaveError                    a consuming save failed; `partial` names the file of what arrived
    ├── ClosedError        (ValueError)  the handle was closed
    ├── UnsupportedDtypeError (TypeError)   an element type that no archive holds, or this ml_dtypes lacks
    ├── ValueRangeError    (ValueError)  a value or name that the format, or this numpy, cannot hold
    ├── UnsupportedURLError (ValueError) a URL this version does not read or write
    ├── NonFiniteError     (ValueError)  NaN or infinity in arrays that a store refuses: nothing was saved
    ├── MissingError       (FileNotFoundError)
    ├── ExistsError        (FileExistsError)
    ├── LockedError        (OSError)     another process writes this run: wait for it, or name another run
    └── StorageError       (OSError)     the disk or the network failed; errno has the number

    ArchiveWarning         (UserWarning)    every warning of this package about archives
    ├── SkippedWarning                      archives of many were left out, as the call asked for
    ├── NonFiniteWarning                    NaN or infinity in arrays that a store saved
    └── CatalogueWarning                    a run is whole, and its history will take longer

Each error has the problem, its place (path, byte offset, record and key) and a remedy. The code that finds
the fault makes the error with its place. Pure functions that know no place raise TypeError or ValueError,
and their caller makes the error.
"""

from __future__ import annotations

import os
import sys
import warnings

__all__ = [
    "ArchiveError",
    "ArchiveWarning",
    "CatalogueWarning",
    "ClosedError",
    "DamagedError",
    "DigestError",
    "ExistsError",
    "HostileFileError",
    "LockedError",
    "MissingError",
    "NonFiniteError",
    "NonFiniteWarning",
    "NotAnArchiveError",
    "PartialSaveError",
    "ReplacedError",
    "SkippedWarning",
    "StorageError",
    "TruncatedError",
    "UnsupportedDtypeError",
    "UnsupportedURLError",
    "ValueRangeError",
    "VersionError",
]


class ArchiveError(Exception):
    """Base of every error of this package about an archive.

    Parameters
    ----------
    problem : str
        The fault, in one sentence without a full stop.
    path : str, optional
        The file.
    offset : int, optional
        Byte offset in that file.
    key : str, optional
        Record and key, as ``record/key``; of a foreign file the HDF5 path.
    remedy : str, optional
        What the caller can do.

    Attributes
    ----------
    partial : str or None
        File that a failed save with ``keep_input=False`` left; `archive.recover` opens it.

    Examples
    --------
    >>> print(ArchiveError("the index is short", path="m.h5", offset=96, remedy="fetch it again"))
    m.h5: the index is short (at byte 96); fetch it again
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        key: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path
        self.offset = offset
        self.key = key
        self.remedy = remedy
        self.partial: str | None = None

    def __str__(self) -> str:
        text = self.problem
        if self.key is not None:
            text = f"{self.key!r}: {text}"
        if self.path is not None:
            text = f"{self.path}: {text}"
        if self.offset is not None:
            text = f"{text} (at byte {self.offset})"
        return f"{text}; {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        # exceptions cross process pools, and the default loses keyword arguments
        return (_rebuild, (type(self), self.__dict__.copy()))


class NotAnArchiveError(ArchiveError, ValueError):
    """The file carries no archive footer at its end."""


class TruncatedError(ArchiveError, EOFError):
    """The file is shorter (or longer) than its own record of its length."""


class VersionError(ArchiveError, ValueError):
    """The file has a format version that this reader does not know."""


class DamagedError(ArchiveError, ValueError):
    """The file is an archive whose metadata or index fails its digest."""


class DigestError(DamagedError):
    """The bytes of an array do not match their digest."""


class HostileFileError(ArchiveError, ValueError):
    """The file's digests hold, but its structure breaks a rule of the format."""


class PartialSaveError(ArchiveError):
    """A save with ``keep_input=False`` failed; ``partial`` has the arrays so far, ``__cause__`` the cause."""


class ClosedError(ArchiveError, ValueError):
    """The archive handle was closed before its bytes were used."""


class UnsupportedDtypeError(ArchiveError, TypeError):
    """An element type that cannot be stored or restored."""


class ValueRangeError(ArchiveError, ValueError):
    """A value, name or size that the format, or the installed numpy, cannot hold."""


class NonFiniteError(ArchiveError, ValueError):
    """An array that is saved has NaN or infinities, and ``check="error"`` refuses them."""


class UnsupportedURLError(ArchiveError, ValueError):
    """A URL that this version neither reads nor writes."""


class _SystemError(ArchiveError, OSError):
    """An ArchiveError that is also the OSError a caller expects, with its errno."""

    strerror: str

    def __init__(
        self,
        problem: str,
        *,
        path: str | None = None,
        offset: int | None = None,
        key: str | None = None,
        remedy: str | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(problem, path=path, offset=offset, key=key, remedy=remedy)
        self.errno = errno
        self.strerror = os.strerror(errno) if errno is not None else problem
        self.filename = path

    def __reduce__(self) -> tuple[object, ...]:
        # errno, strerror and filename are members of OSError, not of __dict__
        state = {"errno": self.errno, "strerror": self.strerror, "filename": self.filename}
        return (_rebuild, (type(self), self.__dict__ | state))


class MissingError(_SystemError, FileNotFoundError):
    """No file is at that path."""


class ExistsError(_SystemError, FileExistsError):
    """A file is already at that path and overwriting was not allowed."""


class LockedError(_SystemError):
    """Another process has the lock of a run; the problem names the process."""


class ReplacedError(_SystemError):
    """The file or object was replaced, cut or removed since it was opened."""


class StorageError(_SystemError):
    """The operating system or the network failed; ``errno`` is the number of the system."""


class ArchiveWarning(UserWarning):
    """Base of every warning of this package about archives."""


class SkippedWarning(ArchiveWarning):
    """Archives that cannot be read were left out of a result, as ``errors="skip"`` asks for."""


class NonFiniteWarning(ArchiveWarning):
    """An array that was saved has NaN or infinities."""


class CatalogueWarning(ArchiveWarning):
    """A round was saved, but the catalogue of its run was not: `CheckpointStore.history` reads more files."""


def warn_caller(warning: ArchiveWarning) -> None:
    """Issue a warning at the line that called this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "archive":
        frame = frame.f_back
        level += 1
    warnings.warn(warning, stacklevel=level)


def _rebuild(kind: type[ArchiveError], state: dict[str, object]) -> ArchiveError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["problem"])
    for name, value in state.items():
        setattr(error, name, value)
    return error
