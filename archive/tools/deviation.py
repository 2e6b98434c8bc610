"""How far two blocks of numbers are apart: largest differences, norms, cosine, elements that differ.

Pure: this module knows arrays and not where they come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.tools.moments import as_reals, exponent_of, scale

__all__ = ["NONE", "Deviation", "add", "deviation_of"]


class _Sum(NamedTuple):
    """A sum of products, as ``value * 2**exponent``: squares of huge and tiny numbers are in float64 so."""

    value: float = 0.0
    exponent: int = 0

    def plus(self, other: _Sum) -> _Sum:
        if not (self.value and other.value):
            return self if self.value else other
        exponent = max(self.exponent, other.exponent)
        value = math.ldexp(self.value, self.exponent - exponent)
        return _Sum(value + math.ldexp(other.value, other.exponent - exponent), exponent)

    def root(self) -> float:
        """Return the square root of a sum of squares, whose exponent is even."""
        return float(np.ldexp(math.sqrt(self.value), self.exponent // 2))


_NO_SUM = _Sum()


@dataclass(frozen=True, slots=True)
class Deviation:
    """What is known of pairs of elements. Sums leave out pairs with a NaN or an infinity."""

    different: int = 0
    """Pairs that differ by more than the tolerance; so does a NaN from a number."""
    nan: int = 0
    """Pairs of which one is NaN."""
    max_abs: float = 0.0
    max_rel: float = 0.0
    away: _Sum = _NO_SUM
    """Squares of the differences."""
    first: _Sum = _NO_SUM
    """Squares of the first elements."""
    second: _Sum = _NO_SUM
    products: _Sum = _NO_SUM

    @property
    def norm(self) -> float:
        """L2 norm of the differences; infinite where an infinity meets another value."""
        return math.inf if math.isinf(self.max_abs) else self.away.root()

    @property
    def relative_norm(self) -> float:
        """`norm`, divided by that of the second elements."""
        if not self.norm:
            return 0.0
        norm = self.second.root()
        return self.norm / norm if norm else math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two; NaN where one of them is zero."""
        if not (self.first.value and self.second.value):
            return math.nan
        size = math.sqrt(self.first.value) * math.sqrt(self.second.value)
        exponent = self.products.exponent - (self.first.exponent + self.second.exponent) // 2
        return max(-1.0, min(1.0, math.ldexp(self.products.value / size, exponent)))


NONE = Deviation()


def add(one: Deviation, other: Deviation) -> Deviation:
    """Return the deviation of two blocks together."""
    if one is NONE:
        return other
    return Deviation(
        one.different + other.different,
        one.nan + other.nan,
        max(one.max_abs, other.max_abs),
        max(one.max_rel, other.max_rel),
        one.away.plus(other.away),
        one.first.plus(other.first),
        one.second.plus(other.second),
        one.products.plus(other.products),
    )


def deviation_of(first: NDArray, second: NDArray, rtol: float = 0.0, atol: float = 0.0) -> Deviation:
    """Return the deviation of two contiguous blocks of numbers of one length.

    Two elements are equal where ``|first - second| <= atol + rtol * |second|``, where both are NaN, and where
    both are the same infinity.

    Examples
    --------
    >>> found = deviation_of(np.array([1.0, 2.0, np.nan]), np.array([1.0, 4.0, np.nan]))
    >>> found.different, found.max_abs, found.max_rel, found.norm
    (1, 2.0, 0.5, 2.0)
    """
    first, second = first.reshape(-1), second.reshape(-1)
    # narrower types have no number whose square float64 lacks
    wide = any(block.dtype.itemsize >= 8 and block.dtype.kind in "fc" for block in (first, second))
    found = NONE
    step = tuning.LOOK_ELEMENTS
    memory = np.empty((4, min(step, len(first))))
    with np.errstate(all="ignore"):
        for at in range(0, len(first), step):
            one, other = _widen(first[at : at + step], second[at : at + step], memory)
            found = add(found, _compare(one, other, rtol, atol, wide, memory))
    return found


def _widen(first: NDArray, second: NDArray, memory: NDArray) -> tuple[NDArray, NDArray]:
    """Return two blocks as float64, longdouble or complex; 64-bit integers of one type as they are."""
    types = first.dtype.newbyteorder("="), second.dtype.newbyteorder("=")
    if "c" in (first.dtype.kind, second.dtype.kind):
        parts = [block if block.dtype.kind == "c" else as_reals(block) for block in (first, second)]
        wide = np.result_type(*(part.dtype.newbyteorder("=") for part in parts), np.complex128)
        return parts[0].astype(wide), parts[1].astype(wide)
    if types[0] == types[1] and types[0].kind in "iu" and types[0].itemsize == 8:
        return first.astype(types[0], copy=False), second.astype(types[1], copy=False)
    first, second = as_reals(first), as_reals(second)
    wide = np.result_type(first.dtype, second.dtype, np.float64)
    if wide != np.float64:
        return first.astype(wide), second.astype(wide)
    # given memory: what numpy asks for anew costs a page fault every 4 KiB
    for place, block in enumerate((first, second)):
        np.copyto(memory[place, : len(block)], block)
    return memory[0, : len(first)], memory[1, : len(first)]


