"""Reads ranges of a file into memory that is given, side by side, and checks every segment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.format.constants import MAX_SEGMENT_BYTES
from archive.format.segments import Segment, failed_pieces, row_segments, segment_bytes_of
from archive.storage.remote.ranges import Piece, Request, plan_requests
from archive.workers import run_parallel

__all__ = ["Fill", "cut_fill", "fill_range", "run_fills"]


@dataclass(slots=True)
class Fill:
    """One read, and its segments."""

    offset: int
    """File offset."""
    out: NDArray
    """Memory to fill."""
    segments: list[Piece[Segment]]
    """File offset, length and number of each."""


def run_fills(reader: Reader, fills: list[Fill]) -> Iterator[int]:
    """Run reads in parallel, in file order, and yield the bytes that each read.

    Raises
    ------
    DigestError
        Bytes do not match. The memory of that read holds zeros then.
    """

    def read(fill: Fill) -> int:
        reader.source.read_into(fill.offset, fill.out)
        if not reader.are_verified(fill.segments):
            for segment in failed_pieces(reader.index, fill.out, fill.offset, fill.segments):
                fill.out[:] = 0
                raise reader.digest_error(segment)
            reader.note_verified(fill.segments)
        return fill.out.nbytes

    def fetch(request: Request[Fill]) -> int:
        arrival = _Arrival(reader, request)
        reader.source.stream(request.start, request.nbytes, arrival.take)
        arrival.mend()
        return sum(nbytes for _, nbytes, _ in request.pieces)

    if not reader.network:
        return run_parallel(read, fills)
    requests = plan_requests((fill.offset, len(fill.out), fill) for fill in fills)
    return run_parallel(fetch, requests, network=reader.network)


class _Arrival:
    """The bytes of a request as they come: verified window by window, and only then copied to their places.

    Beside the memory that is filled there is one window, not the whole request.
    """

    def __init__(self, reader: Reader, request: Request[Fill]) -> None:
        self._reader, self._start = reader, request.start
        self._windows = [part for *_, fill in request.pieces for part in cut_fill(fill, tuning.WINDOW_BYTES)]
        self._memory: NDArray = np.empty(max(len(part.out) for part in self._windows), np.uint8)
        self._next = 0
        self._failed: list[tuple[Fill, list[Segment]]] = []

    def take(self, at: int, chunk: Any) -> None:
        """Take bytes that begin at ``at`` of the request, and put in place what is complete."""
        if not at:
            self._next = 0
            self._failed.clear()
        data = np.frombuffer(chunk, np.uint8)
        low, high = self._start + at, self._start + at + len(data)
        for number in range(self._next, len(self._windows)):
            window = self._windows[number]
            begin, end = window.offset, window.offset + len(window.out)
            first, last = max(begin, low), min(end, high)
            if first >= last:
                return
            part = data[first - low : last - low]
            if last - first < end - begin:
                self._memory[first - begin : last - begin] = part
                part = self._memory[: end - begin]
            if last < end:
                return
            self._put(window, part)
            self._next = number + 1

    def mend(self) -> None:
        """Fetch windows that failed their digests once more.

        Raises
        ------
        DigestError
        """
        failed = {segment for _, segments in self._failed for segment in segments}
        for request in plan_requests((part.offset, len(part.out), part) for part, _ in self._failed):
            segments = [segment for *_, part in request.pieces for segment in part.segments]
            wrong = [number for *_, number in segments if number in failed]
            data = self._reader.refetch(Request(request.start, request.stop, segments), wrong)
            for offset, nbytes, part in request.pieces:
                part.out[:] = data[offset - request.start : offset - request.start + nbytes]

    def _put(self, window: Fill, data: NDArray) -> None:
        reader = self._reader
        failed = (
            []
            if reader.verify == "off"
            else failed_pieces(reader.index, data, window.offset, window.segments)
        )
        if failed:
            self._failed.append((window, failed))
        else:
            window.out[:] = data


def cut_fill(fill: Fill, most: int = MAX_SEGMENT_BYTES) -> Iterator[Fill]:
    """Yield a long read in pieces of at most 4 MiB: each is hashed while it is in the processor's cache."""
    count = max(1, most // max(nbytes for _, nbytes, _ in fill.segments))
    for at in range(0, len(fill.segments), count):
        part = fill.segments[at : at + count]
        low, high = part[0][0] - fill.offset, part[-1][0] + part[-1][1] - fill.offset
        yield Fill(part[0][0], fill.out[low:high], part)


def fill_range(reader: Reader, row: int, start: int, stop: int, out: NDArray) -> None:
    """Fill memory (uint8) with stored bytes ``start`` to ``stop`` of a row, verified.

    Segments of which all is wanted go straight into it; of the two at the ends a part is copied.

    Raises
    ------
    DigestError
        Bytes do not match; ``out`` holds none of those.
    """
    reader.require_open()
    size, offset = segment_bytes_of(reader.index, row), int(reader.index.offset[row])
    end = int(reader.index.stored_nbytes[row])
    edges: list[tuple[NDArray, int, int, int]] = []
    fills: list[Fill] = []
    inner = -(-start // size) * size, stop if stop == end else stop // size * size
    for low, high in ((start, min(inner[0], stop)), inner, (max(inner), stop)):
        if high <= low:
            continue
        first, last = low // size * size, min(-(-high // size) * size, end)
        segments = list(row_segments(reader.index, row, first, last))
        whole = (first, last) == (low, high)
        memory = out[low - start : high - start] if whole else np.empty(last - first, np.uint8)
        fills += cut_fill(Fill(offset + first, memory, segments))
        if not whole:
            edges.append((memory, low - first, low - start, high - low))
    for _ in run_fills(reader, fills):
        pass
    for memory, at, to, nbytes in edges:
        out[to : to + nbytes] = memory[at : at + nbytes]
