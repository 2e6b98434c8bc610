"""Names for temporary files that a killed writer may leave: taken over by lock, or removed.

``.NAME.0.tmp`` to ``.NAME.7.tmp``, each held by an advisory lock while its file is written. A name alone
proves nothing: a file is taken over or removed only where it begins as an archive does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

__all__ = ["HEAD_BYTES", "SLOTS", "begins_as_archive", "lock_file", "lock_slot", "remove_stale"]

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


def lock_slot(path: str) -> int | None:
    """Make or take over a slot, and return its descriptor: empty, locked, and leading to nothing else.

    Returns
    -------
    int or None
        None where another writer holds the slot, or its file is not ours.
    """
    opened = _open_slot(path)
    if opened is None:
        return None
    fd, created = opened
    try:
        status = _claim(fd, path, None, created=created)
        if status is None:
            return None
        if status.st_nlink > 1:
            # an exclusive save was killed between link and unlink: its file is published, this name is litter
            os.unlink(path)
            return None
        if status.st_size:
            os.ftruncate(fd, 0)
        locked, fd = fd, -1
        return locked
    except OSError:
        if created:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    finally:
        if fd >= 0:
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
        if _claim(fd, path, dir_fd) is None:
            return False
        if not dry_run:
            os.unlink(path, dir_fd=dir_fd)
        return True
    finally:
        os.close(fd)


def lock_file(fd: int) -> bool:
    """Lock an open file, where the file system has locks; False where another holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _open_slot(path: str) -> tuple[int, bool] | None:
    """Return a descriptor and whether the file is new; None where it is nothing that could be ours."""
    try:
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        fd = _open_existing(path, None)
        return None if fd is None else (fd, False)


def _open_existing(path: str, dir_fd: int | None) -> int | None:
    try:
        return os.open(path, _FLAGS | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise


def _claim(fd: int, path: str, dir_fd: int | None, *, created: bool = False) -> os.stat_result | None:
    """Lock an open slot and return its status; None where it is held, or not ours.

    Between open and lock its writer may have renamed it to its target, which must not be touched;
    and a file that somebody else planted could be changed under us.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        # without locks (Lustre mounted noflock) only a file that did not exist is ours alone
        return os.fstat(fd) if created else None
    try:
        opened, named = os.fstat(fd), os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino) or opened.st_uid != os.geteuid():
        return None
    return opened if begins_as_archive(os.pread(fd, HEAD_BYTES, 0)) else None


_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
