"""Histograms: how many finite elements fall between equal steps from the smallest to the largest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.engine.read.windows import Window, cut_windows, look_at, read_windows
from archive.tools.arraystats import number_type
from archive.tools.moments import Moments, as_reals

__all__ = ["Histogram", "histogram_of", "histogram_of_row"]

BINS = 16


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges; the last bin has its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def histogram_of(blocks: Iterable[NDArray], moments: Moments, *, bins: int = BINS) -> Histogram:
    """Return the histogram of blocks of numbers, whose moments are known.

    Integers of few values have a bin for each.

    Examples
    --------
    >>> from archive.tools.moments import moments_of
    >>> values = np.array([0, 0, 2])
    >>> histogram_of([values], moments_of(values))
    Histogram(edges=(0.0, 1.0, 2.0, 3.0), counts=(2, 0, 1))
    """
    edges = _edges(moments, bins)
    counts = sum((_count(block, edges) for block in blocks), _zeros(edges))
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def histogram_of_row(reader: Reader, row: int, moments: Moments, *, bins: int = BINS) -> Histogram:
    """Return the histogram of a stored array of numbers: it is read again, in a bounded amount of memory."""
    index = reader.index
    dtype = number_type(index.types[index.type.item(row)]) or np.dtype(np.uint8)
    edges = _edges(moments, bins)

    def look(windows: list[Window]) -> NDArray:
        return sum((_count(data.view(dtype), edges) for data in read_windows(reader, windows)), _zeros(edges))

    total = sum(look_at(look, cut_windows(reader, row), reader), _zeros(edges))
    return Histogram(tuple(edges.tolist()), tuple(total.tolist()))


def _edges(moments: Moments, bins: int) -> NDArray:
    """Return the edges of bins; none where no element is finite."""
    low, high = moments.low, moments.high
    if not moments.finite:
        return np.zeros(1)
    if (
        isinstance(low, int)
        and isinstance(high, int)
        and high - low < bins
        and abs(low) + abs(high) < 1 << 53
    ):
        return np.arange(low, high + 2, dtype=np.float64)
    if low == high:
        return np.array([low, high], np.float64)
    shares = np.linspace(0.0, 1.0, bins + 1)
    return low * (1 - shares) + high * shares  # their difference may not be in float64


def _zeros(edges: NDArray) -> NDArray:
    return np.zeros(len(edges) - 1, np.int64)


def _count(values: NDArray, edges: NDArray) -> NDArray:
    counts = _zeros(edges)
    bins, low, high = len(counts), float(edges[0]), float(edges[-1])
    with np.errstate(all="ignore"):
        # halves: the difference of two numbers may not be in float64
        step = np.float64(bins) / (high / 2 - low / 2)
        for at in range(0, len(values) if bins else 0, tuning.LOOK_ELEMENTS):
            part = as_reals(values[at : at + tuning.LOOK_ELEMENTS]).astype(np.float64)
            part = part[np.isfinite(part)]
            places = (part / 2 - low / 2) * step if np.isfinite(step) else np.zeros(len(part))
            counts += np.bincount(np.clip(places, 0, bins - 1).astype(np.intp), minlength=bins)
    return counts
