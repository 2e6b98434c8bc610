"""What an index of numpy means: which bytes of an array it takes, and how the result is made of them.

Pure: this module knows neither file nor digests. A result is described by its axes. Each axis is a list of
byte offsets, and the place of an element is the sum of one offset of each axis.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from archive import tuning
from archive.dtypes import NDArray

__all__ = ["Selection", "parse_selection"]

_BYTE = np.dtype(np.uint8)
RUN_BYTES = 1 << 20
"""Bytes that are copied as one element, at most: numpy's elements end at 2 GiB."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Byte offsets of one axis of a result: 0, step, 2 step and so on, or a list."""

    count: int
    step: int
    offsets: NDArray | None = None

    def at(self, numbers: NDArray) -> NDArray:
        """Return the offsets of some entries."""
        found: NDArray = numbers * self.step if self.offsets is None else self.offsets[numbers]
        return found

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest offset."""
        if self.offsets is not None:
            return int(self.offsets.min()), int(self.offsets.max())
        last = self.step * (self.count - 1)
        return min(last, 0), max(last, 0)

    @property
    def gap(self) -> int:
        """The largest distance between an offset and the next one in the file."""
        if self.count < 2:
            return 0
        return abs(self.step) if self.offsets is None else int(np.diff(np.sort(self.offsets)).max())


@dataclass(frozen=True, slots=True)
class Selection:
    """What ``array[index]`` takes of an array in C order. Its axes follow the memory of the result."""

    origin: int
    """Byte of the array that the offsets of the axes count from."""
    itemsize: int
    """Bytes of an element."""
    axes: tuple[Axis, ...]
    """Index arrays make the first axis, as in numpy's own memory; the axes of slices follow."""
    shape: tuple[int, ...]
    """Of the result in memory, the axes of index arrays first."""
    fancy: tuple[int, int]
    """How many axes the index arrays make, and where the result has them."""
    copies: bool
    """Whether numpy makes a copy (index arrays and masks) and no view."""
    scalar: bool
    """Whether numpy returns a scalar."""

    @property
    def nbytes(self) -> int:
        """Bytes of the elements of the result."""
        return math.prod(axis.count for axis in self.axes) * self.itemsize

    @property
    def bounds(self) -> tuple[int, int]:
        """Where the first byte is, and the end of the last one; the result must not be empty."""
        ends = [axis.ends for axis in self.axes]
        low = self.origin + sum(first for first, _ in ends)
        return low, self.origin + sum(last for _, last in ends) + self.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the result is a range of bytes in its order."""
        return not self._runs(self.nbytes)[0]

    def stretches(self, segment_bytes: int) -> list[tuple[int, int]]:
        """Return first and end of each stretch of segments that hold bytes of the result.

        Axes whose offsets leave no segment out between them make one block of bytes. The places of this block
        are enumerated along the other axes: there are few, as they lie a segment apart or an index array
        lists them.
        """
        if not self.nbytes:
            return []
        low, length = self.origin, self.itemsize
        apart: list[Axis] = []
        for gap, axis in sorted(((axis.gap, axis) for axis in self.axes), key=operator.itemgetter(0)):
            if gap - length < segment_bytes:
                first, last = axis.ends
                low, length = low + first, length + last - first
            else:
                apart.append(axis)
        if not apart:  # nearly every index: without numpy this takes 2 us instead of 60
            return [(low // segment_bytes, (low + length - 1) // segment_bytes + 1)]
        starts = np.full(1, low)
        for axis in apart:
            starts = np.add.outer(starts, axis.at(np.arange(axis.count))).reshape(-1)
        begun, ended = starts // segment_bytes, (starts + length - 1) // segment_bytes + 1
        count = int(ended.max())
        change = np.bincount(begun, minlength=count + 1) - np.bincount(ended, minlength=count + 1)
        edges = np.flatnonzero(np.diff(np.cumsum(change) > 0, prepend=False)).tolist()
        return list(zip(edges[::2], edges[1::2], strict=True))

    def gather(self, data: NDArray, shift: int | NDArray, segment_bytes: int) -> NDArray:
        """Return the elements of the result as opaque bytes, of the shape in memory.

        Parameters
        ----------
        data : ndarray of uint8
            Bytes of the array, those of the result among them.
        shift : int or ndarray of int64
            What has to be added to a place in the array to get the place in ``data``: one number, or one
            for each segment.
        segment_bytes : int

        Returns
        -------
        ndarray of void
            A view of ``data`` where the result consists of steps and ``shift`` is one number.
        """
        if not self.nbytes:
            return np.empty(self.shape, f"V{self.itemsize}")
        if isinstance(shift, int) and all(axis.offsets is None for axis in self.axes):
            counts, steps = [axis.count for axis in self.axes], [axis.step for axis in self.axes]
            view: NDArray = np.ndarray(counts, f"V{self.itemsize}", data, self.origin + shift, steps)
            return view.reshape(self.shape)
        axes, length = self._runs(RUN_BYTES)
        total = math.prod(axis.count for axis in axes)
        out = np.empty(total, f"V{length}")
        source: NDArray = np.ndarray(len(data) - length + 1, out.dtype, data, strides=(1,))
        step = max(1, tuning.GATHER_BYTES // max(length, 8))
        for low in range(0, total, step):
            at = self._places(axes, low, min(low + step, total))
            at += shift if isinstance(shift, int) else shift[at // segment_bytes]
            out[low : low + step] = source[at]
        return out.view(f"V{self.itemsize}").reshape(self.shape)

    def arrange(self, elements: NDArray) -> Any:
        """Return the result with its axes in numpy's order, or the scalar."""
        count, at = self.fancy
        placed = np.moveaxis(elements, range(count), range(at, at + count)) if at else elements
        return placed[()] if self.scalar else placed

    def _runs(self, limit: int) -> tuple[list[Axis], int]:
        """Return the axes but those that are one run of bytes, and the length of this run."""
        axes, length = [axis for axis in self.axes if axis.count != 1], self.itemsize
        while axes and axes[-1].offsets is None and axes[-1].step == length:
            if length * axes[-1].count > limit:
                break
            length *= axes.pop().count
        return axes, length

    def _places(self, axes: list[Axis], low: int, high: int) -> NDArray:
        """Return where the runs ``low`` to ``high`` begin in the array."""
        numbers = np.arange(low, high)
        at = np.full(high - low, self.origin)
        for axis in reversed(axes):
            numbers, own = np.divmod(numbers, axis.count)
            at += axis.at(own)
        return at


