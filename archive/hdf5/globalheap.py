"""The global heap: the characters of variable-length strings.

A sequence of collections, each at most 64 KiB unless one string is larger. Each is exactly as long as its
content, so that only the last has free space. HDF5 File Format Specification, section III.E.

Every attribute has objects of its own: where attributes shared one, h5py's ``attrs.modify`` on the first
freed it under the others [measured].
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["REFERENCE_NBYTES", "GlobalHeap"]

REFERENCE_NBYTES = 16
"""An element of a variable-length type: length (4), collection address (8), object index (4)."""

_COLLECTION_NBYTES = 64 << 10
_MIN_COLLECTION_NBYTES = 4096
_HEAD_NBYTES = 16
"""Of a collection, and of an object."""
_MAX_INDEX = 0xFFFF
_FEW_ROWS = 12
"""Below this many rows one string at a time is quicker than 20 numpy calls (1 us each)."""

Bytes = npt.NDArray[np.uint8]
Column = bytes | Bytes
"""One object of every row: the same bytes for all, or a matrix with a row of bytes for each."""


def _object(index: int, data: bytes) -> bytes:
    """Return an object with its header, padded to a multiple of 8."""
    padding = -len(data) % 8
    return b"".join((struct.pack("<HHIQ", index, 0, 0, len(data)), data, bytes(padding)))


def _object_nbytes(nbytes: int) -> int:
    return _HEAD_NBYTES + nbytes + -nbytes % 8


class GlobalHeap:
    """Collections under construction, one after the other from ``address`` on, a multiple of 8."""

    __slots__ = ("_address", "_count", "_parts", "_pieces", "_used")

    def __init__(self, address: int) -> None:
        self._parts: list[bytes | Bytes] = []
        self._address = address
        self._pieces: list[bytes | Bytes] = []
        self._used = 0
        self._count = 0

    def copy(self) -> GlobalHeap:
        """Return a heap that continues this one, which stays as it is."""
        other = GlobalHeap(self._address)
        other._parts, other._pieces = [*self._parts], [*self._pieces]
        other._used, other._count = self._used, self._count
        return other

    def add(self, strings: Sequence[bytes]) -> tuple[int, int]:
        """Store strings in one collection.

        Parameters
        ----------
        strings : sequence of bytes
            UTF-8. An empty string gets an object of size 0 and a reference of length 0, as in h5py.

        Returns
        -------
        address, index : int
            The collection, and the index of the first string; the others follow it.
        """
        need = sum(_object_nbytes(len(text)) for text in strings)
        self._make_room(need, len(strings))
        index = self._count + 1
        self._pieces += [_object(at, text) for at, text in enumerate(strings, index)]
        self._take(need, len(strings))
        return self._address, index

    def add_rows(
        self, columns: Sequence[Column], n: int
    ) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Store the strings of many rows, all of one shape.

        Parameters
        ----------
        columns : sequence of bytes or numpy.ndarray
            The strings of a row: bytes that all rows have, or uint8 of shape (n, L).
        n : int
            Number of rows.

        Returns
        -------
        addresses, indices : numpy.ndarray
            Shape (n,): collection, and index of the first string of the row; the others follow it.
        """
        addresses = np.empty(n, np.uint64)
        indices = np.empty(n, np.uint32)
        if n < _FEW_ROWS:
            for row in range(n):
                strings = [
                    column if isinstance(column, bytes) else column[row].tobytes() for column in columns
                ]
                addresses[row], indices[row] = self.add(strings)
            return addresses, indices
        sizes = [len(column) if isinstance(column, bytes) else column.shape[1] for column in columns]
        unit = sum(map(_object_nbytes, sizes))
        rows = np.zeros((n, unit), np.uint8)
        last = 0
        while last < n:
            first = last
            self._make_room(unit, len(columns))
            last = min(n, first + max(1, (_COLLECTION_NBYTES - _HEAD_NBYTES - self._used) // unit))
            addresses[first:last] = self._address
            indices[first:last] = np.arange(last - first) * len(columns) + (self._count + 1)
            # a view: all rows are filled below, at once
            self._pieces.append(rows[first:last])
            self._take((last - first) * unit, (last - first) * len(columns))
        at = 0
        for order, (column, size) in enumerate(zip(columns, sizes, strict=True)):
            rows[:, at : at + 2] = (indices + order).astype("<u2").view(np.uint8).reshape(n, 2)
            rows[:, at + 8 : at + 16] = np.frombuffer(struct.pack("<Q", size), np.uint8)
            body = np.frombuffer(column, np.uint8) if isinstance(column, bytes) else column
            rows[:, at + _HEAD_NBYTES : at + _HEAD_NBYTES + size] = body
            at += _object_nbytes(size)
        return addresses, indices

    def finish(self) -> tuple[list[bytes | Bytes], int]:
        """Close the last collection; return the bytes of the heap, and the file offset after them."""
        if self._pieces:
            self._close()
        return self._parts, self._address

    def _take(self, nbytes: int, count: int) -> None:
        self._used += nbytes
        self._count += count

    def _make_room(self, nbytes: int, count: int) -> None:
        """Start a new collection unless the open one holds `nbytes` in `count` objects more."""
        if count > _MAX_INDEX:
            raise ValueError(f"one attribute of {count} strings; a heap collection holds 65,535")
        full = _HEAD_NBYTES + self._used + nbytes > _COLLECTION_NBYTES or self._count + count > _MAX_INDEX
        if full and self._pieces:
            self._close()

    def _close(self) -> None:
        nbytes = _HEAD_NBYTES + self._used
        free = max(_MIN_COLLECTION_NBYTES - nbytes, 0)
        self._parts.append(struct.pack("<4sB3xQ", b"GCOL", 1, nbytes + free))
        self._parts += self._pieces
        if free >= _HEAD_NBYTES:
            # Object 0 is the free space; its size counts its header. Less than that needs no header.
            self._parts.append(struct.pack("<HHIQ", 0, 0, 0, free))
            self._parts.append(bytes(free - _HEAD_NBYTES))
        else:
            self._parts.append(bytes(free))
        self._address += nbytes + free
        self._pieces = []
        self._used = self._count = 0
