"""What file systems do, and what stands in where one does not: locks, syncs, room, names, attributes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time

from archive.errors import StorageError
from archive.storage.local.source import filesystem_of

__all__ = [
    "GONE",
    "close_unlocked",
    "find_target",
    "hold",
    "is_held_here",
    "keep_attributes",
    "leads_to",
    "lock_file",
    "place_new",
    "reserve",
    "sync_file",
    "sync_folder",
]

GONE = (errno.ENOENT, errno.ESTALE)
"""What the system says of a file that is gone; the second NFS of an open file that another client removed."""
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system without locks says."""
_NO_RESERVATION = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that cannot reserve room."""

_NO_EXCLUSIVE_RENAME = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without exclusive renames says (NFS, exFAT), and a system without renameat2."""
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)
"""What a file system without hard links says, or one whose limit of them is reached."""
_NOREPLACE, _AT_FDCWD = 1, -100
_ACL = "system.posix_acl_access"
_KEPT = ("user.", _ACL, "security.selinux")
"""Extended attributes that say what a file is and who may use it. Others, as of IMA, are about its bytes."""
_MAX_LINKS = 40
"""Links to links, as Linux follows them."""
LOCK_SECONDS = 30.0
"""How long another save may hold the lock of a folder, which it needs for one rename."""

_held: dict[int, tuple[int, int, int]] = {}
"""Held files by descriptor: process (a fork copies them), device and inode."""

_libc = ctypes.CDLL(None, use_errno=True)
# posix_fallocate of glibc writes a byte to every block where the file system reserves nothing: 16,642 writes
# on a mount of an object store. macOS has neither function
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_renameat2 = getattr(_libc, "renameat2", None)  # musl and macOS have none
if _renameat2 is not None:
    _renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


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
    held = _lock(fd, fcntl.LOCK_SH, unlocked=True) and leads_to(path, fd)
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
    return _lock(fd, fcntl.LOCK_EX, unlocked=unlocked)


def close_unlocked(fd: int) -> None:
    """Let go of a file; its lock too, which the child of a fork may share and would keep.

    What a close could tell was told by the sync before it.
    """
    _held.pop(fd, None)
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(fd)


def leads_to(path: str, fd: int, dir_fd: int | None = None) -> bool:
    """Tell whether a name leads to an open file: it may have been published, removed or replaced."""
    try:
        named = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        return os.path.samestat(named, os.fstat(fd))
    except OSError as error:
        if error.errno in GONE:
            return False
        raise


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
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        _lock_folder(folder, path)
        with contextlib.suppress(FileNotFoundError):
            os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    finally:
        close_unlocked(folder)


def _rename_exclusively(temporary: str, path: str, dir_fd: int | None) -> int:
    """Rename a file unless the name is taken; return the system's error number, 0 for success."""
    if _renameat2 is None:
        return errno.ENOSYS
    folder = _AT_FDCWD if dir_fd is None else dir_fd
    while _renameat2(folder, os.fsencode(temporary), folder, os.fsencode(path), _NOREPLACE):
        number = ctypes.get_errno()
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
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.002)
        except OSError as error:
            kind = filesystem_of(os.fstat(fd).st_dev) or "of this folder"
            raise StorageError(
                f"the file system {kind} has no exclusive renames, no hard links and no locks of folders, "
                "so that no writer can be sure to be the first",
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
        A link must not be followed, or what is there is no regular file.
    """
    named = path
    for _ in range(_MAX_LINKS):
        try:
            status = os.lstat(path)
        except (OSError, ValueError):  # what cannot be seen is refused, with its reason, where it is written
            return path, None
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
    if status.st_uid in (0, os.geteuid()):
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
        What was there before; used where the file is gone by now.
    """
    try:
        old = os.lstat(path)
    except FileNotFoundError:
        if before is None:
            return
        old = before
    if _is_strange(old, path):
        return
    new = os.fstat(fd)
    kept = (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid) or _give(fd, old.st_uid, old.st_gid)
    kept = kept or _give(fd, -1, old.st_gid)
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if not _copy_extended(fd, path) or not kept:
        mode &= ~0o070 | (mode & 0o007) << 3
    if mode != stat.S_IMODE(new.st_mode):
        with contextlib.suppress(OSError):  # file systems without modes
            os.fchmod(fd, mode)


def _give(fd: int, owner: int, group: int) -> bool:
    try:
        os.fchown(fd, owner, group)
    except OSError:
        return False
    return True


def _copy_extended(fd: int, path: str) -> bool:
    """Copy the extended attributes of a file; False where its access control list could not be kept.

    What the folder's default list gave the new file is removed.
    """
    if not hasattr(os, "listxattr"):  # macOS
        return True
    try:
        names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(_KEPT)]
        for name in {_ACL} & set(os.listxattr(fd)) - set(names):
            os.removexattr(fd, name)
    except OSError:
        return True  # a file system without extended attributes, or a file that is gone
    kept = True
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(path, name, follow_symlinks=False))
        except OSError:
            kept = kept and name != _ACL
    return kept


def _lock(fd: int, how: int, *, unlocked: bool) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return unlocked
        if error.errno in (errno.EWOULDBLOCK, errno.ESTALE):  # somebody has it, or removed it
            return False
        raise
    return True
