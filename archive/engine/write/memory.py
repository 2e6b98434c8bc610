"""Private memory that array bytes are copied to before they are hashed and written; used again and again."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.format.constants import PAGE

__all__ = ["PIECE_BYTES", "Memory", "give_back", "take"]

PIECE_BYTES = 512 << 10
"""Bytes that are copied, hashed and written at a time: a copy of this size is still in the processor's cache
when it is hashed and written. Processor time of a save in ms (medians of 9), first hashed and written from
the caller's memory, then by copies of 128 KiB, 256 KiB, 512 KiB, 1 MiB, 2 MiB and 4 MiB:

- 270 MB in large arrays: 112, then 123, 111, 108, 128, 145, 162
- 300 arrays of 64 to 320 KiB: 27, then 36, 33, 33, 31, 33, 35
- 20,000 arrays of 4 KiB: 128, then 118, 127, 123, 128, 113, 121
"""
SPARE = 4
"""Memories that are kept: two or three threads write one archive, and its small arrays are gathered."""


class Memory:
    """Room for a piece, and for the zeros before or after a small array."""

    __slots__ = ("_map", "array", "view")

    def __init__(self) -> None:
        # MAP_PRIVATE: a forked child must not share it
        self._map = mmap.mmap(-1, PIECE_BYTES + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self._map)
        """All of it as bytes."""
        self.array: NDArray = np.frombuffer(self._map, np.uint8)
        """All of it as uint8."""

    def copy(self, buffers: Iterable[Any], at: int = 0) -> memoryview:
        """Copy contiguous buffers to position ``at``, one after the other, and return the copy.

        In one loop of C: 20,000 small arrays would take 10 of 100 ms to copy in Python.
        """
        self._map.seek(at)
        deque(map(self._map.write, buffers), 0)
        return self.view[at : self._map.tell()]


_spare: list[Memory] = []


def take() -> Memory:
    """Return memory that nobody else uses until it is given back.

    It is used again because the page faults of new memory cost as much as copying into it.
    """
    try:
        return _spare.pop()
    except IndexError:
        return Memory()


def give_back(memory: Memory) -> None:
    """Let the next `take` have it; where there is spare memory enough it goes."""
    if len(_spare) < SPARE:
        _spare.append(memory)
