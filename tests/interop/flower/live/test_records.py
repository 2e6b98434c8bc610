"""Our records handed to Flower and taken back: equal to Flower's own, and still in the file."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.interop.flower import to_flower
from archive.interop.flower.records import from_flower
from tests.interop.flower.live.names import require_today

common = require_today()


def make_records() -> archive.RecordDict:
    arrays = {
        "w": np.arange(12, dtype="f4").reshape(3, 4),
        "0-d": np.array(1.5),
        "empty": np.zeros((0, 3), "f4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(4, dtype=">f4"),
        "text": np.array(["a", "bcé"]),
        "large": np.arange(300_000, dtype="f8"),
    }
    model = archive.ArrayRecord({key: archive.Array(array) for key, array in arrays.items()})
    model["bytes"] = archive.Array("float32", (2,), "numpy.ndarray.tobytes", np.ones(2, "f4").tobytes())
    return archive.RecordDict(
        {
            "model": model,
            "fit": archive.MetricRecord({"loss": [0.5, float("inf")], "n": 3}),
            "run": archive.ConfigRecord({"lr": 0.1, "flags": [True], "blob": b"\0", "none": []}),
        }
    )


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    archive.save(make_records(), tmp_path / "a.h5")
    return archive.open(tmp_path / "a.h5").records


def test_importing_us_imports_no_flwr() -> None:
    code = "import sys, archive, archive.errors, archive.interop.flower; sys.exit('flwr' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_records_of_flower_over_a_file(saved: Any) -> None:
    found = to_flower(saved)
    kinds = (common.ArrayRecord, common.MetricRecord, common.ConfigRecord)
    assert type(found) is common.RecordDict
    assert tuple(map(type, found.values())) == kinds
    assert found["fit"] == common.MetricRecord(dict(make_records()["fit"]))
    assert found["run"] == common.ConfigRecord(dict(make_records()["run"]))
    assert from_flower(found)["model"]["w"].payload is saved["model"]["w"].payload


@pytest.mark.parametrize("key", make_records().array_records["model"])
def test_an_array_over_a_file_is_flowers_own(saved: Any, key: str) -> None:
    array, mine = make_records().array_records["model"][key], to_flower(saved)["model"][key]
    shape = type(common.Array(np.zeros(2)).shape)
    plain = common.Array(array.dtype, shape(array.shape), array.stype, array.data)
    assert isinstance(mine, common.Array)
    assert type(mine).__qualname__ == "Array"
    assert mine == plain
    assert plain == mine
    assert mine.data == array.data
    if array.stype == "numpy.ndarray":
        assert mine.numpy().tolist() == array.numpy().tolist()
        assert mine.numpy().dtype == array.numpy().dtype
    for clone in (copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert clone == plain
    if hasattr(plain, "object_id"):
        assert mine.object_id == plain.object_id
        assert mine.deflate() == plain.deflate()
        assert list(mine.children) == list(plain.children)
    else:
        assert vars(mine) == vars(plain)


def test_writing_to_an_array_leaves_the_file(saved: Any, tmp_path: Path) -> None:
    array = to_flower(saved)["model"]["w"]
    array.numpy()[:] = 7
    assert array.numpy()[0, 0] == 0
    array.data = archive.Array(np.ones((3, 4), "f4")).data
    assert array.numpy()[0, 0] == 1
    assert archive.load(tmp_path / "a.h5").array_records["model"]["w"][0, 0] == 0


def test_sent_and_received(saved: Any) -> None:
    """Flower's own code serialises a message and takes it apart."""
    content = to_flower(saved)
    try:
        from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        contents = {key: piece.deflate() for key, piece in get_all_nested_objects(content).items()}
        received = inflate_object_from_contents(content.object_id, contents)
    except ImportError:
        from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

        received = recorddict_from_proto(recorddict_to_proto(content))
    assert received == content
    assert received["model"]["large"].data == make_records().array_records["model"]["large"].data


def test_contexts_both_ways() -> None:
    context = archive.Context(2**63 + 1, 7, {"partition-id": 0}, make_records(), {"lr": 0.1})
    found = to_flower(context)
    assert (found.run_id, found.node_id, found.node_config) == (2**63 + 1, 7, {"partition-id": 0})
    assert from_flower(found) == context


def test_an_array_that_makes_its_data_itself() -> None:
    class Scaled(archive.Array):
        @property
        def data(self) -> bytes:
            return archive.Array(10 * super().numpy()).data

    found = to_flower(archive.RecordDict({"m": archive.ArrayRecord.from_checked({"w": Scaled(np.ones(2))})}))
    assert found["m"]["w"].data == archive.Array(np.full(2, 10.0)).data
    assert found["m"].to_numpy_ndarrays()[0].tolist() == [10, 10]


def test_what_flower_cannot_hold() -> None:
    with pytest.raises(TypeError, match="dict"):
        to_flower({"a": 1})
    twice = archive.RecordSet({"a": archive.ArrayRecord()}, {"a": archive.MetricRecord()})
    with pytest.raises(ValueError, match="one name"):
        to_flower(twice)
