"""Statistics of blocks: against numpy in longdouble and exact fractions, in whatever blocks they come."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import reduce
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.dtypes import ML_DTYPES, parse_dtype
from archive.tools.moments import NOTHING, Moments, is_number, merge, moments_of
from tests.acceptance.samples import NDArray

RNG = np.random.default_rng(2026)
NUMPY = [
    "?",
    "i1",
    "u1",
    "i2",
    ">u2",
    "i4",
    "u4",
    "i8",
    ">i8",
    "u8",
    "f2",
    ">f2",
    "f4",
    ">f4",
    "f8",
    ">f8",
    "g",
]


def in_blocks(values: NDArray, *cuts: int) -> Moments:
    return reduce(merge, map(moments_of, np.split(values, sorted(cuts))), NOTHING)


def require_moments(found: Moments, values: NDArray, tolerance: float = 1e-13) -> None:
    """Require what numpy finds in longdouble."""
    with np.errstate(invalid="ignore"):  # numpy warns of signalling NaNs
        wide = values.astype(np.longdouble)
    there = wide[np.isfinite(wide)]
    assert (found.finite, found.nan, found.inf) == (len(there), np.isnan(wide).sum(), np.isinf(wide).sum())
    assert found.zeros == (there == 0).sum()
    if not len(there):
        assert all(map(math.isnan, (found.low, found.high, found.mean, found.std, found.norm)))
        return
    low, high = there.min(), there.max()
    if values.dtype.kind in "iu":  # old numpy compares an int with a longdouble as float64
        low, high = int(low), int(high)
    assert (found.low, found.high) == (low, high)
    size = float(np.abs(there).max())
    assert found.mean == pytest.approx(float(there.mean()), rel=tolerance, abs=tolerance * size)
    assert found.std == pytest.approx(float(there.std()), rel=1e-10, abs=tolerance * size)
    assert found.norm == pytest.approx(float(np.sqrt((there * there).sum())), rel=tolerance, abs=0)


@pytest.mark.parametrize("name", NUMPY)
def test_types_of_numpy(name: str) -> None:
    values = (RNG.standard_normal(70_000) * 50).astype(name)
    require_moments(moments_of(values), values)
    require_moments(in_blocks(values, 1, 40_000), values)


@pytest.mark.parametrize("name", sorted(name for name in ML_DTYPES if hasattr(ml_dtypes, name)))
def test_every_code_of_ml_dtypes(name: str) -> None:
    dtype = parse_dtype(name)
    codes = np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    values = codes.view(dtype)
    assert is_number(dtype)
    with np.errstate(invalid="ignore"):  # numpy warns of signalling NaNs
        wanted = values.astype(np.float64)
    require_moments(moments_of(values), wanted, 1e-12)


def test_every_code_of_float16() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    require_moments(moments_of(values), values)


@pytest.mark.parametrize("name", ["c8", ">c8", "c16", "G"])
def test_absolute_values_of_complex_elements(name: str) -> None:
    values = (RNG.standard_normal(1000) + 1j * RNG.standard_normal(1000)).astype(name)
    values[7] = 0
    require_moments(moments_of(values), np.abs(values.astype("G" if name == "G" else "c16")).astype("f8"))


@pytest.mark.parametrize("offset", [1e9, -1e15])
def test_a_small_spread_far_from_zero(offset: float) -> None:
    values = offset + RNG.integers(0, 8, 200_000).astype("f8")
    exact = [Fraction(value) for value in values[:2000].tolist()]
    mean = sum(exact) / 2000
    wanted = math.sqrt(sum((value - mean) ** 2 for value in exact) / 2000)
    assert in_blocks(values[:2000], 100, 900).std == pytest.approx(wanted, rel=1e-12)
    assert in_blocks(values, 1000, 70_000).std == pytest.approx((values - offset).std(), rel=1e-12)


def test_a_float32_array_is_summed_in_float64() -> None:
    """In float32 the mean of so many is 0.1000025, and the spread of equal elements is not 0."""
    values = np.full(1 << 20, 0.1, "f4")
    found = in_blocks(values, 1 << 18)
    assert found.mean == float(np.float32(0.1))
    assert found.std == 0
    assert found.norm == pytest.approx(math.sqrt(1 << 20) * float(np.float32(0.1)), rel=1e-15)


@pytest.mark.parametrize("exponent", [-1060, -600, 600, 1020])
def test_squares_do_not_leave_float64(exponent: int) -> None:
    values = np.ldexp(np.array([1.0, -2.0, 3.0, 1.0]), exponent)
    for found in (moments_of(values), in_blocks(values, 1), in_blocks(values, 2, 3)):
        assert found.norm == pytest.approx(math.ldexp(math.sqrt(15), exponent))
        assert found.mean == pytest.approx(math.ldexp(0.75, exponent))
        assert found.std == pytest.approx(math.ldexp(math.sqrt(15 / 4 - 0.5625), exponent))


def test_opposite_ends_of_float64() -> None:
    most = np.finfo("f8").max
    found = in_blocks(np.array([most, -most]), 1)
    assert (found.mean, found.std, found.norm) == (0, most, math.inf)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.array([2**63 + 1, 2**64 - 1], "u8"), 2**63 + 1, 2**64 - 1),
        (np.array([-(2**63), 2**53 + 1], "i8"), -(2**63), 2**53 + 1),
        (np.array([True, False]), 0, 1),
        (np.array([-3], "i1"), -3, -3),
    ],
)
def test_ends_of_integers_are_integers(values: NDArray, low: int, high: int) -> None:
    found = moments_of(values)
    assert (found.low, found.high) == (low, high)
    assert type(found.low) is type(found.high) is int


@pytest.mark.parametrize("base", [2**63 - 2000, 2**64 - 4000, -(2**63), 2**62 + 1])
def test_integers_that_float64_lacks_keep_their_spread(base: int) -> None:
    """Near 2**64 float64 has every 2048th of them."""
    values = np.arange(4000, dtype="u8") + np.array(base % 2**64, "u8")
    values = values if base + 4000 > 2**63 else values.view("i8")
    for found in (moments_of(values), in_blocks(values, 1000, 3000)):
        assert (found.low, found.high) == (base, base + 3999)
        assert found.std == pytest.approx(np.arange(4000).std(), rel=1e-12)
        assert abs(Fraction(found.mean) + Fraction(found.rest) - base - Fraction(3999, 2)) < 1e-6


def test_what_has_no_finite_element() -> None:
    assert repr(moments_of(np.array([]))) == repr(NOTHING)
    assert repr(moments_of(np.array([np.nan, np.inf, -np.inf]))) == repr(Moments(nan=1, inf=2))
    assert merge(moments_of(np.array([np.nan])), moments_of(np.array([2.0]))).mean == 2
    fp8 = np.array([np.nan, np.inf], ml_dtypes.float8_e5m2)
    assert repr(moments_of(fp8)) == repr(Moments(nan=1, inf=1))


def test_a_bool_that_no_writer_makes() -> None:
    values = np.array([0, 1, 2, 255], np.uint8).view(bool)
    found = moments_of(values)
    assert (found.low, found.high, found.mean, found.zeros) == (0, 1, 0.75, 1)


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(kind) for kind in ("f8", "f4", "f2", ">f4", "i4", "u1")]),
        st.integers(0, 40),
    ),
    st.lists(st.integers(0, 40), max_size=3),
)
def test_any_values_in_any_blocks(values: NDArray, cuts: list[int]) -> None:
    with np.errstate(over="ignore"):
        require_any(values, cuts)


def require_any(values: NDArray, cuts: list[int]) -> None:
    found, whole = in_blocks(values, *cuts), moments_of(values)
    wide = values.astype(np.longdouble)
    there = wide[np.isfinite(wide)]
    assert (found.finite, found.nan, found.inf, found.zeros) == (
        len(there), np.isnan(wide).sum(), np.isinf(wide).sum(), (there == 0).sum()
    )  # fmt: skip
    if not len(there):
        return
    size = float(np.abs(there).max())
    norm = float(np.sqrt((there * there).sum()))
    for one in (found, whole):
        assert norm > 1e308 or one.norm == pytest.approx(norm, rel=1e-12, abs=1e-320)
        assert one.mean == pytest.approx(float(there.mean()), rel=1e-12, abs=1e-14 * size + 1e-320)
        assert one.std == pytest.approx(float(there.std()), rel=1e-7, abs=1e-14 * size + 1e-320)


@pytest.mark.parametrize("name", ["M8[s]", "m8[s]", "U3", "S3", "V4", "O"])
def test_what_is_no_number(name: Any) -> None:
    assert not is_number(np.dtype(name))
