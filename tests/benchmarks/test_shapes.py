"""Shapes are what their names promise, and equal every time."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.shapes import ALIGNMENT, SHAPES, arrays_of, stage


@pytest.mark.parametrize(
    ("name", "arrays", "least", "most"),
    [
        ("smoke", 4, 1e3, 1e4),
        ("cnn", 20, 0.28e6, 0.32e6),
        ("transformer", 292, 1.1e9, 1.2e9),
        ("transformer-bf16", 292, 0.55e9, 0.6e9),
        ("small", 20_000, 81e6, 83e6),
        ("huge", 1, 4e9, 4e9),
    ],
)
def test_sizes(name: str, arrays: int, least: float, most: float) -> None:
    shape = SHAPES[name]
    assert len(shape.entries) == len({entry.key for entry in shape.entries}) == arrays
    assert least <= shape.array_bytes <= most


def test_entries_follow_one_another_aligned() -> None:
    entries = SHAPES["cnn"].entries
    for before, after in itertools.pairwise(entries):
        assert after.offset % ALIGNMENT == 0
        assert 0 <= after.offset - before.offset - before.nbytes < ALIGNMENT


def test_values_are_seeded_and_finite(tmp_path: Path) -> None:
    for path in (tmp_path / "one", tmp_path / "two"):
        stage(SHAPES["cnn"], path)
    one = (tmp_path / "one").read_bytes()
    assert one == (tmp_path / "two").read_bytes()
    arrays = arrays_of(SHAPES["cnn"].entries, one)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert arrays["fc.weight"].std() == pytest.approx(1, abs=0.05)
