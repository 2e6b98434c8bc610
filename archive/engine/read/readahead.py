"""Whole rows of a remote archive that are asked for in file order: the next ones come along.

Reads that follow no order cost no byte more than without it. From the third row in order on (later, where
such guesses were wrong), a request also brings the rows after it: at most as many bytes as the rows in order
had so far, and at most `archive.tuning.PREFETCH_BYTES`. A row that is longer comes alone: no more than twice
as many bytes are held.

No lock is held: an attribute changes by one assignment. Threads that read rows of their own find no order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archive import tuning
from archive.dtypes import NDArray
from archive.format.constants import KIND_ARRAYS, NO_ALIAS
from archive.format.index import Index
from archive.format.segments import Segment, row_segments

__all__ = ["ReadAhead"]

_ROWS = 3
"""Rows in order after which the next are expected: two follow one another by chance in any shuffled list."""


class _Run(NamedTuple):
    """Rows that were asked for one after the other."""

    last: int
    rows: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Rows that one request brought."""

    start: int
    """File offset of the data."""
    data: NDArray | None
    """Verified bytes; None where a cache keeps them."""
    rows: frozenset[int]
    """Those whose bytes match their digests."""
    last: int
    """The last of them."""


class ReadAhead:
    """What a reader of a remote archive fetches before it is asked for.

    Parameters
    ----------
    index : Index
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._run = _Run(index.arrays, 0, 0)
        self._window: _Window | None = None
        self._needed = _ROWS  # rows in order after which a window is fetched
        self._all = False  # whether the caller will ask for all

    def expect_all(self) -> None:
        """Fetch windows of full length from the first row on: the caller will ask for all, in file order.

        A window that is not used to its end shows that the caller was wrong; then the order decides again.
        """
        self._all = True

    def note(self, row: int) -> None:
        """Take note that all of a row is asked for."""
        run, nbytes = self._run, int(self._index.stored_nbytes[row])
        # rows without bytes lie between: they are never fetched
        follows = row > run.last and not self._index.stored_nbytes[run.last + 1 : row].any()
        self._run = _Run(row, run.rows + 1, run.nbytes + nbytes) if follows else _Run(row, 1, nbytes)

    def covers(self, row: int) -> bool:
        """Return whether a row came with another."""
        window = self._window
        return window is not None and row in window.rows

    def take(self, row: int) -> NDArray | None:
        """Return a copy of the bytes of a row that came with another: a view would keep all of these."""
        window = self._window
        if window is None or row not in window.rows:
            return None
        if row == window.last:
            self._window = None
        if window.data is None:
            return None
        at = int(self._index.offset[row]) - window.start
        copied: NDArray = window.data[at : at + int(self._index.stored_nbytes[row])].copy()
        return copied

    def plan(self, row: int) -> list[int]:
        """Return a row, the last that was noted, and those to be fetched with it; or nothing."""
        run, index = self._run, self._index
        nbytes = int(index.stored_nbytes[row])
        expected = self._all or run.rows >= self._needed
        if run.last != row or not expected or nbytes > tuning.PREFETCH_BYTES:
            return []
        rows, end = [row], int(index.offset[row]) + nbytes
        limit = end + (tuning.PREFETCH_BYTES if self._all else min(run.nbytes, tuning.PREFETCH_BYTES))
        for after in range(row + 1, index.arrays):
            nbytes = int(index.stored_nbytes[after])
            if not nbytes or int(index.alias_of[after]) != NO_ALIAS:
                continue
            begin = int(index.offset[after])
            apart = not 0 <= begin - end <= tuning.GAP_BYTES or begin + nbytes > limit
            if apart or index.records[int(index.record[after])].kind != KIND_ARRAYS:
                break
            rows.append(after)
            end = begin + nbytes
        return rows if len(rows) > 1 else []

    def keep(self, rows: list[int], start: int, data: NDArray | None, failed: Sequence[Segment] = ()) -> None:
        """Hold planned rows until the next are kept or the last of them is taken.

        Parameters
        ----------
        rows : list of int
        start : int
            File offset of the data.
        data : ndarray of uint8, optional
            None where a cache keeps the bytes.
        failed : sequence of Segment
            Segments that do not match. Their rows are not held: they are an error when they are asked for.
        """
        # a window that was not used to its end was a mistake: more rows in order are asked for next time
        self._needed = _ROWS if self._window is None else 2 * self._needed
        self._all = self._all and self._window is None
        bad = set(failed)
        good = [
            row for row in rows if bad.isdisjoint(number for *_, number in row_segments(self._index, row))
        ]
        self._window = _Window(start, data, frozenset(good), good[-1]) if good else None
