"""A hypothesis strategy: archives that break one rule of the format each, all their digests right."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import hypothesis.strategies as st

from tests.breakages import BREAKAGES, Breakage
from tests.crafting import Crafted, write_sample


class BrokenArchive:
    """An archive that breaks one rule, all its digests right."""

    # Not a dataclass: hypothesis reports all fields of one, and warns of their length instead of the failure.
    __slots__ = ("breakage", "data")

    def __init__(self, breakage: Breakage, data: bytes) -> None:
        self.breakage = breakage
        """The rule, and what is said of it."""
        self.data = data
        """The whole file."""

    def __repr__(self) -> str:
        return f"BrokenArchive({self.breakage.name}, {len(self.data)} bytes)"


@st.composite
def broken_archives(draw: st.DrawFn, rule: str | None = None) -> BrokenArchive:
    """Draw archives that break one rule of the format each; of one rule where it is named."""
    breakage = draw(st.sampled_from([b for b in BREAKAGES if rule in (None, b.rule)]))
    crafted = _sample().copy()
    breakage.change(crafted, lambda low, high: draw(st.integers(low, high)))
    return BrokenArchive(breakage, crafted.assemble())


@functools.cache
def _sample() -> Crafted:
    with tempfile.TemporaryDirectory() as folder:
        return Crafted(write_sample(Path(folder) / "sample.h5"))
