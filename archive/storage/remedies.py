"""What helps against an error of the operating system, by its number."""

from __future__ import annotations

import errno

__all__ = ["SYSTEM_ERRNOS", "remedy_of"]

SYSTEM_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
"""What the system says of itself, and not of the file."""

_TOO_MANY = "too many files are open: close some, or raise the limit (ulimit -n)"
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EFBIG: "the file is larger than the system allows (ulimit -f, or FAT)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions of the folder",
    errno.ENAMETOOLONG: "choose a shorter file name",
    errno.ENOTDIR: "part of the path is a file: check the path",
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.EBUSY: "a file that is mounted by itself, as containers do: mount its folder, or save elsewhere",
}


def remedy_of(number: int | None, otherwise: str) -> str:
    """Return what helps against an error of the system; ``otherwise`` where nothing certain is known.

    Examples
    --------
    >>> remedy_of(errno.ENOSPC, "check the disk"), remedy_of(None, "check the disk")
    ('free some space', 'check the disk')
    """
    return _REMEDIES.get(number or 0, otherwise)
