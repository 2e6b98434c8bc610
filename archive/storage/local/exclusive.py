"""A name that must be free: given exclusively by whatever the file system offers for it."""

from __future__ import annotations

import contextlib
import errno
import os
import time

from archive import system
from archive.errors import StorageError
from archive.owner import Descriptor
from archive.storage.local.source import filesystem_of
from archive.storage.local.volumes import close_unlocked

__all__ = ["place_new"]

_NO_EXCLUSIVE_RENAME = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without exclusive renames says (NFS, exFAT), and a system without renameat2."""
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What a file system without hard links says, or one whose limit of them is reached."""
_NOREPLACE, _AT_FDCWD = 1, -100
LOCK_SECONDS = 30.0
"""How long another save may hold the lock of a folder, which it needs for one rename."""


def place_new(temporary: str, path: str, *, dir_fd: int | None = None) -> None:
    """Give a file a name that must be free, in the same folder.

    By an exclusive rename, or a hard link where there is none (NFS). Where there are no hard links either
    (exFAT, mounts of object stores), by a look and a rename under a lock of the folder: that is exclusive
    among the processes of one machine that place new files by this function.

    Parameters
    ----------
    temporary, path : str
        With a hard link, ``temporary`` stays as a second name.
    dir_fd : int, optional
        Folder that relative paths are taken from.

    Raises
    ------
    FileExistsError
        The name is not free.
    StorageError
        The file system can do none of the three.
    OSError
    """
    number = _rename_exclusively(temporary, path, dir_fd)
    if not number:
        return
    if number not in _NO_EXCLUSIVE_RENAME:
        raise OSError(number, os.strerror(number), path)
    try:
        os.link(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        return
    folder = Descriptor()
    try:
        flags = os.O_RDONLY | system.O_DIRECTORY
        _lock_folder(folder.open(os.path.dirname(path) or ".", flags, dir_fd=dir_fd), path)
        with contextlib.suppress(FileNotFoundError):
            os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    finally:
        close_unlocked(folder)


def _rename_exclusively(temporary: str, path: str, dir_fd: int | None) -> int:
    """Rename a file unless the name is taken; return the system's error number, 0 for success."""
    folder = _AT_FDCWD if dir_fd is None else dir_fd
    while system.renameat2(folder, os.fsencode(temporary), folder, os.fsencode(path), _NOREPLACE):
        number = system.get_errno()
        if number != errno.EINTR:
            return number
    return 0


def _lock_folder(fd: int, path: str) -> None:
    """Lock an open folder, and wait for who has it.

    Raises
    ------
    StorageError
        There are no locks, or somebody keeps the folder locked.
    """
    end = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < end:
        try:
            system.flock(fd, system.LOCK_EX | system.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.002)
        except OSError as error:
            raise StorageError(
                f"the file system {filesystem_of(os.fstat(fd).st_dev) or 'of this folder'} has no exclusive "
                "renames, no hard links and no locks of folders, so that no writer is sure to be the first",
                path=path,
                errno=errno.EOPNOTSUPP,
                remedy="save with overwrite=True, or on another file system",
            ) from error
        else:
            return
    raise StorageError(
        f"another process keeps the folder locked for {LOCK_SECONDS:.0f} s",
        path=path,
        errno=errno.EBUSY,
        remedy="end that process (lsof names it), or save with overwrite=True",
    )
