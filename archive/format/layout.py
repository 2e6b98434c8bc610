"""Offsets of arrays, decided before the first byte is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.format.constants import (
    ALIGN,
    DATA_AT,
    MAX_SEGMENT_BYTES,
    MAX_SEGMENTS,
    MIN_SEGMENT_BYTES,
    PAGE,
    PAGE_ALIGN_FROM,
)

__all__ = ["align_up", "place_arrays", "place_next", "segment_bytes", "segment_counts", "segment_shifts"]

_LEAST_SHIFT = MIN_SEGMENT_BYTES.bit_length() - 1
_MOST_SHIFT = MAX_SEGMENT_BYTES.bit_length() - 1
# the most bytes of an array whose segments have each size but the longest
_LIMITS = np.array([MAX_SEGMENTS << shift for shift in range(_LEAST_SHIFT, _MOST_SHIFT)], np.uint64)

Offsets = np.ndarray[Any, np.dtype[np.uint64]]


def align_up(offset: int, alignment: int) -> int:
    """Return the smallest multiple of ``alignment`` from ``offset`` on."""
    return -(-offset // alignment) * alignment


def place_arrays(nbytes: Offsets, start: int = DATA_AT) -> tuple[Offsets, int]:
    """Place arrays one after the other ([LAYOUT-2], [LAYOUT-3]).

    Parameters
    ----------
    nbytes : ndarray of uint64, shape (n,)
        Size of each array in bytes, in file order.
    start : int
        Offset of the first array, a multiple of 64.

    Returns
    -------
    offsets : ndarray of uint64, shape (n,)
        64-byte aligned; 4096-byte aligned from 64 KiB up.
    end : int
        Next offset that is a multiple of 64.

    Examples
    --------
    >>> offsets, end = place_arrays(np.array([10, 70000, 3], np.uint64))
    >>> offsets.tolist(), end
    ([4096, 8192, 78208], 78272)
    """
    sizes = -(-nbytes.astype(np.int64) // ALIGN) * ALIGN
    ends = np.cumsum(sizes)
    offsets = ends - sizes + start
    # the loop is over large arrays, as no others need padding: 20,000 small ones take 0.1 ms
    large = np.flatnonzero(nbytes >= PAGE_ALIGN_FROM)
    gaps = np.zeros(len(offsets), np.int64)
    padding = 0
    for row, offset in zip(large.tolist(), offsets[large].tolist(), strict=True):
        gap = -(offset + padding) % PAGE
        gaps[row] = gap
        padding += gap
    offsets = offsets + np.cumsum(gaps)
    end = int(offsets[-1] + sizes[-1]) if len(offsets) else start
    return offsets.astype(np.uint64), end


def place_next(position: int, nbytes: int) -> tuple[int, int]:
    """Return the offset of one more array, and the position for the next, by the rule of `place_arrays`."""
    offset = align_up(position, PAGE) if nbytes >= PAGE_ALIGN_FROM else position
    return offset, align_up(offset + nbytes, ALIGN)


def segment_bytes(nbytes: int) -> int:
    """Return the length of the segments of an array: a power of two, by its stored bytes alone ([DIGEST-2]).

    Examples
    --------
    >>> segment_bytes(10), segment_bytes(140_000_000), segment_bytes(10**11)
    (131072, 262144, 4194304)
    """
    wanted = -(-nbytes // MAX_SEGMENTS)
    return min(max(1 << max(wanted - 1, 0).bit_length(), MIN_SEGMENT_BYTES), MAX_SEGMENT_BYTES)


def segment_shifts(nbytes: Offsets) -> Offsets:
    """Return, for each array, the exponent of the power of two that `segment_bytes` is."""
    if not len(nbytes) or int(np.maximum.reduce(nbytes)) <= MAX_SEGMENTS * MIN_SEGMENT_BYTES:
        return np.broadcast_to(np.uint64(_LEAST_SHIFT), nbytes.shape)  # a search for 20,000 takes 0.2 ms
    return np.asarray(np.searchsorted(_LIMITS, nbytes) + _LEAST_SHIFT, np.uint64)


def segment_counts(nbytes: Offsets) -> Offsets:
    """Return the number of digests of each array."""
    if not len(nbytes) or int(np.maximum.reduce(nbytes)) <= MIN_SEGMENT_BYTES:
        return (nbytes > 0).astype(np.uint64)  # a division of 20,000 takes 60 us
    shifts = segment_shifts(nbytes)
    return np.asarray((nbytes + ((np.uint64(1) << shifts) - np.uint64(1))) >> shifts, np.uint64)
