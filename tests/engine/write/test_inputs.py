"""Whatever callers hand to save, and what they must not lose on the way."""

from __future__ import annotations

import gc
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import UnsupportedDtypeError, ValueRangeError
from tests.acceptance.samples import CREATED, NDArray, same
from tests.optional import torch

A, B = np.arange(6, dtype="f4").reshape(2, 3), np.array([1.5, -2.5])


def npy(array: NDArray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


class Duck:
    """An array as Flower's looks, without Flower."""

    def __init__(self, array: NDArray) -> None:
        self.dtype, self.shape, self.stype = str(array.dtype), list(array.shape), "numpy.ndarray"
        self._data = npy(array)

    @property
    def data(self) -> bytes:
        return self._data


def keys_and_arrays(path: Path) -> dict[tuple[str, str], NDArray]:
    with archive.open(path) as handle:
        return {pair: handle[pair].numpy() for pair in handle}


def pairs() -> Iterator[tuple[str, Any]]:
    yield "a", A
    yield "b", B


class Weird(Mapping[str, Any]):
    def __init__(self, items: dict[str, Any]) -> None:
        self._items = items

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


NAMED = {
    "dict": lambda: {"a": A, "b": B},
    "ordered": lambda: OrderedDict(a=A, b=B),
    "proxy": lambda: MappingProxyType({"a": A, "b": B}),
    "own mapping": lambda: Weird({"a": A, "b": B}),
    "arrays": lambda: {"a": archive.Array(A), "b": archive.Array(B)},
    "mixed": lambda: {"a": torch().from_numpy(A.copy()), "b": archive.Array(B)},
    "record": lambda: archive.ArrayRecord({"a": archive.Array(A), "b": archive.Array(B)}),
    "tensors": lambda: {"a": torch().from_numpy(A.copy()), "b": torch().from_numpy(B.copy())},
    "parameters": lambda: {
        "a": torch().nn.Parameter(torch().from_numpy(A.copy())),
        "b": torch().from_numpy(B),
    },
    "ducks": lambda: {"a": Duck(A), "b": Duck(B)},
    "pairs": lambda: [("a", A), ("b", B)],
    "tuple of pairs": lambda: (("a", A), ("b", B)),
    "generator": pairs,
    "items": {"a": A, "b": B}.items,
    "zip": lambda: zip("ab", (A, B), strict=True),
    "temporary ducks": lambda: ((key, Duck(array)) for key, array in pairs()),
    "memmap": lambda: {"a": A.view(np.memmap), "b": B},
}


@pytest.mark.parametrize("way", NAMED)
def test_named_arrays(tmp_path: Path, way: str) -> None:
    archive.save(NAMED[way](), tmp_path / "a.h5", name="n")
    found = keys_and_arrays(tmp_path / "a.h5")
    assert list(found) == [("n", "a"), ("n", "b")]
    assert same(found["n", "a"], A)
    assert same(found["n", "b"], B)


@pytest.mark.parametrize("way", NAMED)
def test_every_way_gives_the_same_bytes(tmp_path: Path, way: str) -> None:
    archive.save({"a": A, "b": B}, tmp_path / "a.h5", created=CREATED)
    archive.save(NAMED[way](), tmp_path / "b.h5", created=CREATED)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_lists_get_numbers_for_keys(tmp_path: Path) -> None:
    archive.save([A, B, *[B] * 9], tmp_path / "a.h5")
    assert list(keys_and_arrays(tmp_path / "a.h5")) == [("model", str(number)) for number in range(11)]


@pytest.mark.parametrize("nothing", [{}, [], (), iter(())], ids=["dict", "list", "tuple", "iterator"])
def test_nothing_is_an_empty_record(tmp_path: Path, nothing: Any) -> None:
    report = archive.save(nothing, tmp_path / "a.h5")
    assert (report.arrays, report.array_bytes) == (0, 0)
    with archive.open(tmp_path / "a.h5") as handle:
        assert len(handle) == 0
        assert list(handle.records.parameters_records) == ["model"]
    assert archive.verify(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "make", [lambda array: archive.Array("float32", (2,), "numpy.ndarray", npy(array)), Duck]
)
def test_arrays_made_on_the_way_are_not_taken_for_one(tmp_path: Path, make: Any) -> None:
    """A freed object's id() is used again by the next: 10 arrays came back as 2."""
    expected = [np.full(2, number, "f4") for number in range(50)]
    archive.save(((f"k{number}", make(array)) for number, array in enumerate(expected)), tmp_path / "a.h5")
    for number, array in enumerate(keys_and_arrays(tmp_path / "a.h5").values()):
        assert same(array, expected[number])


@pytest.mark.parametrize("kind", ["tensor", "bfloat16", "conj", "record", "subclass", "view"])
def test_memory_made_on_the_way_is_not_taken_for_one(tmp_path: Path, kind: str) -> None:
    def made() -> Iterator[tuple[str, Any]]:
        for number in range(50):
            gc.collect(0)
            yield f"k{number}", one(kind, number)

    archive.save(made(), tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        for number in range(50):
            value = handle[f"k{number}"].numpy().reshape(-1)[0]
            assert complex(value if kind != "record" else value[0]).real == number


def one(kind: str, number: int) -> Any:
    if kind == "tensor":
        return torch().full((3,), float(number))
    if kind == "bfloat16":
        return torch().full((3,), float(number), dtype=torch().bfloat16)
    if kind == "conj":
        return torch().full((3,), complex(number, 1)).conj()
    if kind == "record":
        return np.rec.array([(float(number), 1)], dtype=[("a", "f8"), ("b", "i4")])
    if kind == "subclass":
        return np.full(3, float(number)).view(np.memmap)
    return np.full((3, 4), float(number))[:, ::2]


def test_conjugated_tensors_are_not_what_they_share_memory_with(tmp_path: Path) -> None:
    tensor = torch().tensor([1 + 2j, 3j])
    archive.save({"x": tensor, "y": tensor.conj(), "z": tensor.conj().imag}, tmp_path / "a.h5")
    found = keys_and_arrays(tmp_path / "a.h5")
    assert found["model", "x"].tolist() == [1 + 2j, 3j]
    assert found["model", "y"].tolist() == [1 - 2j, -3j]
    assert found["model", "z"].tolist() == [-2, -3]


def test_tied_arrays_are_stored_once(tmp_path: Path) -> None:
    tensor = torch().arange(1000.0)
    array = archive.Array(B)
    given = {"t": tensor, "t again": tensor.detach(), "a": A, "a again": A, "n": array, "n again": array}
    report = archive.save(given | {"part": tensor[:500], "turned": tensor.flip(0)}, tmp_path / "a.h5")
    assert report.arrays == 8
    assert report.array_bytes == 4000 + A.nbytes + B.nbytes + 2000 + 4000
    found = keys_and_arrays(tmp_path / "a.h5")
    assert same(found["model", "t again"], tensor.numpy())
    assert same(found["model", "part"], tensor[:500].numpy())
    assert same(found["model", "turned"], tensor.flip(0).numpy())


@pytest.mark.parametrize("beside", [{}, {"b": B}], ids=["tensors alone", "beside an ndarray"])
def test_tied_tensors_are_stored_once(tmp_path: Path, beside: dict[str, Any]) -> None:
    """Plain tensors are taken all at once, where there is anything else one by one: a tie is a tie."""
    tensor = torch().arange(1000.0).reshape(10, 100)
    given = {"x": tensor, "y": torch().nn.Parameter(tensor), "part": tensor[2:3], "empty": tensor[:0]}
    report = archive.save(given | {"none": tensor[1:1]} | beside, tmp_path / "a.h5")
    assert report.array_bytes == 4000 + 400 + sum(array.nbytes for array in beside.values())
    found = keys_and_arrays(tmp_path / "a.h5")
    assert same(found["model", "y"], tensor.numpy())
    assert same(found["model", "part"], tensor[2:3].numpy())
    assert same(found["model", "none"], tensor[:0].numpy())


def test_tensors_among_which_one_is_odd(tmp_path: Path) -> None:
    tensor = torch().arange(6.0).reshape(2, 3)
    given = {"plain": tensor, "turned": tensor.T, "half": tensor.to(torch().bfloat16), "part": tensor[:, 1:]}
    for key in given:
        archive.save({"plain": tensor, key: given[key]}, tmp_path / "a.h5")
        found = keys_and_arrays(tmp_path / "a.h5")["model", key]
        assert found.astype("f4").tolist() == given[key].float().tolist()


def test_a_freed_storage_among_many(tmp_path: Path) -> None:
    tensor = torch().zeros(1000)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(ValueRangeError, match=r"'model/freed': a tensor that needs 4000 bytes"):
        archive.save({"plain": torch().zeros(3), "freed": tensor}, tmp_path / "a.h5")
    tensor.untyped_storage().resize_(4000)


def test_one_memory_in_two_shapes_is_two_arrays(tmp_path: Path) -> None:
    tensor = torch().arange(6.0)
    archive.save({"x": tensor, "y": tensor.view(2, 3), "z": tensor.view(torch().int32)}, tmp_path / "a.h5")
    found = keys_and_arrays(tmp_path / "a.h5")
    assert found["model", "y"].shape == (2, 3)
    assert found["model", "z"].dtype == np.int32


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("side", [3, 1500])
def test_matrices_are_plain_arrays(tmp_path: Path, side: int) -> None:
    matrix = np.matrix(np.arange(side * side, dtype="f8").reshape(side, side))
    archive.save({"m": matrix}, tmp_path / "a.h5", durable=False)
    with archive.open(tmp_path / "a.h5") as handle:
        assert type(handle["m"].numpy()) is np.ndarray
        assert same(handle["m"].numpy(), np.asarray(matrix))
    assert archive.verify(tmp_path / "a.h5").ok


def test_a_mask_is_not_lost_silently(tmp_path: Path) -> None:
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(TypeError, match=r"model/m: a masked array would lose its mask.*filled"):
        archive.save({"fine": A, "m": masked}, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
    archive.save({"m": np.ma.masked_array([1.0, 2.0])}, tmp_path / "a.h5")
    assert keys_and_arrays(tmp_path / "a.h5")["model", "m"].tolist() == [1.0, 2.0]


def test_record_arrays_come_back_as_structured_ones(tmp_path: Path) -> None:
    records = np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")])
    archive.save({"r": records}, tmp_path / "a.h5")
    found = keys_and_arrays(tmp_path / "a.h5")["model", "r"]
    assert found.dtype == np.dtype([("a", "i4"), ("b", "f8")])
    assert found.tolist() == records.tolist()


@pytest.mark.parametrize("flag", ["read-only", "strided"])
def test_inputs_are_left_as_they_are(tmp_path: Path, flag: str) -> None:
    array = np.arange(10.0)[::-2] if flag == "strided" else np.arange(10.0)
    array.flags.writeable = False
    before = array.copy()
    given = {"x": array}
    archive.save(given, tmp_path / "a.h5")
    assert list(given) == ["x"]
    assert given["x"] is array
    assert same(array, before)


def freed() -> Any:
    tensor = torch().ones(3)
    tensor.untyped_storage().resize_(0)
    return tensor


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "object": ({"ok": A, "bad": np.array([None])}, TypeError, "'model/bad'.*Python objects"),
    "object field": ({"bad": np.zeros(2, [("a", "O")])}, TypeError, "'model/bad'.*Python objects"),
    "strings of numpy 2": ({"bad": np.array(["a"], object)}, TypeError, "'model/bad'"),
    "huge": ({"bad": np.broadcast_to(np.float64(0), (1 << 59) + 1)}, ValueError, "'model/bad'.*more bytes"),
    "dtype by attribute": (
        {"bad": archive.Array("\ud800", (1,), "raw", b"x")},
        ValueError,
        "'model/bad'.*surrogate",
    ),
    "number": ({"bad": 5}, TypeError, "model/bad: an array is an ndarray.* not int; numpy.asarray"),
    "none": ({"ok": A, "bad": None}, TypeError, "model/bad.*NoneType"),
    "list": ({"bad": [1.0]}, TypeError, "model/bad"),
    "scalar": ({"bad": np.float32(1)}, TypeError, "model/bad.*float32"),
    "int key": ({1: A}, TypeError, "'model': a key is a str, not int"),
    "bytes key": ({b"a": A}, TypeError, "a key is a str, not bytes"),
    "twin keys": ([("a", A), ("a", B)], ValueError, "two arrays with the key 'a'"),
    "surrogate": ({"ok": A, "bad\ud800": B}, ValueError, r"'model/bad\?'.*surrogate.*rename it"),
    "long key": ({"x" * 40_000: A}, ValueError, "'model/xxx.*40000 bytes.*rename it"),
    "str": ("abc", TypeError, "records must be a RecordSet.* not str"),
    "bytes": (b"abc", TypeError, "not bytes"),
    "ndarray": (A, TypeError, "not ndarray"),
    "int": (5, TypeError, "not int"),
    "nothing": (None, TypeError, "not NoneType"),
    "set": ({1, 2}, TypeError, r"\(key, array\), not int"),
    "triples": ([("a", A, A)], TypeError, "model/0|tuple"),
    "sparse": (lambda: {"bad": torch().eye(3).to_sparse()}, TypeError, "model/bad"),
    "meta": (lambda: {"bad": torch().empty(3, device="meta")}, TypeError, "model/bad.* meta: load"),
    "freed": (
        lambda: {"bad": freed()},
        ValueError,
        "'model/bad': .* 12 bytes of a storage of 0; save it before",
    ),
    "member": (
        {"bad": np.zeros(2, [("a", "f4"), ("b", [("c", ml_dtypes.bfloat16, (2,))])])},
        UnsupportedDtypeError,
        "'model/bad'.* bfloat16 as the member 'c'.*; save each member",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_and_nothing_written(tmp_path: Path, name: str) -> None:
    given, kind, match = REFUSED[name]
    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(kind, match=match):
        archive.save(given() if callable(given) else given, tmp_path / "a.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == b"old"


def test_containers_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = archive.ArrayRecord({"w": archive.Array(A)})
    metrics, configs = archive.MetricRecord({"loss": 0.5}), archive.ConfigRecord({"on": True})
    path = tmp_path / "a.h5"
    archive.save(archive.RecordDict({"z": configs, "a": arrays, "m": metrics}), path)
    with archive.open(path) as handle:
        assert isinstance(handle.records, archive.RecordDict)
        assert list(handle.records) == ["z", "a", "m"]
        assert handle.records == archive.RecordDict({"z": configs, "a": arrays, "m": metrics})
    archive.save(archive.RecordSet({"x": arrays}, {"x": metrics}, {"x": configs}), path)
    for records in (archive.open(path).records, archive.load(path)):
        assert records == archive.RecordSet({"x": arrays}, {"x": metrics}, {"x": configs})


def test_values_beside_a_recorddict_never_push_a_record_out(tmp_path: Path) -> None:
    records = archive.RecordDict({"metrics": archive.ArrayRecord({"w": archive.Array(A)})})
    with pytest.raises(ValueError, match="under another name"):
        archive.save(records, tmp_path / "a.h5", metrics={"loss": 0.5})
    assert not list(tmp_path.iterdir())
    archive.save(records, tmp_path / "a.h5", metrics={"train": {"loss": 0.5}})
    assert list(archive.load(tmp_path / "a.h5")) == ["metrics", "train"]


def test_metrics_and_configs_of_one_or_many_records(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    archive.save({"w": A}, path, name="n", metrics={"loss": 0.5}, configs={"x": {"a": 1}, "y": {}})
    records = archive.load(path)
    assert records.metrics_records == {"metrics": {"loss": 0.5}}
    assert records.configs_records == {"x": {"a": 1}, "y": {}}
    with pytest.raises(TypeError, match="metrics must be a mapping, not list"):
        archive.save({}, path, metrics=[1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="metrics/loss"):
        archive.save({}, path, name="n", metrics={"loss": "high"})
    with pytest.raises(TypeError, match="a key is a str, not int"):
        archive.save({}, path, metrics={1: 2})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="two records metrics/m"):
        archive.save(archive.RecordSet(None, {"m": archive.MetricRecord()}), path, metrics={"m": {"a": 1}})
    with pytest.raises(archive.errors.ValueRangeError, match=r"metrics/big.*64-bit"):
        archive.save({}, path, name="n", metrics={"big": 1 << 64})
    assert archive.load(path) == records
