"""Count, range, mean, spread and odd values of elements, a block at a time: exact merges, no overflow.

Pure: this module knows arrays and not where they come from.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archive import tuning
from archive.dtypes import NDArray, is_ml_dtype

__all__ = ["NOTHING", "Moments", "as_reals", "exponent_of", "is_number", "merge", "moments_of", "scale"]

DType = np.dtype[Any]
_HUGE = 480
"""Binary exponent from which on squares are scaled: sums of 2**60 of them stay in float64."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of some elements. All but the counts is of the finite ones."""

    finite: int = 0
    """Elements that are neither NaN nor infinite."""
    nan: int = 0
    inf: int = 0
    zeros: int = 0
    low: float | int = math.nan
    """The smallest; an int of integers."""
    high: float | int = math.nan
    mean: float = math.nan
    std: float = math.nan
    """Root of the mean squared distance from the mean (``ddof=0``)."""
    rest: float = 0.0
    """What `mean` lacks of the mean: far from zero its rounding is not small beside a small spread."""

    @property
    def norm(self) -> float:
        """Root of the sum of squares."""
        return math.sqrt(self.finite) * math.hypot(self.mean, self.std) if self.finite else math.nan


NOTHING = Moments()


def is_number(dtype: DType) -> bool:
    """Return whether elements have a mean: bools, integers, floats and complex numbers.

    Examples
    --------
    >>> is_number(np.dtype("f4")), is_number(np.dtype("U3")), is_number(np.dtype("M8[s]"))
    (True, False, False)
    """
    return dtype.kind in "biufc" or is_ml_dtype(dtype)


def moments_of(values: NDArray) -> Moments:
    """Return the moments of a contiguous block; of complex elements those of their absolute values.

    Examples
    --------
    >>> moments_of(np.array([1.0, 3.0, np.inf, 0.0, np.nan]))
    Moments(finite=3, nan=1, inf=1, zeros=1, low=0.0, high=3.0, mean=1.33333..., std=1.24721..., rest=...)
    """
    values = values.reshape(-1)
    if not values.size:
        return NOTHING
    with np.errstate(all="ignore"):  # a signalling NaN is as good a NaN as any
        if values.dtype.itemsize == 1:
            return _of_codes(values)
        values = as_reals(values)
        return _of_integers(values) if values.dtype.kind in "iu" else _of_floats(values)


def merge(first: Moments, second: Moments) -> Moments:
    """Return the moments of two blocks together.

    Means and spreads are merged as by Chan, Golub and LeVeque, as roots: no square overflows.

    Examples
    --------
    >>> merge(moments_of(np.array([1, 2])), moments_of(np.array([6])))
    Moments(finite=3, nan=0, inf=0, zeros=0, low=1, high=6, mean=3.0, std=2.16024..., rest=0.0)
    """
    if first is NOTHING:
        return second
    nan, inf, zeros = first.nan + second.nan, first.inf + second.inf, first.zeros + second.zeros
    if not (first.finite and second.finite):
        only = first if first.finite else second
        return replace(only, nan=nan, inf=inf, zeros=zeros)
    finite = first.finite + second.finite
    share = second.finite / finite
    away = (second.mean - first.mean) + (second.rest - first.rest)
    mean, rest = _sum(first.mean, away * share, first.rest)
    between = math.sqrt(first.finite / finite * share)
    apart = away * between
    if math.isinf(away):
        mean, rest = first.mean * (1 - share) + second.mean * share, 0.0
        apart = second.mean * between - first.mean * between
    std = math.hypot(first.std * math.sqrt(first.finite / finite), second.std * math.sqrt(share), apart)
    low, high = min(first.low, second.low), max(first.high, second.high)
    return Moments(finite, nan, inf, zeros, low, high, mean, std, rest)


def _sum(first: float, second: float, rest: float = 0.0) -> tuple[float, float]:
    """Return a sum and what its rounding left out."""
    total = first + second
    large, small = (first, second) if abs(first) >= abs(second) else (second, first)
    left = small - (total - large) + rest
    return total, left if math.isfinite(left) else 0.0


def as_reals(values: NDArray) -> NDArray:
    """Return elements in the machine's byte order, and as a type that numpy computes with.

    float16, bfloat16 and smaller ones become float32, which holds each of them; complex ones become their
    absolute values.
    """
    dtype = values.dtype
    if dtype.itemsize == 1:
        found: NDArray = _table(dtype)[values.view(np.uint8)]
        return found
    if dtype.kind == "c":
        sizes: NDArray = np.abs(values.astype(np.result_type(dtype.newbyteorder("="), np.complex128)))
        return sizes
    if is_ml_dtype(dtype) or (dtype.kind == "f" and dtype.itemsize == 2):
        return values.astype(np.float32)
    return values if dtype.isnative else values.astype(dtype.newbyteorder("="))


