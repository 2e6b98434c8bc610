"""Names for temporary files that a killed writer may leave: held by a lock while their writer lives.

``.NAME.0.tmp`` to ``.NAME.7.tmp``. A slot belongs to whoever creates its file, which nobody takes over. Its
writer holds a shared lock on the file until it is published or removed. Shared, because libhdf5 takes a
shared lock to read: what has just been renamed to its place must be readable. Only the holder of the
exclusive lock may remove a slot, and looks under the lock whether the name still leads to the file, and
whether the file begins as an archive does: a name alone proves nothing.

So a slot whose writer has the lock is not removed. Where another process is faster, between the creation of
a file and the lock on it, the writer is refused the lock, or finds that the name is gone, and goes on to the
next slot: nothing was written yet. A lock is never converted from exclusive to shared: for a moment there
would be none, and somebody else could get it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

__all__ = [
    "HEAD_BYTES",
    "SLOTS",
    "begins_as_archive",
    "claim_slot",
    "close_unlocked",
    "hold",
    "leads_to",
    "lock_file",
    "remove_stale",
]

SLOTS = 8
"""Writers of one name that may run side by side under predictable names."""
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks says."""
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


def claim_slot(path: str) -> int | None:
    """Make and hold a slot, and return its descriptor.

    Returns
    -------
    int or None
        None where another writer holds the slot, or its file is not ours.
    """
    fd = _create(path)
    if fd is None:
        with contextlib.suppress(OSError):  # cleaning up is no reason not to save
            remove_stale(path)
        fd = _create(path)
    try:
        if fd is not None and hold(fd, path):
            held, fd = fd, None
            return held
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        if fd is not None:
            os.close(fd)
    return None


def hold(fd: int, path: str) -> bool:
    """Hold a file that was just made, and tell whether its name still leads to it.

    True also on a file system without locks (Lustre mounted noflock): nobody removes anything there.
    """
    return _lock(fd, fcntl.LOCK_SH, unlocked=True) and leads_to(path, fd)


def close_unlocked(fd: int) -> None:
    """Let go of a file; its lock too, which the child of a fork may share and would keep.

    What a close could tell was told by the sync before it.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(fd)


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
    fd = _open_existing(path, dir_fd)
    if fd is None:
        return False
    try:
        if not _is_stale(fd, path, dir_fd):
            return False
        if not dry_run:
            os.unlink(path, dir_fd=dir_fd)
        return True
    finally:
        os.close(fd)


def leads_to(path: str, fd: int, dir_fd: int | None = None) -> bool:
    """Tell whether a name leads to an open file: it may have been published, removed or replaced."""
    try:
        named = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def lock_file(fd: int) -> bool:
    """Lock a file as its only user, where the file system has locks; False where somebody has it."""
    return _lock(fd, fcntl.LOCK_EX, unlocked=True)


def _lock(fd: int, how: int, *, unlocked: bool) -> bool:
    """Lock a file; False where somebody's lock is in the way, ``unlocked`` where there are no locks."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return unlocked
        raise
    return True


def _create(path: str) -> int | None:
    """Make a slot; None where something is there already."""
    try:
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return None


def _open_existing(path: str, dir_fd: int | None) -> int | None:
    try:
        return os.open(path, _FLAGS | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise


def _is_stale(fd: int, path: str, dir_fd: int | None) -> bool:
    """Lock an open slot and tell whether a killed writer left it: nobody holds it, and it is ours."""
    status = os.fstat(fd)
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and _lock(fd, fcntl.LOCK_EX, unlocked=False)
        and leads_to(path, fd, dir_fd)
        and begins_as_archive(os.pread(fd, HEAD_BYTES, 0))
    )


_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