def parse_selection(
    index: Any, shape: tuple[int, ...], dtype: np.dtype[Any], itemsize: int
) -> Selection | None:
    """Return what ``array[index]`` takes of an array; None where this is not for this module to say (fields).

    Parameters
    ----------
    index : Any
    shape : tuple of int
    dtype : dtype
        Of the elements.
    itemsize : int
        Bytes of a stored element.

    Raises
    ------
    IndexError
        As numpy raises it, by numpy itself: it indexes an array of this shape that has one element.

    Examples
    --------
    >>> found = parse_selection((slice(None, None, 2), 1), (5, 4), np.dtype("f4"), 4)
    >>> found.shape, found.bounds, found.stretches(16)
    ((3,), (4, 72), [(0, 1), (2, 3), (4, 5)])
    """
    one = dtype if dtype.names is not None else _BYTE
    found = np.ndarray(shape, one, bytes(one.itemsize), strides=(0,) * len(shape))[index]
    if found.dtype != one:
        return None
    entries = _entries(index, len(shape))
    if entries is None:
        return None
    return _resolve(entries, shape, itemsize, not isinstance(found, np.ndarray))


class Advanced(NamedTuple):
    """An index array for one axis of the array; True and False become one for no axis."""

    values: NDArray
    consumes: bool


def _entries(index: Any, rank: int) -> list[Any] | None:
    """Return an index that numpy accepts, entry by entry.

    Masks become integers, and Ellipsis stands before the slices that it is short for.
    """
    entries: list[Any] = []
    for item in index if isinstance(index, tuple) else (index,):
        if item is None or item is Ellipsis or isinstance(item, slice):
            entries.append(item)
            continue
        advanced = _advanced(item)
        if advanced is None:
            return None
        entries += advanced
    used = sum(
        entry.consumes if type(entry) is Advanced else isinstance(entry, (int, slice)) for entry in entries
    )
    at = next((number for number, entry in enumerate(entries) if entry is Ellipsis), len(entries))
    entries[at + 1 : at + 1] = [slice(None)] * (rank - used)
    return entries


def _advanced(item: Any) -> list[int | Advanced] | None:
    if not isinstance(item, (np.ndarray, np.bool_, bool)):
        try:
            return [operator.index(item)]
        except TypeError:
            pass  # no integer: a list, or what numpy makes an array of
    values = np.asarray(item)
    if not values.size and not isinstance(item, np.ndarray):
        values = values.astype(np.intp)  # numpy takes an empty list for integers
    if values.dtype.kind == "b":
        if not values.ndim:
            return [Advanced(np.zeros(int(values), np.int64), False)]
        return [Advanced(part, True) for part in values.nonzero()]
    if values.dtype.kind not in "iu":
        return None
    return [Advanced(values.astype(np.int64), True) if values.ndim else int(values)]


def _resolve(entries: list[Any], shape: tuple[int, ...], itemsize: int, scalar: bool) -> Selection:
    """Return the selection of entries that numpy accepts.

    Index arrays, and integers beside them, are broadcast into one list of places. The result has their axes
    where the first of them stands, or in front where other entries lie between them.
    """
    copies = any(type(entry) is Advanced for entry in entries)
    steps = [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
    places = iter(zip(shape, steps, strict=True))
    axes: list[Axis] = []
    parts: list[NDArray] = []
    origin, at, apart = 0, 0, False
    for entry in entries:
        if isinstance(entry, int) and not copies:
            length, step = next(places)
            origin += (entry + length if entry < 0 else entry) * step
            continue
        if isinstance(entry, (int, Advanced)):
            values, consumes = (np.asarray(entry), True) if isinstance(entry, int) else entry
            if consumes:
                length, step = next(places)
                values = np.where(values < 0, values + length, values) * step
            at = 0 if apart else at if parts else len(axes)
            parts.append(values)
            continue
        apart = bool(parts)
        if entry is None:
            axes.append(Axis(1, itemsize))
        elif entry is not Ellipsis:
            length, step = next(places)
            taken = range(length)[entry]
            axes.append(Axis(len(taken), taken.step * step))
            origin += taken.start * step if taken else 0
    lengths = tuple(axis.count for axis in axes)
    if not copies:
        return Selection(origin, itemsize, tuple(axes), lengths, (0, 0), copies, scalar)
    offsets = functools.reduce(np.add, parts)
    if offsets.size == 1:
        origin += offsets.item()
    else:
        axes.insert(0, Axis(offsets.size, 0, offsets.reshape(-1)))
    return Selection(
        origin, itemsize, tuple(axes), offsets.shape + lengths, (offsets.ndim, at), copies, scalar
    )
