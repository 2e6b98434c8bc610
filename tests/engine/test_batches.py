"""Batches: what is written where, whatever the sizes and element types of what comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.engine.write.writer import Batches

BATCH = 4096
TYPES = ["f8", "c8", "c16", "S5", "?", "f2", ">f4", "M8[s]", "<U3", "i1"]


class Recorder:
    """A sink that remembers what it was given."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.ends: list[int] = []

    def write(self, buffers: list[Any], offset: int, nbytes: int) -> None:
        assert offset == len(self.written)
        data = b"".join(memoryview(buffer).cast("B") for buffer in buffers)
        assert len(data) == nbytes
        self.written += data
        self.ends.append(len(self.written))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archive.engine.write.writer.BATCH_BYTES", BATCH)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("threaded", [False, True])
def test_writes_end_at_multiples_of_a_batch(threaded: bool) -> None:
    random = np.random.default_rng(7)
    sink, landed, wanted = Recorder(), [], bytearray()
    with Batches(sink, threaded=threaded, landed=landed.extend) as batches:
        for row, size in enumerate([1, 4095, 4096, 4097, 1, 8191, 0, 20_000, 3, 12_288, 7]):
            data = random.bytes(size)
            batches.write([data[: size // 3], data[size // 3 :]], len(wanted), size, [row])
            wanted += data
    assert sink.written == wanted
    assert all(end % BATCH == 0 for end in sink.ends[:-1])
    assert landed == list(range(11))


@pytest.mark.usefixtures("small_batches")
def test_rows_land_after_their_last_byte() -> None:
    sink = Recorder()
    seen: list[tuple[list[int], int]] = []
    with Batches(sink, threaded=False, landed=lambda rows: seen.append((rows, len(sink.written)))) as batches:
        batches.write([bytes(3000)], 0, 3000, [0])
        batches.write([bytes(3000)], 3000, 3000, [1])
        batches.write([bytes(2192)], 6000, 2192, [2])
        assert seen == [([0], 4096), ([1], 8192)]
        batches.settle()
    assert seen == [([0], 4096), ([1], 8192), ([2], 8192)]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_of_every_type_are_cut(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(8)
    arrays = {"scalar": np.zeros((), dtype)}
    for number, size in enumerate([1, 700, 5000, 3, 40_000, 11]):
        arrays[f"a{number}"] = random.integers(0, 100, size).astype("i8").astype(dtype)
    arrays["turned"] = np.asfortranarray(random.integers(0, 100, (60, 70)).astype("i8").astype(dtype))
    archive.save(arrays, tmp_path / "a.h5", durable=False)
    assert archive.verify(tmp_path / "a.h5").ok
    loaded = archive.load(tmp_path / "a.h5")["model"]
    assert all(np.array_equal(loaded[key].numpy(), array) for key, array in arrays.items())
