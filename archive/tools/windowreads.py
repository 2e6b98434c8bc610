"""Reads one window out of many files: what is read, where it goes and what is verified is planned once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.format.segments import Segment, failed_segments
from archive.tools.meanwindows import Fetch, Window
from archive.tools.sameschema import Layout

__all__ = ["WindowReads"]


_KNOWN = 4
"""Layouts of which the reads are remembered: those of another order than the first have a memory each."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One read of a file of some layout, and what becomes of its bytes."""

    start: int
    """File offset."""
    data: NDArray
    """The memory that is read into."""
    views: list[memoryview]
    """Bytes of each segment in it."""
    segments: range | list[Segment]
    """Their numbers."""
    copies: list[tuple[NDArray, NDArray]]
    """Places in the buffer, and the bytes that go there; none where they were read to their place."""


class WindowReads:
    """Fills one buffer with the bytes of a window of file after file, verified.

    Parameters
    ----------
    window : Window
    buffer : ndarray of uint8
        At least as long as the window.
    """

    def __init__(self, window: Window, buffer: NDArray) -> None:
        self._window, self._buffer = window, buffer
        self._known: dict[int, list[_Read]] = {}

    def fill(self, reader: Reader, layout: Layout) -> None:
        """Fill the buffer from a file, as the bytes lie in the first archive.

        Raises
        ------
        DigestError, StorageError
        """
        reads = self._known.get(id(layout))  # layouts outlive the windows that are planned from them
        if reads is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            reads = self._known[id(layout)] = [self._plan(fetch) for fetch in self._window.fetches(layout)]
        for read in reads:
            reader.source.read_into(read.start, read.data)
            failed = failed_segments(reader.index, read.views, read.segments)
            if failed:
                raise reader.digest_error(failed[0])
            for place, part in read.copies:
                place[:] = part

    def _plan(self, fetch: Fetch) -> _Read:
        first, nbytes = fetch.places[0][2], fetch.stop - fetch.start
        straight = len(fetch.places) == 1
        data = self._buffer[first : first + nbytes] if straight else np.zeros(nbytes, np.uint8)
        view = data.data
        views = [view[at - fetch.start : at - fetch.start + length] for at, length, _ in fetch.segments]
        segments = [segment for *_, segment in fetch.segments]
        neighbours = all(after == before + 1 for before, after in pairwise(segments))
        copies = [
            (self._buffer[at : at + length], data[begin : begin + length])
            for begin, length, at in ([] if straight else fetch.places)
        ]
        return _Read(
            fetch.start,
            data,
            views,
            range(segments[0], segments[-1] + 1) if neighbours else segments,
            copies,
        )
