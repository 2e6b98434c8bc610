"""Records of an open archive: an Array is made when it is asked for, all else is as in any record."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ClosedError, HostileFileError
from archive.records import Array, ArrayRecord, ParametersRecord, RecordDict, RecordSet
from archive.records.typeddict import TypedDict
from tests.crafting import Crafted

COUNT = 200


def arrays() -> dict[str, Any]:
    return {f"layer.{number}": np.full((2, number % 3 + 1), number, "f4") for number in range(COUNT)}


def eager() -> ArrayRecord:
    record = ArrayRecord({key: Array(array) for key, array in arrays().items()})
    record.attributes["role"] = "weights"
    return record


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lazy") / "model.h5"
    other = ArrayRecord({"layer.3": Array(np.zeros(5)), "only": Array(np.ones(1))})
    archive.save(RecordDict({"model": eager(), "other": other}), path, durable=False)
    return path


def of(handle: archive.Archive, name: str = "model") -> ArrayRecord:
    found: Any = handle.records[name]
    assert isinstance(found, ArrayRecord)
    return found


@pytest.fixture
def record(saved: Path) -> Iterator[ArrayRecord]:
    with archive.open(saved) as handle:
        yield of(handle)


def made() -> int:
    """Return how many Arrays there are."""
    return sum(type(thing) is Array for thing in gc.get_objects())


# How many are made


def test_asking_for_one_makes_one(record: ArrayRecord) -> None:
    before = made()
    assert len(record) == COUNT
    assert record["layer.7"].shape == (2, 2)
    assert made() == before + 1
    assert "layer.9" in record
    assert made() == before + 2


def test_opening_makes_none(saved: Path) -> None:
    before = made()
    with archive.open(saved) as handle:
        assert list(handle.records) == ["model", "other"]
        assert made() == before


@pytest.mark.parametrize("number", [0, 1, 60])
def test_every_array_is_made_once(record: ArrayRecord, number: int) -> None:
    before = made()
    found = {key: record[key] for key in list(arrays())[:number]}
    first = record["layer.199"]
    every = dict(record.items())
    assert made() == before + COUNT
    assert list(every) == list(arrays())
    assert all(every[key] is array is record[key] for key, array in found.items())
    assert first is record["layer.199"] is every["layer.199"]


def test_asking_for_many_makes_all_at_once(record: ArrayRecord) -> None:
    """Finding each of 20,000 would take several times as long."""
    before = made()
    kept = [record[f"layer.{number}"] for number in range(COUNT // 4)]
    assert made() == before + COUNT
    assert [array is record[f"layer.{number}"] for number, array in enumerate(kept)] == [True] * len(kept)


# As any other record


def test_is_the_record_of_its_kind(record: ArrayRecord, tmp_path: Path) -> None:
    assert type(record) is ArrayRecord
    assert isinstance(record, TypedDict)
    archive.save(arrays(), tmp_path / "set.h5", durable=False)
    with archive.open(tmp_path / "set.h5") as handle:
        assert isinstance(handle.records, RecordSet)
        assert type(handle.records.parameters_records["model"]) is ParametersRecord


def test_the_same_key_in_two_records(saved: Path) -> None:
    with archive.open(saved) as handle:
        model, other = of(handle), of(handle, "other")
        assert (model["layer.3"].shape, other["layer.3"].shape) == ((2, 1), (5,))
        assert "only" in other
        assert "only" not in model


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "keys": lambda record: list(record.keys()),
    "values": lambda record: list(record.values()),
    "items": lambda record: list(record.items()),
    "iteration": list,
    "length": len,
    "repr of one": lambda record: record["layer.1"].numpy().tolist(),
    "get": lambda record: (record.get("layer.5"), record.get("no"), record.get("no", 3)),
    "contains": lambda record: ("layer.5" in record, "no" in record, 3 in record, ("model", "w") in record),
    "pop": lambda record: (record.pop("layer.5"), record.pop("no", 3), len(record), "layer.5" in record),
    "popitem": lambda record: (record.popitem(), len(record)),
    "setdefault": lambda record: (record.setdefault("layer.5"), len(record)),
    "clear": lambda record: (record.clear(), len(record), list(record)),
    "set": lambda record: (record.__setitem__("layer.5", Array(np.ones(3))), list(record.items())),
    "add": lambda record: (record.__setitem__("new", Array(np.ones(3))), list(record.items())),
    "delete": lambda record: (record.__delitem__("layer.5"), "layer.5" in record, list(record)),
    "delete what was found": lambda record: (record["layer.5"], record.pop("layer.5"), "layer.5" in record),
    "update": lambda record: (record.update({"layer.5": Array(np.ones(3))}), record["layer.5"]),
    "count_bytes": lambda record: record.count_bytes(),
    "to_numpy_ndarrays": lambda record: [array.tolist() for array in record.to_numpy_ndarrays()],
    "consuming": lambda record: (len(record.to_numpy_ndarrays(keep_input=False)), len(record)),
    "drain": lambda record: ([(key, array, len(record)) for key, array in record.drain()], len(record)),
    "copy": lambda record: (record.copy(), record.copy().attributes),
    "copy and change": lambda record: (record["layer.5"], record.copy().pop("layer.5"), record["layer.5"]),
    "copy.copy": copy.copy,
    "deepcopy": lambda record: (copy.deepcopy(record), copy.deepcopy(record).attributes),
    "attributes": lambda record: record.attributes,
    "dict": dict,
    "from_array_dict": ArrayRecord.from_array_dict,
}


@pytest.mark.parametrize("found", [(), ("layer.5",), tuple(arrays())], ids=["none", "one", "all"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_does_what_one_in_memory_does(record: ArrayRecord, name: str, found: tuple[str, ...]) -> None:
    for key in found:
        assert record[key].numpy() is not None
    ours, theirs = OPERATIONS[name](record), OPERATIONS[name](eager())
    assert ours == theirs
    assert type(ours) is type(theirs)


@pytest.mark.parametrize("key", ["no", 3, None, ("model", "layer.1"), "\ud800"])
def test_missing_keys(record: ArrayRecord, key: Any) -> None:
    with pytest.raises(KeyError):
        record[key]
    with pytest.raises(KeyError):
        del record[key]
    with pytest.raises(TypeError):
        record[[]]  # type: ignore[index]


def test_equality_either_way(record: ArrayRecord) -> None:
    other = eager()
    assert record == other
    assert other == record
    assert record == dict(other)
    other["layer.0"] = Array(np.zeros(1))
    assert record != other


def test_refuses_what_a_record_refuses(record: ArrayRecord) -> None:
    with pytest.raises(TypeError, match="Value must be of type"):
        record["layer.1"] = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match="Key must be of type"):
        record[1] = Array(np.zeros(1))  # type: ignore[index]
    with pytest.raises(TypeError, match="unhashable"):
        hash(record)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("found", [False, True])
def test_pickles(record: ArrayRecord, protocol: int, found: bool) -> None:
    if found:
        assert "layer.1" in record
    again = pickle.loads(pickle.dumps(record, protocol))
    assert type(again) is ArrayRecord
    assert again == record == eager()
    assert again.attributes == {"role": "weights"}
    again["layer.1"] = Array(np.zeros(1))
    assert again != record


def test_a_changed_array_stays_changed(record: ArrayRecord) -> None:
    kept = record["layer.1"]
    kept.data = Array(np.full(1, 7.0)).data
    assert dict(record)["layer.1"].data == kept.data
    record["layer.1"] = Array(np.zeros(3))
    assert record["layer.1"].shape == (3,)
    assert record.copy()["layer.1"].shape == (3,)


def test_after_closing(saved: Path) -> None:
    with archive.open(saved) as handle:
        record = of(handle)
    assert record["layer.4"].shape == (2, 2)
    assert list(record) == list(arrays())
    with pytest.raises(ClosedError):
        record["layer.4"].numpy()


# Threads and garbage


@pytest.mark.parametrize("again", range(5))
def test_threads_get_the_same_arrays(record: ArrayRecord, again: int) -> None:
    keys, start = list(arrays()), threading.Barrier(8)
    found: list[dict[str, Array]] = []

    def ask(number: int) -> None:
        start.wait()
        if number == again:
            found.append(dict(record.items()))
        else:
            found.append({key: record[key] for key in keys[number::3]})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for arrays_of_one in found:
        assert all(record[key] is array for key, array in arrays_of_one.items())


@pytest.mark.parametrize("ask", [len, lambda record: record["layer.1"], list], ids=["none", "one", "all"])
def test_goes_with_the_last_reference(saved: Path, ask: Callable[[ArrayRecord], Any]) -> None:
    gc.collect()
    gc.disable()
    try:
        handle = archive.open(saved)
        record = of(handle)
        ask(record)
        watched = [weakref.ref(thing) for thing in (handle, record, handle._reader)]
        handle.close()
        del handle, record
        assert [reference() for reference in watched] == [None] * 3
    finally:
        gc.enable()


# Names that a hostile file makes up


def respelled(saved: Path, path: Path, key: str, to: bytes) -> Path:
    """Return an archive in which a key is spelled so, and the name table leads to the key of before."""
    crafted = Crafted(saved)
    end = int(crafted.sections["key_end"][crafted.row("model", key)])
    crafted.sections["pool"][end - len(to) : end] = np.frombuffer(to, np.uint8)
    crafted.write(path)
    return path


def test_a_key_that_the_name_table_does_not_lead_to(saved: Path, tmp_path: Path) -> None:
    with archive.open(respelled(saved, tmp_path / "bad.h5", "layer.9", b"LAYER.9")) as handle:
        record = of(handle)
        assert record["LAYER.9"].numpy().max() == 9
        assert "layer.9" not in record


def test_two_arrays_of_one_key(saved: Path, tmp_path: Path) -> None:
    with archive.open(respelled(saved, tmp_path / "bad.h5", "layer.9", b"layer.8")) as handle:
        record = of(handle)
        for _ in range(2):
            with pytest.raises(HostileFileError, match="two arrays of one record share a key"):
                list(record)


def test_a_key_that_is_no_text(saved: Path, tmp_path: Path) -> None:
    with archive.open(respelled(saved, tmp_path / "bad.h5", "layer.9", b"\xff")) as handle:
        record = of(handle)
        assert record["layer.8"].numpy().max() == 8
        with pytest.raises(HostileFileError, match="a key is not UTF-8"):
            record.keys()
