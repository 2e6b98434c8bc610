"""Calls that not every operating system has, each with what stands in for a call that is missing.

No other module imports ``ctypes``, ``fcntl`` or ``resource``, or names a file of ``/proc``. A name here is
the system's own function wherever there is one, so that it costs nothing. Else it is a function of the same
arguments that promises less:

==================  =====================================================================================
missing             then
==================  =====================================================================================
flock               it fails as on a file system without locks: temporary files of killed writers stay,
                    nothing keeps two processes from one run, ``recover`` does not see that another
                    process still writes a partial file, and no cache folder is kept below
                    ``cache_bytes``
fallocate           no room is reserved: a full disk is found by the write that fills it
renameat2           it fails as on a file system that has none: `place_new` makes a hard link
copy_file_range     it fails as on a file system that has none: bytes are read and written
preadv              pread into other memory, copied from there
pread, pwrite       a seek and a read or write under a lock: threads take turns, and a process and its fork
                    must not read one open archive at the same time
mmap of libc        that of Python, which keeps a copy of the descriptor with every map and refuses maps
                    that are larger than memory plus swap
madvise, fadvise    nothing: pages stay in memory until the system takes them
malloc_trim         nothing: memory that was freed stays with the process
fdatasync           fsync
extended            a file that replaces another has mode, owner and group of the old one, and neither its
attributes          attributes nor its access control list
register_at_fork    nothing: a child of a fork must not use, close or collect what its parent saves or reads
resource limits     nothing: only the time on the clock and `decoded_bytes` limit reading of a foreign file
``/proc``           network file systems are not recognised and mapped as any other
O_NOFOLLOW          a link that takes the place of a file between two calls is followed
==================  =====================================================================================
"""

from __future__ import annotations

import ctypes
import errno
import mmap as _mmap
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

try:
    import fcntl as _fcntl
except ImportError:
    _fcntl = None  # type: ignore[assignment]
try:
    import resource as _resource
except ImportError:
    _resource = None  # type: ignore[assignment]

__all__: list[str] = []  # a module looks a call up here when it makes it

MOUNTS = "/proc/self/mountinfo"
"""Where Linux lists what is mounted."""
MEMORY = "/proc/self/statm"
"""Where Linux says how many pages of address space this process has."""
COPY_BYTES = 1 << 20
"""What a read copies at once where nothing reads into memory of the caller's."""


def _refuse(*arguments: Any, **options: Any) -> Any:
    """Fail as a file system does that lacks what is asked for."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _ignore(*arguments: Any, **options: Any) -> None:
    """Do nothing."""


# Flags of `os.open`: those that a system lacks ask for nothing

O_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_BINARY", 0)
O_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
O_PATH: int = getattr(os, "O_PATH", os.O_RDONLY)

# Reading and writing at an offset

_seeking = threading.Lock()  # a file has one position, and copies of its descriptor share it


def _pread(fd: int, nbytes: int, offset: int) -> bytes:
    with _seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, nbytes)


def _preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
    """Read into the first buffer, at most `COPY_BYTES`."""
    data = pread(fd, min(len(buffers[0]), COPY_BYTES), offset)
    buffers[0][: len(data)] = data
    return len(data)


def _pwrite(fd: int, data: Any, offset: int) -> int:
    with _seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _pread)
preadv: Callable[[int, list[memoryview], int], int] = getattr(os, "preadv", _preadv)
pwrite: Callable[[int, Any, int], int] = getattr(os, "pwrite", _pwrite)

copy_file_range: Callable[[int, int, int, int, int], int] = getattr(os, "copy_file_range", _refuse)

# Descriptors and locks


def _duplicate(fd: int, command: int, lowest: int) -> int:
    """Return a copy of a descriptor with a number that is not below ``lowest``."""
    copy = os.dup(fd)
    if copy >= lowest:
        return copy
    try:
        return _duplicate(fd, command, lowest)
    finally:
        os.close(copy)


def _full_sync(fd: int) -> None:
    _fcntl.fcntl(fd, _fcntl.F_FULLFSYNC)  # type: ignore[attr-defined]


LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8  # of every system that has flock
F_DUPFD_CLOEXEC: int = getattr(_fcntl, "F_DUPFD_CLOEXEC", 0)
flock: Callable[[int, int], None] = getattr(_fcntl, "flock", _refuse)
fcntl: Callable[[int, int, int], int] = getattr(_fcntl, "fcntl", _duplicate)
"""For F_DUPFD_CLOEXEC alone."""
# macOS: fsync does not reach the platter there
fsync: Callable[[int], None] = _full_sync if hasattr(_fcntl, "F_FULLFSYNC") else os.fsync
fdatasync: Callable[[int], None] = getattr(os, "fdatasync", fsync)
fadvise: Callable[[int, int, int, int], None] = getattr(os, "posix_fadvise", _ignore)
FADV_DONTNEED: int = getattr(os, "POSIX_FADV_DONTNEED", 0)

# Who may use a file, and what is known of it

geteuid: Callable[[], int] = getattr(os, "geteuid", lambda: 0)  # without users a file has the owner 0
fchmod: Callable[[int, int], None] = getattr(os, "fchmod", _refuse)
fchown: Callable[[int, int, int], None] = getattr(os, "fchown", _refuse)
listxattr: Callable[..., list[str]] = getattr(os, "listxattr", _refuse)
getxattr: Callable[..., bytes] = getattr(os, "getxattr", _refuse)
setxattr: Callable[[int, str, bytes], None] = getattr(os, "setxattr", _refuse)
removexattr: Callable[[int, str], None] = getattr(os, "removexattr", _refuse)
major: Callable[[int], int] = getattr(os, "major", lambda device: 1)  # as of a disk
minor: Callable[[int], int] = getattr(os, "minor", lambda device: 0)

# Processes

register_at_fork: Callable[..., None] = getattr(os, "register_at_fork", _ignore)


NO_LIMIT: int = getattr(_resource, "RLIM_INFINITY", -1)


def get_limits(kind: str) -> tuple[int, int]:
    """Return the soft and the hard limit of a resource, such as ``"RLIMIT_AS"``."""
    found: tuple[int, int] = _getrlimit(getattr(_resource, kind, 0))
    return found


def set_limits(kind: str, soft: int, hard: int) -> None:
    """Limit a resource."""
    _setrlimit(getattr(_resource, kind, 0), (soft, hard))


_getrlimit = getattr(_resource, "getrlimit", lambda kind: (NO_LIMIT, NO_LIMIT))
_setrlimit = getattr(_resource, "setrlimit", _ignore)

# Functions of libc. They return what C returns, and leave the error number in `ctypes.get_errno`.


def _open_libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):  # the second on Windows
        return None


def _lack(*arguments: Any) -> int:
    ctypes.set_errno(errno.ENOSYS)
    return -1


def _find(name: str, otherwise: Callable[..., Any], result: Any, *arguments: Any) -> Callable[..., Any]:
    """Return a function of libc."""
    function = getattr(_libc, name, None)
    if function is None:
        return otherwise
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


_maps: dict[int, _mmap.mmap] = {}


def _map(address: None, nbytes: int, protection: int, flags: int, fd: int, start: int) -> int | None:
    """Map a range of a file privately by Python's own map, and return its address."""
    try:
        made = _mmap.mmap(fd, nbytes, access=_mmap.ACCESS_COPY, offset=start)
    except (OSError, ValueError) as error:  # ValueError: the file is shorter
        ctypes.set_errno(getattr(error, "errno", None) or errno.EINVAL)
        return MAP_FAILED
    place = ctypes.addressof(ctypes.c_char.from_buffer(made))
    _maps[place] = made
    return place


