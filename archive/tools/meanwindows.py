"""Windows: the parts of many archives of one model that are added up at a time.

A window is a list of ranges of arrays, in the order of the first archive. Its ranges begin and end with
segments, so that every byte that is read can be verified. Whatever the order of arrays in an input, a window
is brought into one form, that of the first archive: a buffer in which arrays lie as they lie in its file. So
the arrays of one type that lie side by side are one numpy operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.format.constants import ALIGN
from archive.format.layout import align_up
from archive.format.segments import Segment, row_segments, segment_bytes_of
from archive.storage.remote.ranges import Piece, plan_requests
from archive.tools.sameschema import Layout

__all__ = ["Fetch", "Part", "Strip", "Window", "plan_windows"]


@dataclass(frozen=True, slots=True)
class Part:
    """A range of one array."""

    array: int
    """Its number in the template."""
    start: int
    """First of its stored bytes."""
    nbytes: int
    """Length."""
    at: int
    """Where it lies in the buffer of the window."""


@dataclass(slots=True)
class Strip:
    """Parts of one type that lie side by side: they are added up together, padding included."""

    dtype: np.dtype[Any]
    """Element type of the inputs."""
    target: np.dtype[Any]
    """Element type of what becomes of the sum."""
    at: int
    """Where it begins in the buffer."""
    stop: int
    """Where it ends there."""
    parts: list[Part]
    """In their order."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A range of a file that is read at once."""

    start: int
    """File offset."""
    stop: int
    """End of the range."""
    segments: list[Piece[Segment]]
    """Its segments."""
    places: list[tuple[int, int, int]]
    """Where its bytes go: offset in the range, length, and offset in the buffer."""


@dataclass(slots=True, eq=False)
class Window:
    """Ranges of arrays that are added up at a time."""

    strips: list[Strip]
    """Its parts by type."""
    nbytes: int
    """Length of the buffer."""
    stored_nbytes: int
    """Bytes of its parts."""
    _fetches: dict[int, list[Fetch]] = field(default_factory=dict)

    def fetches(self, layout: Layout) -> list[Fetch]:
        """Return what is read of an archive, in file order."""
        found = self._fetches.get(id(layout))  # layouts outlive the windows that are planned from them
        if found is None:
            found = self._fetches[id(layout)] = self._plan(layout)
        return found

    def _plan(self, layout: Layout) -> list[Fetch]:
        parts = [part for strip in self.strips for part in strip.parts]
        placed = [(layout.offsets[part.array] + part.start, part) for part in parts]
        order = sorted(range(len(parts)), key=lambda number: placed[number][0])
        fetches = []
        for request in plan_requests((placed[n][0], parts[n].nbytes, n) for n in order):
            numbers = [number for *_, number in request.pieces]
            found = [parts[number] for number in numbers]
            segments = [piece for part in found for piece in _segments(layout, part)]
            places = [(offset - request.start, nbytes, parts[n].at) for offset, nbytes, n in request.pieces]
            shifts = {at - offset for offset, _, at in places}
            # they lie as in the first archive: one read, straight to its place
            if len(shifts) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
                places = [(0, request.nbytes, found[0].at)]
            fetches.append(Fetch(request.start, request.stop, segments, places))
        return fetches


def plan_windows(
    layout: Layout,
    arrays: Iterable[int],
    dtypes: Sequence[Any],
    targets: Sequence[Any],
    *,
    stored_bytes: int,
    wide_bytes: int,
) -> Iterator[Window]:
    """Yield the windows over arrays, in their order.

    Parameters
    ----------
    layout : Layout
        Of the first archive.
    arrays : iterable of int
        Numbers of arrays of numbers that have bytes.
    dtypes, targets : sequence of dtype
        Of every array: the element type in the inputs, and that of the result.
    stored_bytes : int
        Most bytes of an input, but for one segment that is longer.
    wide_bytes : int
        Most bytes of the sum, in float64.
    """
    index, gathered = layout.index, list[tuple[int, int, int]]()
    stored = wide = 0
    for array in arrays:
        dtype, row = dtypes[array], layout.owners[array]
        end, segment = index.stored_nbytes.item(row), segment_bytes_of(index, row)
        ratio = max(8 * (2 if dtype.kind == "c" else 1) // dtype.itemsize, 1)
        start = 0
        while start < end:
            room = max(0, min(stored_bytes - stored, (wide_bytes - wide) // ratio))
            nbytes = min(end - start, room // segment * segment or (0 if gathered else segment))
            if end - start <= room:
                nbytes = end - start
            if nbytes:
                gathered.append((array, start, nbytes))
                start += nbytes
                stored += nbytes
                wide += nbytes * ratio
            if start < end:
                yield _window(layout, gathered, dtypes, targets)
                gathered, stored, wide = [], 0, 0
    if gathered:
        yield _window(layout, gathered, dtypes, targets)


def _window(
    layout: Layout,
    ranges: list[tuple[int, int, int]],
    dtypes: Sequence[Any],
    targets: Sequence[Any],
) -> Window:
    pieces = ((layout.offsets[array] + start, nbytes, (array, start)) for array, start, nbytes in ranges)
    strips: list[Strip] = []
    end = 0
    for run in plan_requests(pieces, request_bytes=1 << 62):
        begin = align_up(end, ALIGN)
        strip: Strip | None = None
        for offset, nbytes, (array, start) in run.pieces:
            dtype, target = dtypes[array], targets[array]
            part = Part(array, start, nbytes, begin + offset - run.start)
            joins = (
                strip is not None
                and (strip.dtype, strip.target) == (dtype, target)
                and (part.at - strip.at) % dtype.itemsize == 0
            )
            if strip is None or not joins:
                strip = Strip(dtype, target, part.at, part.at, [])
                strips.append(strip)
            strip.parts.append(part)
            strip.stop = end = part.at + nbytes
    return Window(strips, end, sum(nbytes for _, _, nbytes in ranges))


def _segments(layout: Layout, part: Part) -> Iterator[Piece[Segment]]:
    return row_segments(layout.index, layout.owners[part.array], part.start, part.start + part.nbytes)
