"""Reads what a selection takes of a row: the segments that it touches, and no others.

`archive.engine.read.selection` decides what; this module plans the requests, has the reader fetch and verify
the segments, and puts the result together.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.engine.read.selection import Selection
from archive.format.segments import segment_bytes_of
from archive.storage.remote.ranges import Piece, Request, plan_requests
from archive.workers import run_parallel

__all__ = ["check_selection", "read_selection"]


def check_selection(reader: Reader, row: int, selection: Selection) -> None:
    """Verify the segments of a mapped row that a selection touches, unless ``verify`` is off.

    Raises
    ------
    DigestError
    """
    if reader.verify == "off":
        return
    size, nbytes = segment_bytes_of(reader.index, row), int(reader.index.stored_nbytes[row])
    for first, end in selection.stretches(size):
        reader.stored_range(row, first * size, min(end * size, nbytes))


def read_selection(reader: Reader, row: int, selection: Selection) -> NDArray:
    """Return the elements of a selection as opaque bytes (`Selection.gather`), verified.

    A view of what was read where numpy would give a view and the view keeps less than twice its own bytes in
    memory; otherwise a copy.

    Raises
    ------
    DigestError, ClosedError
    """
    reader.require_open()
    size, nbytes = segment_bytes_of(reader.index, row), int(reader.index.stored_nbytes[row])
    stretches = selection.stretches(size)
    if not stretches:
        return selection.gather(np.empty(0, np.uint8), 0, size)
    count = -(-nbytes // size)
    if sum(end - first for first, end in stretches) >= tuning.WHOLE_SHARE * count:
        stretches = [(0, count)]
    shift: int | NDArray
    if len(stretches) == 1 and (reader.verify == "off" or not reader.remote):
        first, end = stretches[0]
        exact = reader.verify == "off"
        low, high = selection.bounds if exact else (first * size, min(end * size, nbytes))
        data, shift = reader.stored_range(row, low, high), -low
    else:
        numbers = np.concatenate([np.arange(first, end) for first, end in stretches])
        data = _segments(reader, row, numbers, _kept(selection, numbers, size))
        shift = -stretches[0][0] * size
        if len(stretches) > 1:
            shift = np.zeros(count, np.int64)
            shift[numbers] = (np.arange(len(numbers)) - numbers) * size
    found = selection.gather(data, shift, size)
    wasteful = not reader.source.mapped and 2 * found.nbytes < data.nbytes
    private = selection.copies or reader.writable
    return found.copy() if (private or wasteful) and np.may_share_memory(found, data) else found


def _kept(selection: Selection, numbers: NDArray, size: int) -> set[int]:
    """Return which segments are worth keeping: of a range the two that it takes a part of.

    Of other selections all, unless they would push out what is kept.
    """
    if selection.contiguous:
        low, high = selection.bounds
        edges = (low // size, (high - 1) // size)
        return {number for number in edges if number * size < low or high < (number + 1) * size}
    return set(numbers.tolist()) if 2 * len(numbers) * size <= tuning.SEGMENT_CACHE_BYTES else set()


def _segments(reader: Reader, row: int, numbers: NDArray, kept: set[int]) -> NDArray:
    """Return segments of a row, one after the other: those of the cache, the others fetched side by side."""
    size, nbytes = segment_bytes_of(reader.index, row), int(reader.index.stored_nbytes[row])
    first, offset = int(reader.index.segment_at[row]), int(reader.index.offset[row])
    places = {number: at * size for at, number in enumerate(numbers.tolist())}
    known = _known(reader, row, places)

    def requests_for(wanted: Iterable[int]) -> list[Request[int]]:
        pieces: list[Piece[int]] = [
            (offset + number * size, min(size, nbytes - number * size), places[number]) for number in wanted
        ]
        total = sum(length for _, length, _ in pieces)
        request_bytes = tuning.REQUEST_BYTES if total > tuning.SINGLE_REQUEST_BYTES else total
        return list(plan_requests(pieces, request_bytes=request_bytes, gap_bytes=0))

    requests = requests_for(number for number in places if number not in known)
    if known and len(requests) > tuning.REQUESTS:
        requests = min(requests, requests_for(places), key=len)  # what is known left too many holes

    def read(request: Request[int]) -> NDArray:
        start = request.start - offset
        return reader.stored_range(row, start, start + request.nbytes)

    def fill(request: Request[int]) -> None:
        at = request.pieces[0][2]
        out[at : at + request.nbytes] = read(request)

    if len(requests) == 1 and not known:
        out = read(requests[0])
    else:
        out = np.empty(int(np.minimum(nbytes - numbers * size, size).sum()), np.uint8)
        # hashing has threads of its own: for a file these calls would wait for one another
        network = reader.network
        for _ in run_parallel(fill, requests, network=network) if network else map(fill, requests):
            pass
        for number, data in known.items():
            out[places[number] : places[number] + len(data)] = data
    if reader.remote:
        new = kept.difference(known)
        reader.recent.keep(
            (first + number, out[places[number] : places[number] + size].copy()) for number in new
        )
    return out


def _known(reader: Reader, row: int, numbers: Iterable[int]) -> dict[int, NDArray]:
    """Return the segments that a reader of a remote archive has kept."""
    if not reader.remote:
        return {}
    first = int(reader.index.segment_at[row])
    found = ((number, reader.recent.find(first + number)) for number in numbers)
    return {number: data for number, data in found if data is not None}