@functools.lru_cache(maxsize=64)
def _table(dtype: DType) -> NDArray:
    """Return the value of each code of one byte."""
    codes = np.arange(256, dtype=np.uint8)
    if dtype.kind == "b":
        codes = (codes != 0).view(np.uint8)  # whatever a file has there
        dtype = codes.dtype
    table: NDArray = codes.view(dtype).astype(np.float64)
    return table


def _of_codes(values: NDArray) -> Moments:
    """Return the moments of elements of one byte: they are counted by their codes."""
    counts: NDArray = np.zeros(256, np.int64)
    codes = values.view(np.uint8)
    for at in range(0, len(codes), tuning.LOOK_ELEMENTS):  # bincount makes eight bytes of each
        counts += np.bincount(codes[at : at + tuning.LOOK_ELEMENTS], minlength=256)
    found = counts.nonzero()[0]
    table, often = _table(values.dtype)[found], counts[found]
    nan, inf = int(often[np.isnan(table)].sum()), int(often[np.isinf(table)].sum())
    there = np.isfinite(table)
    table, often = table[there], often[there]
    finite = int(often.sum())
    if not finite:
        return Moments(nan=nan, inf=inf)
    mean = math.fsum((table * often).tolist()) / finite
    std = math.sqrt(math.fsum(((table - mean) ** 2 * often).tolist()) / finite)
    low, high = table.min().item(), table.max().item()
    if values.dtype.kind in "biu":
        low, high = int(low), int(high)
    return Moments(finite, nan, inf, int(often[table == 0].sum()), low, high, mean, std)


def _of_integers(values: NDArray) -> Moments:
    low, high = values.min().item(), values.max().item()
    zeros = values.size - int(np.count_nonzero(values)) if low <= 0 <= high else 0
    return Moments(values.size, 0, 0, zeros, low, high, *_mean_and_std(values, low, high))


def _of_floats(values: NDArray) -> Moments:
    low, high = np.minimum.reduce(values), np.maximum.reduce(values)
    nan = inf = 0
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN is the minimum of all
        nan, inf = int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(np.isinf(values)))
        values = values[np.isfinite(values)]
        if not values.size:
            return Moments(nan=nan, inf=inf)
        low, high = values.min(), values.max()
    zeros = int(np.count_nonzero(values == 0)) if low <= 0 <= high else 0
    exponent = exponent_of(low, high)
    if not exponent:
        found = _mean_and_std(values, low, high)
        return Moments(values.size, nan, inf, zeros, float(low), float(high), *found)
    scaled = _mean_and_std(scale(values, -exponent), scale(low, -exponent), scale(high, -exponent))
    mean, std, rest = (float(scale(value, exponent)) for value in scaled)
    return Moments(values.size, nan, inf, zeros, float(low), float(high), mean, std, rest)


def exponent_of(*extremes: Any) -> int:
    """Return the binary exponent to scale by, so that squares neither overflow nor vanish; mostly 0.

    Examples
    --------
    >>> exponent_of(np.float64(0.5)), exponent_of(np.float64(-1.0), np.float64(2.0**600))
    (0, 601)
    """
    largest = max(map(abs, extremes))
    if 1e-140 < largest < 1e140:
        return 0
    exponent = int(np.frexp(largest)[1]) if np.isfinite(largest) else 0
    return exponent if abs(exponent) > _HUGE else 0


def scale(values: Any, exponent: int) -> Any:
    """Return values times a power of two."""
    return np.ldexp(values, exponent) if exponent else values


def _mean_and_std(values: NDArray, low: Any, high: Any) -> tuple[float, float, float]:
    """Return mean and spread of finite elements, in one pass, and what rounding left out of the mean.

    Elements are taken relative to the mean of the first of them. These are a part of all, so that nearly
    no digit of the sum of squares is lost where the true mean is subtracted at the end, however far from zero
    the elements are.
    """
    if low == high:
        return float(low), 0.0, 0.0
    step = tuning.LOOK_ELEMENTS
    wide = np.result_type(values.dtype, np.float64)
    begin = values[:step]
    shift = np.add.reduce(begin, dtype=wide) / len(begin)
    exact = values.dtype.kind in "iu" and values.dtype.itemsize == 8 and int(high) - int(low) < 1 << 63
    if exact:  # float64 lacks most of these: the difference of two numbers is taken before it is rounded
        shift = values.dtype.type(min(max(int(shift), int(low)), int(high)))
    memory = np.empty(min(step, len(values)), wide)
    sums, squares = [], []
    for at in range(0, len(values), step):
        part = values[at : at + step]
        away = memory[: len(part)]
        if exact:
            away[:] = np.subtract(part, shift).view(np.int64)
        else:
            np.subtract(part, shift, out=away, dtype=wide)
        sums.append(np.add.reduce(away))
        np.multiply(away, away, out=away)
        squares.append(np.add.reduce(away))
    apart = sum(sums) / len(values)
    spread = sum(squares) / len(values) - apart * apart
    left = float(int(shift) - int(float(shift))) if exact else 0.0
    mean, rest = _sum(float(shift), float(apart), left)
    return mean, math.sqrt(max(float(spread), 0.0)), rest
