"""Segments of arrays: their places in the file, and whether bytes match their digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from archive.dtypes import NDArray
from archive.format.constants import DIGEST_BYTES, NO_ALIAS
from archive.format.digests import digest
from archive.format.index import Index

__all__ = [
    "Segment",
    "SegmentPiece",
    "failed_pieces",
    "failed_segments",
    "locate_segment",
    "row_segments",
    "segment_bytes_of",
    "segments_of_rows",
]

Segment = int
"""A segment of an array: the number of its digest in the index."""
SegmentPiece = tuple[int, int, Segment]
"""File offset, length, and the segment."""


def segment_bytes_of(index: Index, row: int) -> int:
    """Return the length of the segments of a row; the last may be shorter."""
    return 1 << int(index.segment_shift[row])


def row_segments(index: Index, row: int, start: int = 0, stop: int | None = None) -> Iterator[SegmentPiece]:
    """Yield the segments of a row, or of a range of the row that begins and ends with segments."""
    offset, nbytes, first = int(index.offset[row]), int(index.stored_nbytes[row]), int(index.segment_at[row])
    size = segment_bytes_of(index, row)
    end = nbytes if stop is None else stop
    for low in range(start, end, size):
        yield offset + low, min(size, end - low), first + low // size


def segments_of_rows(index: Index, rows: NDArray) -> list[SegmentPiece]:
    """Return the segments of many rows that have bytes of their own, row by row.

    A few numpy operations for all rows: 20,000 take 3 ms, and 16 ms one by one.
    """
    nbytes = index.stored_nbytes[rows]
    counts = index.segment_count[rows].astype(np.int64)
    ends = np.cumsum(counts)
    row = np.repeat(np.arange(len(rows)), counts)
    number = np.arange(len(row)) - (ends - counts)[row]
    size = np.int64(1) << index.segment_shift[rows].astype(np.int64)[row]
    offset = index.offset[rows].astype(np.int64)[row] + number * size
    length = np.minimum(nbytes.astype(np.int64)[row] - number * size, size)
    first = index.segment_at[rows].astype(np.int64)[row]
    return list(zip(offset.tolist(), length.tolist(), (first + number).tolist(), strict=True))


def failed_pieces(index: Index, data: NDArray, start: int, pieces: Sequence[SegmentPiece]) -> list[Segment]:
    """Return the segments whose bytes, in ``data`` that begins at file offset ``start``, do not match."""
    view = data.data
    views = [view[offset - start : offset - start + nbytes] for offset, nbytes, _ in pieces]
    return failed_segments(index, views, [number for _, _, number in pieces])


def failed_segments(
    index: Index, views: Iterable[memoryview], segments: range | list[Segment]
) -> list[Segment]:
    """Return the segments whose bytes do not match; a range of segments takes half the time of a list."""
    found = list(map(digest, views))
    if isinstance(segments, range):
        wanted = index.digests[segments.start : segments.stop].tobytes()
    else:
        wanted = index.digests[segments].tobytes()
    if b"".join(found) == wanted:
        return []
    size = DIGEST_BYTES
    return [number for at, number in enumerate(segments) if found[at] != wanted[at * size : at * size + size]]


def locate_segment(index: Index, segment: Segment) -> tuple[int, int]:
    """Return the row of a segment, and its number within the row."""
    rows = np.flatnonzero((index.alias_of == NO_ALIAS) & (index.stored_nbytes > 0))
    row = int(rows[np.searchsorted(index.segment_at[rows], segment, "right") - 1])
    return row, segment - int(index.segment_at[row])
