"""What file systems do, and what stands in where one of them does not: locks, syncs, room reserved ahead."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os

__all__ = [
    "close_unlocked",
    "hold",
    "leads_to",
    "lock_file",
    "reserve",
    "sync_file",
    "sync_folder",
]

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks says."""
_NO_RESERVATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that cannot reserve room."""

_libc = ctypes.CDLL(None, use_errno=True)
# posix_fallocate of glibc writes a byte to every block where the file system reserves nothing: 16,642 writes
# on a mount of an object store. macOS has neither function
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def reserve(fd: int, start: int, nbytes: int) -> bool:
    """Reserve room for a range of a file, which grows by it; False where the file system reserves nothing.

    Raises
    ------
    OSError
        The disk is full, or refused.
    """
    while _fallocate is not None:
        if not _fallocate(fd, 0, start, nbytes):
            return True
        number = ctypes.get_errno()
        if number in _NO_RESERVATION:
            break
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return False


def hold(fd: int, path: str) -> bool:
    """Hold a file that was just made, and tell whether its name still leads to it.

    True also on a file system without locks (Lustre mounted noflock): nobody removes anything there.
    """
    return _lock(fd, fcntl.LOCK_SH, unlocked=True) and leads_to(path, fd)


def lock_file(fd: int, *, unlocked: bool = True) -> bool:
    """Lock a file as its only user; False where somebody has it, ``unlocked`` where there are no locks."""
    return _lock(fd, fcntl.LOCK_EX, unlocked=unlocked)


def close_unlocked(fd: int) -> None:
    """Let go of a file; its lock too, which the child of a fork may share and would keep.

    What a close could tell was told by the sync before it.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(fd)


def leads_to(path: str, fd: int, dir_fd: int | None = None) -> bool:
    """Tell whether a name leads to an open file: it may have been published, removed or replaced."""
    try:
        named = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def sync_file(fd: int) -> None:
    """Make the bytes of a file survive a power cut."""
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync does not reach the platter there
    if full is not None:
        fcntl.fcntl(fd, full)
    else:
        os.fsync(fd)


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(fd: int, how: int, *, unlocked: bool) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return unlocked
        raise
    return True
