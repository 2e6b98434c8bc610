"""Failed requests as the errors that callers see: each names the object, none a credential."""

from __future__ import annotations

import errno
import re

from archive.errors import ArchiveError, ExistsError, MissingError, ReplacedError, StorageError
from archive.storage.remote.clients.retry import Fault, Kind

__all__ = ["cause_of", "exists_error", "failure_of", "replaced_error", "setup_problem"]

_NUMBERS = {
    Kind.TRANSIENT: errno.EIO,
    Kind.UNREACHABLE: errno.EHOSTUNREACH,
    Kind.NO_SUCH_SERVER: errno.EHOSTUNREACH,
    Kind.CONFLICT: errno.EBUSY,
    Kind.RANGE: errno.EIO,
    Kind.DENIED: errno.EACCES,
    Kind.UNSUPPORTED: errno.ENOTSUP,
    Kind.UNPROVEN: errno.EIO,
    Kind.REFUSED: errno.EIO,
}
_NETWORK = "check the network, the host name and endpoint_url in storage_options"
_REMEDIES = {
    Kind.TRANSIENT: "try again",
    Kind.UNREACHABLE: _NETWORK,
    Kind.NO_SUCH_SERVER: _NETWORK,
    Kind.CONFLICT: "somebody else is writing it: try again",
    Kind.RANGE: "open it again",
    Kind.DENIED: "check the credentials in storage_options or the environment, and what they may do",
    Kind.UNSUPPORTED: "use another server",
    Kind.UNPROVEN: "check endpoint_url in storage_options",
    Kind.REFUSED: "check the URL and storage_options",
}

_UNKNOWN_OPTION = re.compile(r"unexpected keyword argument '([A-Za-z_][A-Za-z0-9_]{0,63})'")


def cause_of(error: BaseException) -> BaseException | None:
    """Return the cause of an error of ours; None where the cause repeats a URL, which may be signed."""
    behind: BaseException | None = error
    while behind is not None:
        if "://" in str(behind):
            return None
        behind = behind.__cause__ or behind.__context__
    return error


def setup_problem(error: BaseException) -> str:
    """Return why a client cannot be set up: the option that it does not know, or the error's type.

    The rest of the error's text is not shown, which may repeat a secret.

    Examples
    --------
    >>> setup_problem(TypeError("f() got an unexpected keyword argument 'endpoint'"))
    "unknown option 'endpoint'"
    """
    found = _UNKNOWN_OPTION.search(str(error))
    return f"unknown option {found[1]!r}" if found else type(error).__name__


def failure_of(fault: Fault, url: str) -> ArchiveError:
    """Return the error of a request that failed for good."""
    if fault.kind is Kind.MISSING:
        return MissingError(
            fault.problem, path=url, errno=errno.ENOENT, remedy=fault.remedy or "check the URL"
        )
    return StorageError(
        fault.problem,
        path=url,
        errno=_NUMBERS[fault.kind],
        remedy=fault.remedy or _REMEDIES[fault.kind],
    )


def replaced_error(url: str, *, removed: bool = False) -> ReplacedError:
    """Return the error of a handle whose object is another one by now, or gone."""
    return ReplacedError(
        f"the object was {'removed' if removed else 'replaced'} while it was open",
        path=url,
        errno=errno.ESTALE,
        remedy="open it again",
    )


def exists_error(url: str) -> ExistsError:
    """Return the error of an exclusive write that came second."""
    return ExistsError(
        "an object is already there",
        path=url,
        errno=errno.EEXIST,
        remedy="choose another name, or overwrite=True",
    )
