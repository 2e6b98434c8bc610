"""Looks for NaN and infinities in arrays while they are written.

What is looked at are the private copies that are hashed and written, while they are in the processor's cache:
so it costs 30 to 50 us a MiB, and what is said of an array is true of its bytes in the file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.dtypes import NDArray, is_ml_dtype, parse_dtype
from archive.engine.storagespec import StorageSpec
from archive.engine.write.schema import Rows
from archive.errors import UnsupportedDtypeError
from archive.format.constants import KIND_ARRAYS, MODE_ELEMENTS
from archive.format.index import RecordName

__all__ = ["FinitenessCheck", "Look", "NonFinite"]

Look = Callable[[Any, int], object]
"""Takes a private copy of stored bytes, and the offset in the file where they begin."""
DType = np.dtype[Any]
_AT_ONCE = 1 << 16
"""Elements that are looked at by one call: 31 us a MiB of float32; 4 Ki at once take 140."""


@dataclass(frozen=True, slots=True)
class NonFinite:
    """An array with elements that are not finite."""

    record: str
    """Name of its record."""
    key: str
    """Its key."""
    nans: int
    """Elements that are NaN, in any part of a complex number."""
    infinities: int
    """Elements that are infinite, and not NaN."""
    elements: int
    """Elements in all."""


class FinitenessCheck:
    """What the arrays of one save have of NaN and infinities; several threads may look at once.

    Floats of all sizes, bfloat16 and the 8-bit floats of ml_dtypes, and complex numbers are looked at;
    metrics and configs are not, nor fields of structured types.
    """

    def __init__(self) -> None:
        self._rows, self._names = Rows(), list[RecordName]()
        self._types: dict[int, DType | None] = {}  # by storage spec
        self._counts: dict[tuple[int, int], tuple[int, int]] = {}  # by row and offset: a part may come twice

    def begin(self, rows: Rows, names: list[RecordName]) -> None:
        """Take the rows that are written; both may grow."""
        self._rows, self._names = rows, names

    def look_at(self, row: int) -> Look | None:
        """Return what looks at the bytes of a row; None where they are no floats."""
        dtype = self._dtype(row)
        return None if dtype is None else functools.partial(self._look, row, dtype)

    def look_at_all(self, rows: Sequence[int], offset: NDArray) -> Look | None:
        """Return what looks at small rows that are written together; ``offset`` is that of every row.

        Zeros may lie between them.
        """
        numbers = set(map(self._rows.spec.__getitem__, rows))
        types = {dtype for number in numbers if (dtype := self._type_of(number)) is not None}
        # asked by storage spec: a question an array takes 9 of the 50 ms of 20,000
        return functools.partial(self._look_at_all, rows, offset, types) if types else None

    def found(self) -> list[NonFinite]:
        """Return the arrays that are not finite, in the order of their rows."""
        sums: dict[int, tuple[int, int]] = {}
        for (row, _), (nans, infinities) in sorted(self._counts.items()):
            before = sums.get(row, (0, 0))
            sums[row] = before[0] + nans, before[1] + infinities
        return [
            NonFinite(
                self._names[self._rows.record[row]].name,
                self._rows.keys[row],
                *counts,
                elements=self._spec(row).nbytes // parse_dtype(self._spec(row).type.dtype).itemsize,
            )
            for row, counts in sums.items()
        ]

    def _spec(self, row: int) -> StorageSpec:
        return self._rows.specs[self._rows.spec[row]]

    def _dtype(self, row: int) -> DType | None:
        """Return the type of a row whose elements may be NaN or infinite."""
        if self._names[self._rows.record[row]].kind != KIND_ARRAYS:
            return None
        return self._type_of(self._rows.spec[row])

    def _type_of(self, number: int) -> DType | None:
        """Return the type of a storage spec whose elements may be NaN or infinite."""
        if number not in self._types:
            kind = self._rows.specs[number].type
            self._types[number] = _float_type(kind.dtype) if kind.mode == MODE_ELEMENTS else None
        return self._types[number]

    def _look(self, row: int, dtype: DType, copy: Any, offset: int) -> None:
        elements = np.frombuffer(copy, dtype)
        if not _are_finite(elements):
            nans = np.isnan(elements)
            infinities = ~np.isfinite(elements) & ~nans
            self._counts[row, offset] = int(np.count_nonzero(nans)), int(np.count_nonzero(infinities))

    def _look_at_all(
        self, rows: Sequence[int], offsets: NDArray, types: set[DType], copy: Any, begin: int
    ) -> None:
        # of one type, as most models are: one look instead of 5 us an array; what alarms among integers and
        # other bytes between them is looked at by itself
        dtype, *others = types
        if not others and len(copy) % dtype.itemsize == 0 and _are_finite(np.frombuffer(copy, dtype)):
            return
        view = memoryview(copy)
        for row in rows:
            found, at = self._dtype(row), offsets.item(row)
            if found is not None:
                self._look(row, found, view[at - begin : at - begin + self._spec(row).nbytes], at)


@functools.lru_cache(256)
def _float_type(name: str) -> DType | None:
    """Return the type that a text names where its elements may be NaN or infinite."""
    try:
        dtype = parse_dtype(name)
    except UnsupportedDtypeError:
        return None
    if dtype.subdtype is not None or dtype.names is not None:
        return None
    if is_ml_dtype(dtype):
        return dtype if len(_codes(dtype)) else None
    return dtype if dtype.kind in "fc" else None


def _are_finite(elements: NDArray) -> bool:
    """Return whether no element is NaN or infinite."""
    dtype = elements.dtype
    if dtype.kind == "c":
        elements = elements.view(f"{dtype.byteorder}f{dtype.itemsize // 2}")
    if dtype.kind == "c" or dtype.itemsize > 2 or not dtype.isnative:
        # some at a time: the C library has the kernel map and clear memory of 128 KiB and more
        starts = range(0, len(elements), _AT_ONCE)
        return all(np.isfinite(elements[start : start + _AT_ONCE]).all() for start in starts)
    # numpy converts each float of two bytes or one: 20 times as long as a look at its bits
    positive, negative, zero = _edges(dtype)
    signed, unsigned = elements.view(f"i{dtype.itemsize}"), elements.view(f"u{dtype.itemsize}")
    if not len(elements):
        return True
    if zero:
        return bool(signed.min() > -positive)
    return bool(signed.max() < positive and unsigned.max() < negative)


@functools.lru_cache(64)
def _codes(dtype: DType) -> NDArray:
    """Return the bit patterns of a small type that are not finite."""
    every = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):  # a signalling NaN says so
        codes: NDArray = np.flatnonzero(~np.isfinite(every.view(dtype)))
    return codes


@functools.lru_cache(64)
def _edges(dtype: DType) -> tuple[int, int, bool]:
    """Return which bits of a small type are not finite.

    Returns
    -------
    positive, negative : int
        The least bits, without and with the sign, that are not finite; all greater ones are not either.
    zero : bool
        Or only the bits of -0 are not finite, as in float8_e4m3fnuz.
    """
    codes, half = _codes(dtype), 1 << 8 * dtype.itemsize - 1
    positive, negative = codes[codes < half], codes[codes >= half]
    if codes.tolist() == [half]:
        return half, 2 * half, True
    return half - len(positive), 2 * half - len(negative), False
