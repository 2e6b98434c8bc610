"""Memory of a running sum, in a file without a name: the system writes pages out when it needs their room."""

from __future__ import annotations

import itertools
import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.errors import StorageError
from archive.storage.local.source import is_remote_filesystem
from archive.storage.local.volumes import reserve
from archive.storage.remedies import remedy_of

__all__ = ["SumMemory"]

_ALIGN = 64


class SumMemory:
    """Arrays of zeros by number, each in a place of its own.

    A file has room for all of them, so that a disk that is full is found here: later, the process would be
    killed by SIGBUS. Where no room can be reserved, or the folder is on a network, this is ordinary memory.

    Parameters
    ----------
    folder : str or None
        Local folder of the file; None for ordinary memory.
    sizes : sequence of int
        Bytes of each array.

    Raises
    ------
    StorageError
        The disk is full.

    Examples
    --------
    >>> memory = SumMemory("/tmp", [800, 16])
    >>> memory.zeros(1, np.dtype("f8")).tolist()
    [0.0, 0.0]
    """

    def __init__(self, folder: str | None, sizes: Sequence[int]) -> None:
        ends = itertools.accumulate(-(-nbytes // _ALIGN) * _ALIGN for nbytes in sizes)
        self._starts = [0, *ends]
        self._sizes = list(sizes)
        self._pages = None if folder is None or not self._starts[-1] else _map(folder, self._starts[-1])

    def zeros(self, number: int, dtype: np.dtype[Any]) -> NDArray:
        """Return the array of a number, with zeros; what it held before is gone."""
        count = self._sizes[number] // dtype.itemsize
        if self._pages is None:
            return np.zeros(count, dtype)
        made = np.frombuffer(self._pages, dtype, count, self._starts[number])
        made.fill(0)
        return made


def _map(folder: str, nbytes: int) -> mmap.mmap | None:
    """Map a new file that no other process can write to."""
    try:
        if is_remote_filesystem(Path(folder).stat().st_dev):
            return None
        with tempfile.TemporaryFile(prefix="fedarchive-", dir=folder) as file:
            return mmap.mmap(file.fileno(), nbytes) if reserve(file.fileno(), 0, nbytes) else None
    except OSError as error:
        raise StorageError(
            f"no room for {nbytes} bytes of a sum: {error.strerror}",
            path=folder,
            errno=error.errno,
            remedy=remedy_of(error.errno, "name another folder with scratch="),
        ) from error