def _unmap(address: int, nbytes: int, maps: dict[int, _mmap.mmap] = _maps) -> int:
    del maps[address]
    return 0


get_errno: Callable[[], int] = ctypes.get_errno
_libc = _open_libc()
_INT, _SIZE, _OFFSET, _POINTER = ctypes.c_int, ctypes.c_size_t, ctypes.c_int64, ctypes.c_void_p
MAP_FAILED: int | None = _POINTER(-1).value
MADV_DONTNEED: int = getattr(_mmap, "MADV_DONTNEED", 0)
# Without NORESERVE Linux refuses private writable maps larger than memory plus swap (vm.overcommit_memory 0)
_NORESERVE: int = getattr(_mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
PRIVATE: tuple[int, int] = (
    getattr(_mmap, "PROT_READ", 0) | getattr(_mmap, "PROT_WRITE", 0),
    getattr(_mmap, "MAP_PRIVATE", 0) | _NORESERVE,
)
"""Protection and flags of a map whose pages are copied when they are written."""

# Python's ``mmap`` keeps a copy of the descriptor with every map, which exhausts descriptors at 1,024 tensors
# (until 3.13), and cannot reserve address space for files larger than memory (on 3.10)
mmap: Callable[..., Any] = _find("mmap", _map, _POINTER, _POINTER, _SIZE, _INT, _INT, _INT, _OFFSET)
munmap: Callable[..., Any] = _find("munmap", _unmap, _INT, _POINTER, _SIZE)
madvise: Callable[..., Any] = _find("madvise", _lack, _INT, _POINTER, _SIZE, _INT)
# posix_fallocate of glibc writes a byte to every block where the file system reserves nothing: 16,642 writes
# on a mount of an object store. macOS has neither function
_fallocate = _find("fallocate", _lack, _INT, _INT, _INT, _OFFSET, _OFFSET)
fallocate: Callable[..., Any] = _find("fallocate64", _fallocate, _INT, _INT, _INT, _OFFSET, _OFFSET)
# glibc keeps what was freed in one of the arenas of its threads; others have none to give back
malloc_trim: Callable[[int], int] = _find("malloc_trim", _lack, _INT, _SIZE)
# musl and macOS have none
renameat2: Callable[..., Any] = _find(
    "renameat2", _lack, _INT, _INT, ctypes.c_char_p, _INT, ctypes.c_char_p, ctypes.c_uint
)