def _compare(
    first: NDArray, second: NDArray, rtol: float, atol: float, wide: bool, memory: NDArray
) -> Deviation:
    away = _distances(first, second, memory[2])
    if first.dtype.kind in "iu":
        first, second = first.astype(np.float64), second.astype(np.float64)
    different = nan = 0
    infinite = False
    if not np.isfinite(away.max()):
        kept, different, nan, infinite = _odd_pairs(first, second)
        first, second = first[kept], second[kept]
        away = _distances(first, second, memory[2])
    if not len(away):
        most = math.inf if infinite else 0.0
        return Deviation(different, nan, most, most)
    spare = memory[3, : len(first)]
    sizes = np.abs(second, out=spare if second.dtype == spare.dtype else None)
    limit: Any = 0
    if rtol or atol:
        limit = atol + rtol * sizes
    different += int(np.count_nonzero(away > limit))
    max_abs, max_rel = float(away.max()), _largest_ratio(away, sizes)
    if infinite:
        max_abs = max_rel = math.inf
    blocks = away, first, second
    exponents = [_exponent(block) if wide else 0 for block in blocks]
    away, first, second = (
        _scaled(block, -exponent) for block, exponent in zip(blocks, exponents, strict=True)
    )
    return Deviation(
        different,
        nan,
        max_abs,
        max_rel,
        _Sum(_dot(away, away, spare), 2 * exponents[0]),
        _Sum(_dot(first, first, spare), 2 * exponents[1]),
        _Sum(_dot(second, second, spare), 2 * exponents[2]),
        _Sum(_dot(first, second, spare), exponents[1] + exponents[2]),
    )


def _distances(first: NDArray, second: NDArray, memory: NDArray) -> NDArray:
    """Return the distances of pairs; of large integers as exact as float64 has them."""
    if first.dtype.kind in "iu":
        high, low = np.maximum(first, second), np.minimum(first, second)
        exact: NDArray = (high.view(np.uint64) - low.view(np.uint64)).astype(np.float64)
        return exact
    if first.dtype != memory.dtype:
        sizes: NDArray = np.abs(first - second)
        return sizes
    away = np.subtract(first, second, out=memory[: len(first)])
    return np.abs(away, out=away)


def _odd_pairs(first: NDArray, second: NDArray) -> tuple[NDArray, int, int, bool]:
    """Return which pairs are finite.

    And how many others differ, how many have one NaN, and whether an infinity meets another value.
    """
    nans = np.isnan(first), np.isnan(second)
    nan = int(np.count_nonzero(nans[0] ^ nans[1]))
    infinite = (np.isinf(first) | np.isinf(second)) & ~(nans[0] | nans[1])
    apart = int(np.count_nonzero(infinite & (first != second)))
    return ~(nans[0] | nans[1] | infinite), nan + apart, nan, bool(apart)


def _exponent(values: NDArray) -> int:
    """Return the binary exponent to scale by."""
    parts = (values.real, values.imag) if values.dtype.kind == "c" else (values,)
    return exponent_of(*(extreme for part in parts for extreme in (part.min(), part.max())))


def _scaled(values: NDArray, exponent: int) -> NDArray:
    if not exponent or values.dtype.kind != "c":
        scaled: NDArray = scale(values, exponent)
        return scaled
    scaled = np.empty_like(values)
    scaled.real, scaled.imag = np.ldexp(values.real, exponent), np.ldexp(values.imag, exponent)
    return scaled


def _largest_ratio(away: NDArray, sizes: NDArray) -> float:
    """Return the largest distance relative to the second element: 0 of two zeros."""
    if not sizes.min():
        zero = sizes == 0
        sizes = np.where(zero & (away == 0), 1, sizes)
    return float(np.divide(away, sizes, out=sizes).max())


def _dot(first: NDArray, second: NDArray, memory: NDArray) -> float:
    """Return the sum of products. Not by BLAS, whose sum depends on the number of threads."""
    if first.dtype.kind == "c":
        return float((first.real * second.real).sum() + (first.imag * second.imag).sum())
    spare = memory if first.dtype == memory.dtype else None
    return float(np.multiply(first, second, out=spare).sum())
