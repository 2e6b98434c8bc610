"""Differences of blocks: against numpy in longdouble."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.tools.deviation import NONE, Deviation, add, deviation_of
from tests.acceptance.samples import NDArray

RNG = np.random.default_rng(2026)


def in_blocks(a: NDArray, b: NDArray, cut: int, **options: float) -> Deviation:
    parts = zip(np.split(a, [cut]), np.split(b, [cut]), strict=True)
    return reduce(add, (deviation_of(one, other, **options) for one, other in parts), NONE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f4", "f4"), ("f4", ">f4"), ("f8", "f4"), ("f2", "f2"), (ml_dtypes.bfloat16, "f4"), ("i4", "f4"),
        (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2), ("u1", "i1"), ("i8", "i8"), (">i8", "i8"),
        ("?", "f8"), ("g", "f4"), ("c8", "c16"), ("c8", "f4"), (">c16", "i2"),
    ],
)  # fmt: skip
def test_types(one: Any, other: Any) -> None:
    a = (RNG.standard_normal(70_000) * 5).astype(one)
    b = (RNG.standard_normal(70_000) * 5).astype(other)
    wide = "G" if "c" in (a.dtype.kind, b.dtype.kind) else "g"
    x, y = a.astype(wide), b.astype(wide)
    away = np.abs(x - y)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(away == 0, 0, away / np.abs(y)).max()
    for found in (deviation_of(a, b), in_blocks(a, b, 33_333)):
        assert found.different == np.count_nonzero(away)
        assert found.max_abs == pytest.approx(float(away.max()), rel=1e-15)
        assert found.max_rel == pytest.approx(float(ratio), rel=1e-15)
        assert found.norm == pytest.approx(float(np.sqrt((away**2).sum())), rel=1e-13)
        size = np.sqrt((np.abs(y) ** 2).sum())
        assert found.relative_norm == pytest.approx(float(np.sqrt((away**2).sum()) / size), rel=1e-13)
        cosine = (x * y.conj()).real.sum() / np.sqrt((np.abs(x) ** 2).sum()) / size
        assert found.cosine == pytest.approx(float(cosine), abs=1e-12)


def test_large_integers_are_compared_exactly() -> None:
    """2**60 + 1 is 2**60 as float64."""
    found = deviation_of(np.array([2**60 + 1, 5]), np.array([2**60, 5]))
    assert (found.different, found.max_abs) == (1, 1)
    ends = deviation_of(np.array([-(2**63)]), np.array([2**63 - 1]))
    assert (ends.different, ends.max_abs) == (1, 2.0**64)


def test_tolerances_are_those_of_isclose() -> None:
    a = RNG.standard_normal(5000)
    b = a * (1 + RNG.standard_normal(5000) * 1e-3) + RNG.standard_normal(5000) * 1e-4
    for rtol, atol in ((0.0, 0.0), (1e-3, 0.0), (0.0, 1e-4), (1e-3, 1e-4)):
        found = in_blocks(a, b, 77, rtol=rtol, atol=atol)
        assert found.different == np.count_nonzero(~np.isclose(a, b, rtol, atol))


def test_nan_and_infinities() -> None:
    nan, inf = math.nan, math.inf
    a = np.array([nan, nan, 1.0, inf, inf, -inf, 3.0])
    b = np.array([nan, 1.0, nan, inf, -inf, 0.5, 4.0])
    found = deviation_of(a, b)
    assert (found.different, found.nan) == (5, 2)
    assert found.max_abs == found.max_rel == found.norm == found.relative_norm == inf
    assert found.cosine == 1
    same = deviation_of(a[[0, 3]], b[[0, 3]])
    assert (same.different, same.max_abs, same.norm) == (0, 0, 0)
    only = deviation_of(np.array([nan, 2.0]), np.array([1.0, 2.0]))
    assert (only.different, only.nan, only.max_abs, only.norm) == (1, 1, 0, 0)


def test_zeros() -> None:
    zeros, ones = np.zeros(3), np.ones(3)
    assert deviation_of(zeros, -zeros).different == 0
    assert deviation_of(ones, zeros).max_rel == math.inf
    assert deviation_of(ones, zeros).relative_norm == math.inf
    assert math.isnan(deviation_of(ones, zeros).cosine)
    assert deviation_of(zeros, ones).max_rel == 1


@pytest.mark.parametrize("exponent", [-1040, -600, 600, 1010])
def test_squares_do_not_leave_float64(exponent: int) -> None:
    a, b = np.ldexp([1.0, 2.0, 3.0], exponent), np.ldexp([1.0, 4.0, 5.0], exponent)
    for found in (deviation_of(a, b), in_blocks(a, b, 1), in_blocks(a, b, 2)):
        assert found.norm == pytest.approx(math.ldexp(math.sqrt(8), exponent))
        assert found.relative_norm == pytest.approx(math.sqrt(8 / 42))
        assert found.cosine == pytest.approx(24 / math.sqrt(14 * 42))


def test_a_small_difference_beside_huge_elements() -> None:
    found = deviation_of(np.array([1e200, 2.0]), np.array([1e200, 1.0]))
    assert (found.different, found.max_abs, found.norm, found.cosine) == (1, 1, 1, 1)


@given(
    hnp.arrays(np.float64, 12, elements=st.floats(-1e6, 1e6)),
    hnp.arrays(np.float64, 12, elements=st.floats(-1e6, 1e6)),
    st.integers(0, 12),
)
def test_any_values_in_any_blocks(a: NDArray, b: NDArray, cut: int) -> None:
    found = in_blocks(a, b, cut)
    x, y = a.astype("g"), b.astype("g")
    assert found.different == np.count_nonzero(a != b)
    assert found.max_abs == np.abs(a - b).max()
    assert found.norm == pytest.approx(float(np.sqrt(((x - y) ** 2).sum())), rel=1e-12, abs=1e-320)
