"""What file systems do, and what stands in where one does not: locks, syncs, room, targets, attributes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from archive import system
from archive.errors import StorageError
from archive.owner import Descriptor

__all__ = [
    "GONE",
    "close_unlocked",
    "copy_range",
    "find_target",
    "hold",
    "is_held_here",
    "keep_attributes",
    "leads_to",
    "lock_file",
    "reserve",
    "sync_folder",
]

GONE = (errno.ENOENT, errno.ESTALE)
"""What the system says of a file that is gone; the second NFS of an open file that another client removed."""
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks says."""
_NO_RESERVATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that cannot reserve room."""
_ACL = "system.posix_acl_access"
_KEPT = ("user.", _ACL, "security.selinux")
"""Extended attributes that say what a file is and who may use it. Others, as of IMA, are about its bytes."""
_MAX_LINKS = 40
"""Links to links, as Linux follows them."""

_held: dict[int, tuple[int, int, int]] = {}
"""Held files by descriptor: process (a fork copies them), device and inode."""


def reserve(fd: int, start: int, nbytes: int) -> bool:
    """Reserve room for a range of a file, which grows by it; False where the file system reserves nothing.

    Raises
    ------
    OSError
        The disk is full, or refused.
    """
    while system.fallocate(fd, 0, start, nbytes):
        number = system.get_errno()
        if number in _NO_RESERVATION:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
    return True


def copy_range(source: int, start: int, target: int, offset: int, nbytes: int) -> bool:
    """Have the system copy a range of a file into another; False where it did not copy all of it.

    It refuses for many reasons: two file systems, a file system or kernel that cannot, a source that ends
    early. None is an error: who reads and writes the bytes instead finds what is wrong, and where.
    """
    try:
        while nbytes > 0:
            count = system.copy_file_range(source, target, nbytes, start, offset)
            if not count:
                return False
            start, offset, nbytes = start + count, offset + count, nbytes - count
    except OSError:
        return False
    return True


def hold(fd: int, path: str) -> bool:
    """Hold a file that was just made, and tell whether its name still leads to it.

    True also on a file system without locks (Lustre mounted noflock): nobody removes anything there.
    """
    held = _lock(fd, system.LOCK_SH, unlocked=True) and leads_to(path, fd)
    if held:
        _held[fd] = _identity(os.fstat(fd))
    return held


def is_held_here(path: str, dir_fd: int | None = None) -> bool:
    """Tell whether this process holds a file: where locks belong to processes, a lock keeps out others alone.

    Ask before opening the file: there the first close of it drops the lock.
    """
    try:
        return _identity(os.stat(path, dir_fd=dir_fd, follow_symlinks=False)) in list(_held.values())
    except OSError:
        return False


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return os.getpid(), status.st_dev, status.st_ino


def lock_file(fd: int, *, unlocked: bool = True) -> bool:
    """Lock a file as its only user; False where somebody has it, ``unlocked`` where there are no locks."""
    return _lock(fd, system.LOCK_EX, unlocked=unlocked)


def close_unlocked(file: Descriptor) -> None:
    """Let go of a file; its lock too, which the child of a fork may share and would keep.

    The sync before has reported every error of writing.
    """
    with contextlib.suppress(OSError, IndexError):
        _held.pop(file[0], None)
        system.flock(file[0], system.LOCK_UN)
    with contextlib.suppress(OSError, IndexError):
        next(map(os.close, map(file.pop, (0,))))  # as `Descriptor.close`


def leads_to(path: str, fd: int, dir_fd: int | None = None) -> bool:
    """Tell whether a name leads to an open file: it may have been published, removed or replaced."""
    try:
        named = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        return os.path.samestat(named, os.fstat(fd))
    except OSError as error:
        if error.errno in GONE:
            return False
        raise


def sync_folder(path: str) -> None:
    """Make the names in a folder survive a power cut."""
    with Descriptor() as file:
        system.fsync(file.open(path or ".", os.O_RDONLY | system.O_DIRECTORY))


def find_target(path: str) -> tuple[str, os.stat_result | None]:
    """Follow the links that a name is, and return the name of what is to be replaced, and its status.

    Links among the folders above are the system's matter. Of the name itself the system's own rule would not
    hold (fs.protected_symlinks), since links are read and not opened: in a folder that all may write to, only
    one's own links and those of root are followed.

    Returns
    -------
    str
    os.stat_result or None
        None where nothing is there, or nothing that can be seen.

    Raises
    ------
    StorageError
        A link must not be followed, something else than a regular file is there, or the name is too long.
    """
    named = path
    for _ in range(_MAX_LINKS):
        try:
            status = os.lstat(path)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", 0) == errno.ENAMETOOLONG:  # temporary names are shorter
                raise StorageError(
                    "the file name is too long",
                    path=named,
                    errno=errno.ENAMETOOLONG,
                    remedy="choose a shorter file name",
                ) from error
            return path, None  # what cannot be seen is refused, with its reason, where it is written
        if not stat.S_ISLNK(status.st_mode):
            _require_regular(status, named)
            return path, status
        try:
            _require_trusted(status, path)
            with contextlib.suppress(FileNotFoundError):
                _require_regular(os.stat(path), named)  # in /proc a link leads to what has no path
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise _link_failure(named, error) from error
    raise _link_failure(named, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))


def _link_failure(path: str, error: OSError) -> StorageError:
    return StorageError(
        f"a link that cannot be followed: {error.strerror}",
        path=path,
        errno=error.errno,
        remedy="remove it, or name the file that you mean",
    )


def _require_regular(status: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise StorageError("is a folder", path=path, errno=errno.EISDIR, remedy="name a file")
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(
            "is a pipe, socket or device, which is not replaced by a file",
            path=path,
            errno=errno.EINVAL,
            remedy="name a file, or remove it first",
        )


def _is_strange(status: os.stat_result, path: str) -> bool:
    """Tell whether another user made what is there, in a folder that all may write to, such as ``/tmp``."""
    if status.st_uid in (0, system.geteuid()):
        return False
    shared = stat.S_ISVTX | stat.S_IWOTH
    return os.stat(os.path.dirname(path)).st_mode & shared == shared


def _require_trusted(link: os.stat_result, path: str) -> None:
    if _is_strange(link, path):
        raise StorageError(
            "is another user's link in a folder that all may write to, and is not followed",
            path=path,
            errno=errno.EACCES,
            remedy="name the file that you mean",
        )


def keep_attributes(fd: int, path: str, before: os.stat_result | None) -> None:
    """Give an open file owner, group, mode and extended attributes of the file that it is about to replace.

    As far as the process may and the file system can set them. Where the group cannot be kept, the new group
    may do no more than everybody. Another user's file in a folder that all may write to hands nothing on:
    root would give the new file to whoever was the first to use the name.

    Parameters
    ----------
    fd : int
    path : str
        Name of the file that is replaced.
    before : os.stat_result or None
        What was there before; used where the file is gone by now, or a link has taken its place.

    Raises
    ------
    StorageError
        Something has taken its place that is not replaced by a file.
    """
    old = before
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISLNK(found.st_mode):
            _require_regular(found, path)
            old = found
    if old is None or _is_strange(old, path):
        return
    new = os.fstat(fd)
    kept = (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid) or _give(fd, old.st_uid, old.st_gid)
    kept = kept or _give(fd, -1, old.st_gid)
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if not _copy_extended(fd, path) or not kept:
        mode &= ~0o070 | (mode & 0o007) << 3
    if mode != stat.S_IMODE(os.fstat(fd).st_mode):  # a list that was copied has changed it
        with contextlib.suppress(OSError):  # file systems without modes
            system.fchmod(fd, mode)


def _give(fd: int, owner: int, group: int) -> bool:
    try:
        system.fchown(fd, owner, group)
    except OSError:
        return False
    return True


def _copy_extended(fd: int, path: str) -> bool:
    """Copy the extended attributes of a file; False where its access control list could not be kept.

    What the folder's default list gave the new file is removed.
    """
    try:
        names = [name for name in system.listxattr(path, follow_symlinks=False) if name.startswith(_KEPT)]
        for name in {_ACL} & set(system.listxattr(fd)) - set(names):
            system.removexattr(fd, name)
    except OSError:
        return True  # a file system without extended attributes, or a file that is gone
    kept = True
    for name in names:
        try:
            system.setxattr(fd, name, system.getxattr(path, name, follow_symlinks=False))
        except OSError:
            kept = kept and name != _ACL
    return kept


def _lock(fd: int, how: int, *, unlocked: bool) -> bool:
    try:
        system.flock(fd, how | system.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return unlocked
        if error.errno in (errno.EWOULDBLOCK, errno.ESTALE):  # somebody has it, or removed it
            return False
        raise
    return True
