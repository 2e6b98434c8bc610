"""The datasets of a model are kept for the next archive of that model, and for no other archive."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.engine.read import expectedtree
from archive.engine.read.expectedtree import forget_trees
from archive.records import Array, ArrayRecord, MetricRecord, RecordSet

W, V = np.arange(6, dtype="f4").reshape(2, 3), np.arange(4.0)


def records(**arrays: Any) -> RecordSet:
    made = {key: value if isinstance(value, Array) else Array(value) for key, value in arrays.items()}
    return RecordSet({"model": ArrayRecord(made)})


def own(stype: str = "numpy.ndarray", dtype: str = "float32") -> Array:
    return Array(dtype, (2, 3), stype, b"no header of numpy's")


MODELS = {
    "base": records(w=W, v=V),
    "key": records(x=W, v=V),
    "order of keys": records(v=V, w=W),
    "dtype": records(w=W.astype(">f4"), v=V),
    "kind": records(w=W.astype("i4"), v=V),
    "shape": records(w=W.T.copy(), v=V),
    "axes": records(w=W.reshape(-1), v=V),
    "memory order": records(w=np.asfortranarray(W), v=V),
    "length": records(w=np.zeros((2, 30), "f4"), v=V),
    "empty": records(w=np.zeros((0, 3), "f4"), v=V),
    "tied": records(w=V, v=V),
    "untied": records(w=V, v=V.copy()),
    "stype": records(w=own(), v=V),
    "another stype": records(w=own("own"), v=V),
    "another dtype": records(w=own(dtype="float64"), v=V),
    "record": RecordSet({"other": ArrayRecord({"w": Array(W), "v": Array(V)})}),
    "two records": RecordSet({"model": ArrayRecord({"w": Array(W)}), "more": ArrayRecord({"v": Array(V)})}),
    "long record": RecordSet(
        {"a": ArrayRecord({"w": Array(W), "v": Array(V)}), "b": ArrayRecord({"u": Array(W)})}
    ),
    "short record": RecordSet(
        {"a": ArrayRecord({"w": Array(W)}), "b": ArrayRecord({"v": Array(V), "u": Array(W)})}
    ),
    "float last": records(a=W, b=W.astype("i4"), c=W + 1),
    "int last": records(a=W, b=W.astype("i4"), c=W.astype("i4") + 1),
    "values": RecordSet(
        {"model": ArrayRecord({"w": Array(W), "v": Array(V)})}, {"fit": MetricRecord({"loss": 0.5})}
    ),
    "text": RecordSet(
        {"model": ArrayRecord({"w": Array(W), "v": Array(V)})},
        {},
        {"run": archive.ConfigRecord({"story": "x" * 70_000})},
    ),
    "text with nul": RecordSet(
        {"model": ArrayRecord({"w": Array(W), "v": Array(V)})},
        {},
        {"run": archive.ConfigRecord({"story": "\0" * 70_000})},
    ),
}


@pytest.fixture(autouse=True)
def forgotten() -> None:
    forget_trees()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for number, model in enumerate(MODELS.values()):
        archive.save(model, folder / f"{number}.h5", created="2026-01-01T00:00:00Z")
    return {name: folder / f"{number}.h5" for number, name in enumerate(MODELS)}


def test_no_archive_is_held_against_the_datasets_of_another_model(saved: dict[str, Path]) -> None:
    for first, second in itertools.permutations(saved.values(), 2):
        forget_trees()
        assert archive.verify(first).ok
        assert archive.verify(second).ok


def test_another_place_is_another_tree(tmp_path: Path) -> None:
    """The same rows, with the metadata 4 KiB further on."""
    for length in (10, 5000):
        values = {"w": W, "u": np.zeros(length, "u1")}
        archive.save(values, tmp_path / "a.h5", overwrite=True)
        assert archive.verify(tmp_path / "a.h5").ok


def test_a_model_that_was_verified_is_not_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for number, path in enumerate(paths):
        archive.save({"w": W + number, "v": V}, path, metrics={"loss": float(number)})
    assert archive.verify(paths[0]).ok
    monkeypatch.setattr(expectedtree, "encode_arrays", None)
    assert archive.verify(paths[1]).ok


def test_few_models_are_kept_and_none_that_is_large(saved: dict[str, Path], tmp_path: Path) -> None:
    for path in saved.values():
        assert archive.verify(path).ok
        assert len(expectedtree._kept) <= expectedtree._KEPT
    forget_trees()
    many = {f"layer{number}": np.zeros(1, "u1") for number in range(12_000)}
    archive.save(many, tmp_path / "many.h5", durable=False)
    assert archive.verify(tmp_path / "many.h5").ok
    assert not expectedtree._kept
