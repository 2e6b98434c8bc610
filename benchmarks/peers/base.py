"""What a cell asks of a library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmarks.shapes import Entry

__all__ = ["NDArray", "Peer", "plain"]

NDArray = np.ndarray[Any, Any]


class Peer:
    """One library, called as its documentation says. Making one imports it; nothing is timed before."""

    name: ClassVar[str]
    """As printed."""
    writes: ClassVar[str]
    """Peers that write the same file name it alike, so that it is written once for their reads."""
    operations: ClassVar[frozenset[str]]
    """Names from `benchmarks.operations` that it has."""
    ceiling: ClassVar[bool] = False
    """What the machine can do without names or structure: no library."""
    most_arrays: ClassVar[int] = 1_000_000
    """With more it takes minutes or fails; such cells are skipped, and the table says so."""
    most_drained: ClassVar[int] = 1_000_000
    """Likewise, where each is read by a call of its own."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Distributions it needs; absent ones skip it."""

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        self.path = path
        self.entries = entries
        self.input: Any = None

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        """Hold what will be saved, in the library's own type."""
        self.input = dict(arrays)

    def write(self) -> None:
        """Save ``input`` to ``path``, as the library does it."""
        raise NotImplementedError

    def save(self, durable: bool) -> None:
        """Save, and when ``durable`` let no power cut take it back."""
        self.write()
        if durable:
            self.flush()

    def flush(self) -> None:
        """Do for the library what makes its file survive: fsync of files and folders."""
        for found in (*self.files(), self.path.parent):
            handle = os.open(found, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)

    def open_list(self) -> list[str]:
        """Open and list every array: names, with shapes and dtypes where the library tells."""
        raise NotImplementedError

    def open_one(self, key: str) -> Any:
        """Open and return one array."""
        raise NotImplementedError

    def slice(self, key: str, start: int, stop: int) -> Any:
        """Open and return rows of one array."""
        raise NotImplementedError

    def map_all(self) -> Mapping[str, Any]:
        """Return every array as a view of the file's pages."""
        raise NotImplementedError

    def load_all(self) -> Mapping[str, Any]:
        """Return every array in private writable memory."""
        raise NotImplementedError

    def drain(self) -> Iterator[tuple[str, Any]]:
        """Open, and yield one array after the other; each may be gone when the next is asked for."""
        raise NotImplementedError

    def verify(self) -> bool:
        """Compare every byte with its digest."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop what the library keeps of names, types and shapes it has met. Called before each run."""

    def elements(self, value: Any) -> NDArray:
        """Return what an operation returned as an ndarray."""
        return np.asarray(value)

    def files(self) -> Iterator[Path]:
        """Yield every file and folder that was written."""
        yield self.path
        if self.path.is_dir():
            yield from self.path.rglob("*")

    def remove(self) -> None:
        """Take the saved file away: outside the clock, for renaming over one frees its pages inside."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


def plain(arrays: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Return bfloat16 arrays as uint16, for libraries that have no such type."""
    return {
        key: array.view(np.uint16) if array.dtype.name == "bfloat16" else array
        for key, array in arrays.items()
    }
