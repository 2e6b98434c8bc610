"""What is kept of a schema between saves never shows in the bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.engine.write import schema

CREATED = "2026-01-01T00:00:00Z"


def model(arrays: int, seed: int) -> archive.RecordDict:
    rng = np.random.default_rng(seed)
    tied = archive.Array(rng.random(3))
    return archive.RecordDict(
        {
            "model": archive.ArrayRecord(
                {f"layer{n}": archive.Array(rng.random((n % 3 + 1, 2))) for n in range(arrays)}
                | {"tied": tied, "tied too": tied, "a/b": archive.Array(rng.integers(9, size=4))}
            ),
            "optimizer": archive.ArrayRecord({"step": archive.Array(np.array(seed))}),
        }
    )


def saved(path: Path, records: Any, **options: Any) -> bytes:
    archive.save(records, path, durable=False, **options)
    return path.read_bytes()


@pytest.mark.parametrize("arrays", [1, 5, 40])
def test_rounds_of_one_schema_have_the_bytes_of_first_saves(tmp_path: Path, arrays: int) -> None:
    rounds: list[dict[str, Any]] = [
        {"created": CREATED},
        {"created": "2026-02-02T00:00:00Z", "metrics": {"loss": 0.5}},
        {
            "created": CREATED,
            "metrics": {"loss": 0.123456789, "steps": [1, 2, 3]},
            "configs": {"name": "run"},
        },
        {"created": CREATED, "configs": {"name": "x" * 5000, "notes": ["a", "b" * 70_000]}},
        {"created": CREATED, "metrics": {"history": [float(n) for n in range(9000)]}},
        {"created": CREATED},
    ]
    kept = [saved(tmp_path / "a.h5", model(arrays, seed), **each) for seed, each in enumerate(rounds)]
    assert schema._kept
    for seed, (each, found) in enumerate(zip(rounds, kept, strict=True)):
        schema._kept.clear()
        assert saved(tmp_path / "b.h5", model(arrays, seed), **each) == found
        with h5py.File(tmp_path / "b.h5") as file:
            assert file["arrays/optimizer/step"][()] == seed
            assert len(file["arrays/model"]) == arrays + 3
        assert archive.verify(tmp_path / "b.h5").ok


def test_other_keys_types_shapes_orders_and_ties_are_other_schemas(tmp_path: Path) -> None:
    a, b = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    variants: list[dict[str, Any]] = [
        {"a": a, "b": b},
        {"b": b, "a": a},
        {"a": a, "c": b},
        {"a": a, "b": b.astype("f4")},
        {"a": a, "b": b.reshape(3, 2)},
        {"a": a, "b": np.asfortranarray(b)},
        {"a": a, "b": a},
    ]
    for _ in range(2):
        for number, arrays in enumerate(variants):
            path = tmp_path / f"{number}.h5"
            archive.save(arrays, path, durable=False)
            found = archive.load(path).array_records["model"]
            assert list(found) == list(arrays)
            for key, array in arrays.items():
                np.testing.assert_array_equal(found[key].numpy(), array)
                assert found[key].numpy().dtype == array.dtype
            assert len(schema._kept) <= schema.KEPT


def test_large_schemas_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema._kept.clear()
    monkeypatch.setattr(schema, "KEPT_BYTES", 100)
    archive.save({"w": np.ones(3)}, tmp_path / "a.h5", durable=False)
    assert not schema._kept
