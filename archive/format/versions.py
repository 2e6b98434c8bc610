"""Content that this reader does not know: an addition of a later minor version, or forged ([VERSION-4])."""

from __future__ import annotations

from archive.errors import HostileFileError, VersionError
from archive.format.constants import VERSION_MAJOR, VERSION_MINOR

__all__ = ["unknown_feature"]


def unknown_feature(
    problem: str,
    minor: int,
    *,
    path: str | None = None,
    offset: int | None = None,
    key: str | None = None,
) -> HostileFileError | VersionError:
    """Return the error for an unknown flag, mode, kind, value type, container, or reserved field that is set.

    Parameters
    ----------
    problem : str
        Names the unknown content.
    minor : int
        The footer's minor version.
    path, offset, key : optional
        Place of the content, as in `archive.errors.ArchiveError`.

    Examples
    --------
    >>> type(unknown_feature("an unknown flag", 0)).__name__
    'HostileFileError'
    >>> print(unknown_feature("an unknown flag", 3))
    format version 1.3 uses what this reader does not know: an unknown flag; upgrade fedarchive
    """
    if minor <= VERSION_MINOR:
        return HostileFileError(problem, path=path, offset=offset, key=key)
    return VersionError(
        f"format version {VERSION_MAJOR}.{minor} uses what this reader does not know: {problem}",
        path=path,
        offset=offset,
        key=key,
        remedy="upgrade fedarchive",
    )
