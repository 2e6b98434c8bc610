"""Goes through stored bytes a window at a time: verified, in file order, in a bounded amount of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.format.segments import row_segments, segment_bytes_of
from archive.storage.remote.ranges import Request, plan_requests
from archive.workers import run_parallel

__all__ = ["Window", "cut_windows", "look_at", "read_windows", "window_bytes"]

R = TypeVar("R")
W = TypeVar("W", bound=tuple[int, ...])


class Window(NamedTuple):
    """A range of the stored bytes of a row that begins and ends with segments."""

    row: int
    start: int
    stop: int


def window_bytes(reader: Reader, row: int) -> int:
    """Return the length of the windows of a row: it follows from the length of the array alone."""
    return max(segment_bytes_of(reader.index, row), tuning.LOOK_BYTES)


def cut_windows(reader: Reader, row: int, step: int = 0) -> Iterator[Window]:
    """Yield the windows of a row, each of ``step`` bytes but the last."""
    nbytes: int = reader.index.stored_nbytes.item(row)
    step = step or window_bytes(reader, row)
    for start in range(0, nbytes, step):
        yield Window(row, start, min(start + step, nbytes))


def look_at(
    call: Callable[[list[W]], R], windows: Iterable[W], *readers: Reader, alone: bool = True
) -> Iterator[R]:
    """Yield the result of a call for each group of windows, in order, computed in threads.

    Parameters
    ----------
    call : callable
        Takes windows, or tuples whose last two numbers are those of a window, and reads them.
    windows : iterable
        Groups are made of neighbours: of 1 MiB, of what a request brings where a server is asked.
    *readers : Reader
        Whose bytes they are.
    alone : bool, default True
        False where others read other archives at the same time: a server is then asked by the calling
        thread, since the memory of all their requests would add up.
    """
    network = max(reader.network for reader in readers)
    groups = _group(windows, tuning.PREFETCH_BYTES if network else tuning.LOOK_BYTES)
    if network and not alone:
        return map(call, groups)
    most = tuning.PREFETCH_REQUESTS if network else 0
    return run_parallel(call, groups, network=min(network, most), ahead=most)


def _group(windows: Iterable[W], nbytes: int) -> Iterator[list[W]]:
    group: list[W] = []
    length = 0
    for window in windows:
        group.append(window)
        length += window[-1] - window[-2]
        if length >= nbytes:
            yield group
            group, length = [], 0
    if group:
        yield group


def read_windows(reader: Reader, windows: Iterable[Window]) -> Iterator[NDArray]:
    """Yield the stored bytes of each window, verified; pages of a map go back to the system afterwards.

    Neighbours are read at once: over a network by requests of 4 MiB, else up to the length of a window.

    Raises
    ------
    DigestError
        Bytes do not match.
    """
    reader.require_open()
    index, source = reader.index, reader.source
    pieces = (
        (index.offset.item(window.row) + window.start, window.stop - window.start, window)
        for window in windows
    )
    together = tuning.PREFETCH_BYTES if reader.network else tuning.LOOK_BYTES
    for request in plan_requests(pieces, request_bytes=together):
        segments = [piece for *_, window in request.pieces for piece in row_segments(index, *window)]
        data = reader.fetch(Request(request.start, request.stop, segments))
        try:
            for offset, nbytes, _ in request.pieces:
                yield data[offset - request.start : offset - request.start + nbytes]
        finally:
            source.release(request.start, request.nbytes)
