"""Names for temporary files that a killed writer may leave: taken over by lock, or removed.

``.NAME.0.tmp`` to ``.NAME.7.tmp``, each held by an advisory lock while its file is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

__all__ = ["NO_LOCKS", "SLOTS", "is_held", "lock_slot", "remove_stale"]

SLOTS = 8
"""Writers of one name that may run side by side under predictable names."""
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks says."""
_NOT_OURS = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ENOENT)
"""A slot that is a link, a folder, a socket, what a killed writer of another user left, or just gone: the
next one will do."""


def lock_slot(path: str, *, create: bool) -> int | None:
    """Open and lock a slot; None where another writer holds it, or it is none of ours."""
    opened = _open_slot(path, create)
    if opened is None:
        return None
    fd, created = opened
    try:
        # without locks (Lustre mounted noflock) only a file that did not exist is ours alone
        if _is_ours(fd, path, unlocked=created):
            if not created or os.lseek(fd, 0, os.SEEK_END):
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
    return None


def _open_slot(path: str, create: bool) -> tuple[int, bool] | None:
    """Return a descriptor and whether the file is new; None where it is nothing that could be ours."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    if create:
        try:
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            pass
    try:
        return os.open(path, flags | os.O_NONBLOCK), False
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise


def is_held(path: str) -> bool:
    """Tell whether a writer holds a slot, or might: `remove_stale` would leave it there. Changes nothing."""
    opened = _open_slot(path, create=False)
    if opened is None:
        return True
    try:
        fcntl.flock(opened[0], fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if not isinstance(error, BlockingIOError) and error.errno not in NO_LOCKS:
            raise
        return True
    finally:
        os.close(opened[0])
    return False


def remove_stale(path: str) -> None:
    """Remove a slot that a killed writer left behind."""
    fd = lock_slot(path, create=False)
    if fd is not None:
        try:
            os.unlink(path)
        finally:
            os.close(fd)


def _is_ours(fd: int, path: str, *, unlocked: bool) -> bool:
    """Lock an open slot and tell whether its name still leads to it and to nothing else.

    Between open and lock its writer may have renamed it to its target, which must not be touched;
    and a file that somebody else planted could be changed under us.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return unlocked
        raise
    try:
        opened, named = os.fstat(fd), os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino) or opened.st_uid != os.geteuid():
        return False
    if opened.st_nlink > 1:
        # an exclusive save was killed between link and unlink: its file is published, this name is litter
        os.unlink(path)
        return False
    return stat.S_ISREG(opened.st_mode)
