"""Private memory maps: pages of a file in memory, copied when written, never written back.

Python's ``mmap`` keeps a duplicate of the file descriptor with every map until 3.13, which exhausts
them at 1,024 tensors, and cannot reserve address space for files larger than memory on 3.10. So the
system call is made directly.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from archive.errors import StorageError

__all__ = ["advise_dontneed", "map_private"]

NDArray = np.ndarray[Any, np.dtype[Any]]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_MAP_FAILED = ctypes.c_void_p(-1).value
# Without it Linux refuses private writable maps larger than memory plus swap (vm.overcommit_memory 0)
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if os.uname().sysname == "Linux" else 0)
PAGE = mmap.ALLOCATIONGRANULARITY


class _Map:
    """Owner of one system map; numpy arrays over it hold it as their base."""

    __slots__ = ("__array_interface__", "_address", "_nbytes")

    def __init__(self, address: int, nbytes: int, read_only: bool) -> None:
        self._address, self._nbytes = address, nbytes
        self.__array_interface__ = {
            "data": (address, read_only),
            "shape": (nbytes,),
            "typestr": "|u1",
            "version": 3,
        }

    def __del__(self, munmap: Callable[[int, int], int] = _libc.munmap) -> None:
        munmap(self._address, self._nbytes)


def map_private(fd: int, offset: int, nbytes: int, path: str, *, read_only: bool = False) -> NDArray:
    """Map a range of a file; writes go to copies of its pages that only this process sees.

    Parameters
    ----------
    fd : int
        Open for reading; may be closed afterwards.
    offset, nbytes : int
        Any range within the file. Bytes beyond its end raise SIGBUS when touched: compare first.
    path : str
        Named in errors.
    read_only : bool
        Views cannot be made writable. The pages still can be written by what ignores that (torch over a
        read-only array), which then changes copies of ours instead of killing the process.

    Returns
    -------
    ndarray of uint8, shape (nbytes,)
        Unmapped when the last view of it is gone.

    Raises
    ------
    StorageError
        The system refused, with its errno.
    """
    if not nbytes:
        return np.empty(0, np.uint8)
    start = offset // PAGE * PAGE
    length = offset + nbytes - start
    address = _libc.mmap(
        None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _NORESERVE, fd, start
    )
    if address == _MAP_FAILED:
        code = ctypes.get_errno()
        raise StorageError(
            f"cannot map {nbytes} bytes ({os.strerror(code)})",
            path=path,
            offset=offset,
            errno=code,
            remedy='open it with access="pread"',
        )
    return np.asarray(_Map(address, length, read_only))[offset - start :]


def advise_dontneed(array: NDArray) -> None:
    """Give back the whole pages of a range of a private map; they are read again when touched.

    Pages that were written are lost, so this is only for ranges nobody wrote to.
    """
    address = array.__array_interface__["data"][0]
    start = -(-address // PAGE) * PAGE
    end = (address + array.nbytes) // PAGE * PAGE
    if end > start and _libc.madvise(start, end - start, mmap.MADV_DONTNEED):
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOMEM):
            raise StorageError("madvise failed", errno=code)
