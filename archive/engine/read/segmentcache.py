"""The segments that a handle fetched last, for the next selection that needs one of them.

No lock is held: entries change by single operations of a dict, which other threads see whole or not at all.
Two threads that fetch one segment at the same time keep it once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from archive import tuning
from archive.dtypes import NDArray
from archive.format.segments import Segment
from archive.owner import Owner

__all__ = ["SegmentCache"]


class SegmentCache:
    """Verified segments, at most `archive.tuning.SEGMENT_CACHE_BYTES`; those used longest ago go first.

    The child of a fork finds nothing in it and keeps nothing: each process would hold a copy.
    """

    def __init__(self) -> None:
        self._entries: dict[Segment, tuple[int, NDArray]] = {}
        self._times = itertools.count()
        self._owner = Owner()

    @property
    def nbytes(self) -> int:
        """Bytes of the segments."""
        return sum(len(data) for _, data in self._entries.copy().values())

    def find(self, segment: Segment) -> NDArray | None:
        """Return a segment to be copied from, None where it is not there."""
        entry = self._entries.get(segment)
        if entry is None or not self._owner.is_here:
            return None
        self._entries[segment] = next(self._times), entry[1]
        return entry[1]

    def keep(self, segments: Iterable[tuple[Segment, NDArray]]) -> None:
        """Keep segments; the memory must belong to the cache alone from now on."""
        if not self._owner.is_here:
            return
        for segment, data in segments:
            self._entries[segment] = next(self._times), data
        excess = self.nbytes - tuning.SEGMENT_CACHE_BYTES
        if excess <= 0:
            return
        for segment, (_, data) in sorted(self._entries.copy().items(), key=lambda item: item[1][0]):
            if excess <= 0:
                break
            self._entries.pop(segment, None)
            excess -= len(data)
