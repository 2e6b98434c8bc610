"""Histograms: against numpy's, of any numbers, however they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.tools.histogram import histogram_of, histogram_of_row
from archive.tools.moments import moments_of
from tests.acceptance.samples import NDArray

RNG = np.random.default_rng(2026)


@pytest.mark.parametrize("name", ["f4", ">f8", "f2", "i8", "u1"])
def test_it_is_that_of_numpy(name: str) -> None:
    values = (RNG.standard_normal(100_000) * 40 + 128).clip(0, 255).astype(name)
    found = histogram_of(np.split(values, [70_000]), moments_of(values), bins=12)
    counts, edges = np.histogram(values.astype("f8"), 12)
    assert found.edges == pytest.approx(edges.tolist())
    assert sum(found.counts) == len(values)
    # what lies on an edge may round to either side
    assert np.abs(np.cumsum(found.counts) - np.cumsum(counts)).max() <= (0 if name in ("f4", ">f8") else 4000)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        (np.array([3, 5, 5], "i1"), (1, 0, 2)),
        (np.array([True, False, True]), (1, 2)),
        (np.array([2.5, 2.5]), (2,)),
        (np.array([np.nan, np.inf]), ()),
        (np.array([]), ()),
        (np.array([np.nan, 1.0, np.inf, 2.0]), (1, 1)),
        (np.array([-1.7e308, 1.7e308]), (1, 1)),
        (np.array([0.0, 5e-324]), (2, 0)),
        (np.array([2**62, 2**62 + 1]), (2,)),
    ],
)
def test_odd_ranges(values: NDArray, counts: tuple[int, ...]) -> None:
    found = histogram_of([values], moments_of(values), bins=3 if values.dtype.kind == "i" else 2)
    assert sum(found.counts) == sum(counts)
    if len(counts) == len(found.counts):
        assert found.counts == counts


def test_a_stored_array_is_read_window_by_window(tmp_path: Path) -> None:
    values = RNG.standard_normal((700, 900))
    archive.save({"w": values}, tmp_path / "a.h5", durable=False)
    moments = moments_of(values)
    with archive.open(tmp_path / "a.h5") as handle:
        payload: Any = handle["w"].payload
        reader, row = payload.place
        found = histogram_of_row(reader, row, moments)
    assert found == histogram_of([values.reshape(-1)], moments)
    assert list(found.counts) == np.histogram(values, 16)[0].tolist()
