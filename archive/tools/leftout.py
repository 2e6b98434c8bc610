"""Archives that were left out of a result over many, and which may be; as texts in a partial sum too."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass

from archive import errors
from archive.errors import ArchiveError, LockedError, StorageError, UnsupportedURLError
from archive.storage.remedies import SYSTEM_ERRNOS
from archive.storage.url import is_remote

__all__ = ["Skipped", "decode_skipped", "encode_skipped", "is_bad_input", "without_traceback"]

_NETWORK_ERRNOS = (
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ETIMEDOUT),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN),
)
"""What a network file system says when its server does not answer."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """An archive that was left out."""

    position: int
    """Its place among all that were given."""
    path: str
    """As the caller named it, without secrets."""
    error: ArchiveError
    """What was wrong with it."""


def is_bad_input(error: ArchiveError) -> bool:
    """Return whether an error is one of the archive that it names: missing, damaged, not what it should be.

    Other errors say that nobody can tell: a server does not answer, is overloaded or refuses; no descriptors
    or memory are left; a package is not installed. These end every call over many archives, whatever its
    ``errors=``: a result without the archives of a server that was away looks like a whole one.

    Examples
    --------
    >>> from archive.errors import MissingError
    >>> is_bad_input(MissingError("no such file", path="/clients/3.h5"))
    True
    >>> is_bad_input(StorageError("no answer", path="s3://clients/3.h5", errno=errno.EHOSTUNREACH))
    False
    """
    if isinstance(error, StorageError):
        number = error.errno
        return not is_remote(error.path or "") and number not in (*SYSTEM_ERRNOS, *_NETWORK_ERRNOS)
    return not isinstance(error, UnsupportedURLError | LockedError)


def without_traceback(error: ArchiveError) -> ArchiveError:
    """Return an error that is kept: its traceback holds what was read of the archive, some 70 KB of each.

    Examples
    --------
    >>> from archive.errors import MissingError
    >>> try:
    ...     raise MissingError("no such file", path="/clients/3.h5")
    ... except MissingError as error:
    ...     without_traceback(error).__traceback__ is None
    True
    """
    seen: BaseException | None = error
    while seen is not None and seen.__traceback__ is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error


def encode_skipped(one: Skipped) -> str:
    """Return a text that `decode_skipped` reads."""
    error = one.error
    fields = {name: getattr(error, name) for name in ("problem", "path", "offset", "key", "remedy")}
    return json.dumps({"position": one.position, "named": one.path, "kind": type(error).__name__, **fields})


def decode_skipped(entry: object) -> Skipped:
    """Return what a text says; ValueError, TypeError or KeyError where nobody of ours wrote it."""
    if not isinstance(entry, str):
        raise TypeError("an entry is a text")
    fields = json.loads(entry)
    position, named, kind = (fields.pop(name) for name in ("position", "named", "kind"))
    if kind not in errors.__all__ or type(position) is not int or not isinstance(named, str):
        raise ValueError("not an entry of ours")
    return Skipped(position, named, getattr(errors, kind)(str(fields.pop("problem")), **fields))
