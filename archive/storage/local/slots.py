"""Names for temporary files that a killed writer may leave: held by a lock while their writer lives.

``.NAME.0.tmp`` to ``.NAME.7.tmp``. A slot belongs to whoever creates its file, which nobody takes over. Its
writer holds a shared lock on the file until it is published or removed. Shared, because libhdf5 takes a
shared lock to read: what has just been renamed to its place must be readable. Only the holder of the
exclusive lock may remove a slot, and looks under the lock whether the name still leads to the file, and
whether the file begins as an archive does: such a name alone proves nothing. A file of another format proves
nothing by its content, so its slots are called ``.NAME.0.fedarchive.tmp``, a name that no other program uses.

So a slot whose writer has the lock is not removed. Where another process is faster, between the creation of
a file and the lock on it, the writer is refused the lock, or finds that the name is gone, and goes on to the
next slot: nothing was written yet. A lock is never converted from exclusive to shared: for a moment there
would be none, and somebody else could get it.
"""

from __future__ import annotations

import errno
import os
import stat

from archive import system
from archive.owner import Descriptor
from archive.storage.local.volumes import is_held_here, leads_to, lock_file

__all__ = [
    "HEAD_BYTES",
    "MARKED",
    "SLOTS",
    "begins_as_archive",
    "remove_stale",
]

SLOTS = 8
"""Writers of one name that may run side by side under predictable names."""
MARKED = ".fedarchive.tmp"
"""How slots end of files that are no archives."""
HEAD_BYTES = 4096
"""Bytes before the first array (DATA_AT of `archive.format.constants`)."""
_SUPERBLOCK = b"\x89HDF\r\n\x1a\n\x02\x08\x08"
"""How a superblock begins (`archive.format.footer.parse_superblock_eof`)."""
_SUPERBLOCK_BYTES = 48
_NOT_OURS = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENOENT)
"""A slot that is a link, a folder, a socket, what a killed writer of another user left, or just gone: the
next one will do."""


def begins_as_archive(head: bytes) -> bool:
    """Tell whether a file may be an archive, whole or in the making, by its first `HEAD_BYTES`.

    An archive begins with its superblock and zeros. A stream writes these bytes last: until then all of
    them are zeros.

    Examples
    --------
    >>> begins_as_archive(b""), begins_as_archive(bytes(4096)), begins_as_archive(b"notes")
    (True, True, False)
    """
    superblock, rest = head[:_SUPERBLOCK_BYTES], head[_SUPERBLOCK_BYTES:HEAD_BYTES]
    return not rest.strip(b"\0") and (superblock.startswith(_SUPERBLOCK) or not superblock.strip(b"\0"))


def remove_stale(path: str, *, dir_fd: int | None = None, dry_run: bool = False) -> bool:
    """Remove a slot that a killed writer left behind.

    Parameters
    ----------
    path : str
    dir_fd : int, optional
        Folder that a relative path is taken from.
    dry_run : bool
        Change nothing.

    Returns
    -------
    bool
        Whether it is gone, or would be. False where a writer holds it, and for a file that is not ours.
    """
    if is_held_here(path, dir_fd):
        return False
    with Descriptor() as file:
        try:
            fd = file.open(path, _FLAGS | system.O_NONBLOCK, dir_fd=dir_fd)
        except OSError as error:
            if error.errno in _NOT_OURS:
                return False
            raise
        if not _is_stale(fd, path, dir_fd):
            return False
        if not dry_run:
            os.unlink(path, dir_fd=dir_fd)
        return True


def _is_stale(fd: int, path: str, dir_fd: int | None) -> bool:
    """Lock an open slot and tell whether a killed writer left it: nobody holds it, and it is ours."""
    status = os.fstat(fd)
    return (
        stat.S_ISREG(status.st_mode)
        and system.geteuid() in (0, status.st_uid)  # root gives its file to the owner of the old one
        and lock_file(fd, unlocked=False)
        and leads_to(path, fd, dir_fd)
        and (path.endswith(MARKED) or begins_as_archive(system.pread(fd, HEAD_BYTES, 0)))
    )


_FLAGS = os.O_RDWR | system.O_NOFOLLOW | system.O_CLOEXEC
