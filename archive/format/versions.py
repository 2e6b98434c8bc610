"""What this reader does not know: of a later minor version it is news, else it is forged ([VERSION-4])."""

from __future__ import annotations

from archive.errors import HostileFileError, VersionError
from archive.format.constants import VERSION_MAJOR, VERSION_MINOR

__all__ = ["unknown_feature"]


def unknown_feature(
    problem: str, minor: int, *, path: str | None = None, offset: int | None = None
) -> HostileFileError | VersionError:
    """Return the error for an unknown flag, mode, kind, value type, container, or reserved field that is set.

    Parameters
    ----------
    problem : str
        What is unknown.
    minor : int
        The footer's minor version.
    path : str, optional
    offset : int, optional

    Examples
    --------
    >>> type(unknown_feature("an unknown flag", 0)).__name__
    'HostileFileError'
    >>> print(unknown_feature("an unknown flag", 3))
    format version 1.3 uses what this reader does not know: an unknown flag; upgrade fedarchive
    """
    if minor <= VERSION_MINOR:
        return HostileFileError(problem, path=path, offset=offset)
    return VersionError(
        f"format version {VERSION_MAJOR}.{minor} uses what this reader does not know: {problem}",
        path=path,
        offset=offset,
        remedy="upgrade fedarchive",
    )
