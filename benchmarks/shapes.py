"""What is saved: names, shapes and dtypes of models, and seeded values for them."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["ALIGNMENT", "GROWTH", "SHAPES", "Entry", "Shape", "arrays_of", "stage"]

NDArray = np.ndarray[Any, Any]
Spec = tuple[str, tuple[int, ...], Any]

ALIGNMENT = 64
_FILL_ELEMENTS = 1 << 24
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True, slots=True)
class Entry:
    """One array and where its elements lie in the staged file."""

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Shape:
    """A model by its arrays."""

    name: str
    title: str
    specs: Callable[[], Iterator[Spec]]

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        placed, offset = [], 0
        for key, shape, dtype in self.specs():
            entry = Entry(key, shape, np.dtype(dtype), offset)
            placed.append(entry)
            offset += -(-entry.nbytes // ALIGNMENT) * ALIGNMENT
        return tuple(placed)

    @property
    def array_bytes(self) -> int:
        return sum(entry.nbytes for entry in self.entries)

    @property
    def staged_bytes(self) -> int:
        last = self.entries[-1]
        return last.offset + max(last.nbytes, 1)


def arrays_of(entries: tuple[Entry, ...], buffer: Any) -> dict[str, NDArray]:
    """Return the arrays as views of a buffer laid out as staged."""
    return {
        entry.key: np.ndarray(entry.shape, entry.dtype, buffer=buffer, offset=entry.offset)
        for entry in entries
    }


def stage(shape: Shape, path: Path) -> None:
    """Write seeded values of a shape to a file that every cell maps: they all save the same memory."""
    random = np.random.default_rng(2026)
    with path.open("w+b") as file:
        file.truncate(shape.staged_bytes)
        with mmap.mmap(file.fileno(), 0) as staged:
            _fill(np.frombuffer(staged, np.uint8), shape, random)


def _fill(staged: NDArray, shape: Shape, random: np.random.Generator) -> None:
    """Fill with normal floats, chunk by chunk and not array by array; integers count up."""
    whole = staged[: staged.size // 4 * 4].view(np.float32)
    if shape.entries[0].dtype == _BFLOAT16:
        # A bfloat16 is the upper half of a float32.
        halves = staged[: staged.size // 2 * 2].view(np.uint16)
        for at in range(0, halves.size, _FILL_ELEMENTS):
            half = halves[at : at + _FILL_ELEMENTS]
            half[:] = random.standard_normal(half.size, np.float32).view(np.uint16)[1::2]
        return
    for at in range(0, whole.size, _FILL_ELEMENTS):
        part = whole[at : at + _FILL_ELEMENTS]
        random.standard_normal(part.size, np.float32, out=part)
    for number, entry in enumerate(shape.entries):
        if entry.dtype.kind == "i":
            end = entry.offset + entry.nbytes
            staged[entry.offset : end].view(entry.dtype)[:] = number


def _cnn() -> Iterator[Spec]:
    for number, (fan_in, fan_out) in enumerate([(3, 16), (16, 32), (32, 64)]):
        yield f"conv{number}.weight", (fan_out, fan_in, 3, 3), "f4"
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"bn{number}.{part}", (fan_out,), "f4"
        yield f"bn{number}.num_batches_tracked", (), "i8"
    yield "fc.weight", (10, 64 * 9 * 9), "f4"
    yield "fc.bias", (10,), "f4"


def _transformer(dtype: Any, width: int = 896, layers: int = 24, words: int = 50257) -> Iterator[Spec]:
    yield "wte.weight", (words, width), dtype
    yield "wpe.weight", (1024, width), dtype
    for layer in range(layers):
        for block, rows, columns in (
            ("attn.c_attn", 3 * width, width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", 4 * width, width),
            ("mlp.c_proj", width, 4 * width),
        ):
            yield f"h.{layer}.{block}.weight", (rows, columns), dtype
            yield f"h.{layer}.{block}.bias", (rows,), dtype
        for norm in ("ln_1", "ln_2"):
            yield f"h.{layer}.{norm}.weight", (width,), dtype
            yield f"h.{layer}.{norm}.bias", (width,), dtype
    yield "ln_f.weight", (width,), dtype
    yield "ln_f.bias", (width,), dtype


def _many(count: int, elements: int) -> Iterator[Spec]:
    for number in range(count):
        yield f"expert.{number // 100}.{number % 100}.weight", (elements,), "f4"


def _smoke() -> Iterator[Spec]:
    yield "dense.kernel", (24, 16), "f4"
    yield "dense.bias", (16,), "f4"
    yield "steps", (), "i8"
    yield "wide.kernel", (40, 33), "f4"


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape("smoke", "for the tests", _smoke),
        Shape("cnn", "small convolutional network, float32", _cnn),
        Shape("transformer", "GPT-2 shaped, float32", lambda: _transformer("f4")),
        Shape("transformer-bf16", "GPT-2 shaped, bfloat16", lambda: _transformer(_BFLOAT16)),
        Shape("small", "20,000 arrays of 4 KB", lambda: _many(20_000, 1024)),
        Shape("tiny", "1,000,000 arrays of 8 bytes", lambda: _many(1_000_000, 2)),
        Shape("huge", "one array of 4 GB", lambda: iter([("embedding.weight", (62_500, 16_000), "f4")])),
        Shape("growth-1e3", "1,000 arrays of 8 bytes", lambda: _many(1_000, 2)),
        Shape("growth-1e4", "10,000 arrays of 8 bytes", lambda: _many(10_000, 2)),
        Shape("growth-1e5", "100,000 arrays of 8 bytes", lambda: _many(100_000, 2)),
        Shape("growth-1e6", "1,000,000 arrays of 8 bytes", lambda: _many(1_000_000, 2)),
    )
}

GROWTH = tuple(name for name in SHAPES if name.startswith("growth"))
"""From few arrays to many, for what each of them costs."""
