"""What clients changed: the right difference under the right name, and how far from the global model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import DigestError, MissingError, SkippedWarning, ValueRangeError

Store = archive.CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> archive.CheckpointStore:
    made = Store(tmp_path / "run")
    made.save({"w": np.array([1.0, 1.0]), "b": np.zeros(1, "f2")}, 0)
    for client, w in {"Berlin": [4.0, 5.0], "Oslo": [1.0, -1.0], "still": [1.0, 1.0]}.items():
        made.save({"w": np.array(w), "b": np.zeros(1, "f2"), "drift": np.ones(9)}, 1, client=client)
    made.save({"w": np.array([1.0, 3.0]), "b": np.zeros(1, "f2")}, 1)
    return made


def test_differences(store: archive.CheckpointStore) -> None:
    updates = store.updates("latest")
    assert list(updates) == ["Berlin", "Oslo", "still"]
    assert len(updates) == 3
    berlin = updates["Berlin"]
    assert list(berlin) == [("model", "w"), ("model", "b")]
    assert berlin["model", "w"].tolist() == [3.0, 4.0]
    assert berlin["model", "b"].dtype == np.float32, "not to overflow"
    assert berlin.norm() == 5.0
    assert berlin.cosine(updates["Oslo"]) == pytest.approx(-8 / 10)
    assert berlin.cosine({("model", "w"): np.array([3, 4]), ("model", "b"): np.zeros(1)}) == pytest.approx(1)
    assert np.isnan(berlin.cosine(updates["still"]))
    with pytest.raises(KeyError):
        _ = berlin["model", "drift"]
    with pytest.raises(KeyError):
        _ = updates["Rom"]
    assert (repr(updates), repr(berlin)) == (
        "<fedarchive.Updates of round 1: 3 clients>",
        "<fedarchive.Update of round 1, client 'Berlin'>",
    )


def test_drift(store: archive.CheckpointStore) -> None:
    """The line of an analyst."""
    table = store.updates(1).drift()
    assert list(table) == ["client", "norm", "relative", "cosine"]
    assert table["client"].tolist() == ["Berlin", "Oslo", "still"]
    assert table["norm"].tolist() == [5, 2, 0]
    assert table["relative"].tolist() == pytest.approx([5 / 2**0.5, 2 / 2**0.5, 0])
    np.testing.assert_allclose(table["cosine"], [0.8, -1, np.nan])


def test_drift_goes_on_where_clients_are_damaged_or_gone(store: archive.CheckpointStore) -> None:
    folder = Path(store.url) / "rounds"
    damaged, gone = folder / "00000001/Berlin.h5", folder / "00000001/still.h5"
    data = bytearray(damaged.read_bytes())
    data[4096] ^= 1
    damaged.write_bytes(data)
    gone.unlink()
    with pytest.raises(DigestError, match="Berlin"):
        store.updates(1).drift()
    with pytest.warns(SkippedWarning, match="2 of 3") as told:
        table = store.updates(1).drift(errors="skip")
    assert told[0].filename == __file__
    assert (table["client"].tolist(), table["norm"].tolist()) == (["Oslo"], [2.0])
    assert [path for path, _ in table.failures] == [str(damaged), str(gone)]
    table = store.updates(1).drift(errors="column")
    assert table["client"].tolist() == ["Berlin", "Oslo", "still"]
    np.testing.assert_array_equal(table["norm"], [np.nan, 2, np.nan])
    assert [error and error.split(": ")[0] for error in table["error"]] == [str(damaged), None, str(gone)]
    with pytest.raises(ValueError, match="errors must be one of"):
        store.updates(1).drift(errors="ignore")  # type: ignore[arg-type]


def test_a_damaged_global_model_is_no_error_of_a_client(store: archive.CheckpointStore) -> None:
    model = Path(store.url) / "rounds/00000000.h5"
    data = bytearray(model.read_bytes())
    data[4096] ^= 1
    model.write_bytes(data)
    with pytest.raises(DigestError, match="00000000"):
        store.updates(1).drift(errors="skip")


def test_which_model_they_started_from(store: archive.CheckpointStore) -> None:
    store.save({"w": np.array([7.0, 7.0])}, 5, client="Berlin")
    store.save({"w": np.zeros(2)}, 5)
    with pytest.raises(MissingError, match="no round 4, whose global model the clients of round 5"):
        store.updates(5)
    assert store.updates(5, base=1)["Berlin"]["model", "w"].tolist() == [6.0, 4.0]
    with pytest.raises(MissingError, match="round 0 has no clients"):
        store.updates(0)
    with pytest.raises(MissingError, match="no round 9"):
        store.updates(9)


def test_a_first_round_of_clients_has_no_round_before(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save({"w": np.zeros(2)}, 0, client="a")
    store.save({"w": np.zeros(2)}, 0)
    with pytest.raises(MissingError, match="no round -1"):
        store.updates(0)
    assert store.updates(0, base=0)["a"].norm() == 0


def test_names_of_other_records(tmp_path: Path) -> None:
    """A client may call its record as it likes, as long as it is plain which array is which."""
    store = Store(tmp_path)

    def records(**of: dict[str, Any]) -> archive.RecordDict:
        return archive.RecordDict(
            {
                name: archive.ArrayRecord(
                    {key: archive.Array(np.asarray(value)) for key, value in arrays.items()}
                )
                for name, arrays in of.items()
            }
        )

    store.save(records(arrays={"w": 1.0, "b": 2, "name": "text"}), 0)
    store.save(records(reply={"w": 3.0, "name": "text"}, other={"b": 5}), 1, client="a")
    store.save(records(reply={"b": 3}, other={"b": 5}), 1, client="b")
    store.save(records(arrays={"w": np.zeros(2)}), 1, client="c")
    store.save(records(arrays={"w": 1.0}), 1)
    updates = store.updates(1)
    assert {name: float(change) for name, change in updates["a"].items()} == {
        ("arrays", "w"): 2.0,
        ("arrays", "b"): 3.0,
    }
    with pytest.raises(ValueRangeError, match="client 'b' has no array of the global model of round 0"):
        list(updates["b"])
    with pytest.raises(
        ValueRangeError, match=r"client 'c' has the shape \(2,\), and round 0 has \(\)"
    ) as caught:
        updates["c"].norm()
    assert caught.value.key == "arrays/w"


@pytest.mark.parametrize(
    ("dtype", "found"),
    [
        ("u1", -3),
        ("?", -1),
        ("f2", -3),
        ("f4", -3),
        ("i8", -3),
        ("c8", -3),
        ("bfloat16", -3),
        ("float8_e4m3fn", -3),
    ],
)
def test_no_difference_wraps(tmp_path: Path, dtype: str, found: float) -> None:
    from archive.dtypes import parse_dtype

    kind = parse_dtype(dtype) if "float" in dtype else np.dtype(dtype)
    store = Store(tmp_path)
    store.save({"w": np.array([4], kind)}, 0)
    store.save({"w": np.array([1 if dtype != "?" else 0], kind)}, 1, client="a")
    store.save({"w": np.array([4], kind)}, 1)
    assert store.updates(1)["a"]["model", "w"][0] == found
    assert store.updates(1)["a"].norm() == abs(found)


def test_what_no_numpy_knows_is_no_update(tmp_path: Path) -> None:
    """A serialization of its own has elements that only its program knows, whatever its type is called."""
    store = Store(tmp_path)

    def save(number: int, text: str, **options: Any) -> None:
        arrays = {
            "own": archive.Array("mine", (2,), "custom", b"xx"),
            "like": archive.Array("float32", (2,), "custom", b"xx"),
            "w": archive.Array(np.full(2, float(number))),
            "text": archive.Array(np.array([text])),
        }
        store.save(archive.ArrayRecord(arrays), number, **options)

    save(0, "a")
    save(1, "b", client="Berlin")
    save(1, "c")
    update = store.updates(1)["Berlin"]
    assert {name: change.tolist() for name, change in update.items()} == {("model", "w"): [1, 1]}
    assert store.updates(1).drift()["cosine"].tolist() == pytest.approx([1])


def test_the_cosine_of_long_updates(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, w in enumerate([[0.0, 0.0], [1e100, 1e100]]):
        store.save({"w": np.array(w)}, number, client="a")
        store.save({"w": np.array(w)}, number)
    update = store.updates(1)["a"]
    assert update.cosine(update) == pytest.approx(1)
    assert store.updates(1).drift()["cosine"].tolist() == pytest.approx([1])
