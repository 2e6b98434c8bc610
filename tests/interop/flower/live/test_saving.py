"""Flower's own records and Contexts saved, opened and compared, under every release of flwr."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import PartialSaveError, ValueRangeError
from tests.interop.flower.live.comparisons import reopened, same_arrays, same_records, same_values
from tests.interop.flower.live.names import (
    Names,
    has_old_names,
    has_three_spaces,
    make_array,
    make_records,
    small,
    views,
)
from tests.interop.flower.live.samples import (
    NDARRAYS,
    NODE,
    RUN,
    RUN_ID,
    all_records,
    odd_arrays,
    plain_arrays,
)

pytest.importorskip("flwr")


def test_records_of_every_kind(flower: Names, path: str) -> None:
    records = all_records(flower)
    report = archive.save(records, path)
    assert report.arrays == len(NDARRAYS) + len(odd_arrays(flower))
    for found in reopened(path):
        same_records(flower, found, records)
    same_records(flower, archive.open(path).records, all_records(flower))  # the save changed nothing


def test_flowers_records_make_the_file_of_ours(flower: Names, ours: Names, tmp_path: Path) -> None:
    theirs, mine = tmp_path / "flower.h5", tmp_path / "ours.h5"
    for lib, path in ((flower, theirs), (ours, mine)):
        archive.save(all_records(lib), path, created="2026-01-02T03:04:05Z")
    if flower.generation != "single":  # our ParametersRecord in a RecordDict opens as ArrayRecord
        assert theirs.read_bytes() == mine.read_bytes()
    found, expected = archive.open(theirs).records, archive.open(mine).records
    for name in found:
        if "metrics" not in name and "configs" not in name:
            assert found[name] == expected[name]


def test_record_by_itself(flower: Names, path: str) -> None:
    record = flower.Arrays(plain_arrays(flower) | odd_arrays(flower))
    archive.save(record, path, name="global model", metrics=flower.Metrics({"loss": 0.5}))
    for found in reopened(path):
        assert type(found) is archive.RecordSet
        assert list(found) == ["global model", "metrics"]
        same_arrays(found["global model"], record)
        assert found["metrics"] == {"loss": 0.5}


def test_plain_dict_of_arrays(flower: Names, path: str) -> None:
    arrays = plain_arrays(flower)
    archive.save(arrays, path)
    same_arrays(archive.open(path).records.array_records["model"], flower.Arrays(dict(arrays)))
    archive.save(iter(arrays.items()), path)
    same_arrays(archive.open(path).records.array_records["model"], flower.Arrays(dict(arrays)))
    with archive.create(path) as writer:
        for key, array in arrays.items():
            writer.add("model", key, array)
    same_arrays(archive.open(path).records.array_records["model"], flower.Arrays(dict(arrays)))


def test_torch_state_dict(flower: Names, path: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = model.state_dict()
    if hasattr(flower.Arrays, "from_torch_state_dict"):
        record = flower.Arrays(state)
    else:
        record = flower.Arrays({k: flower.array_from_numpy(v.numpy()) for k, v in state.items()})
    archive.save(make_records(flower, {"model": record}), path)
    for found in reopened(path):
        same_arrays(found["model"], record)
        restored = found["model"].to_torch_state_dict()
        model.load_state_dict(restored)
        assert list(restored) == list(state)
        assert all(torch.equal(restored[key], state[key]) for key in state)


def test_ndarrays(flower: Names, path: str) -> None:
    if not hasattr(flower.Arrays, "from_numpy_ndarrays"):
        pytest.skip("ParametersRecord takes no ndarrays")
    record = flower.Arrays(list(NDARRAYS.values()))
    archive.save(record, path)
    for found in reopened(path):
        same_arrays(found["model"], record)
        for mine, other in zip(found["model"].to_numpy_ndarrays(), record.to_numpy_ndarrays(), strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


def test_arrays_over_the_same_bytes(flower: Names, path: str) -> None:
    data = flower.array_from_numpy(np.arange(4.0)).data
    raw = np.arange(4.0).tobytes()
    arrays = {
        "a": make_array(flower, "float64", (4,), "numpy.ndarray", data),
        "b": make_array(flower, "float64", (4,), "numpy.ndarray", data),
        "c": make_array(flower, "float64", (2, 2), "numpy.ndarray", data),
        "d": make_array(flower, "float32", (8,), "", raw),
        "e": make_array(flower, "float64", (4,), "", raw),
    }
    record = flower.Arrays(dict(arrays))
    archive.save(record, path)
    same_arrays(archive.open(path).records.array_records["model"], record)


def test_loosely_typed_arrays(flower: Names, path: str) -> None:
    """Flower checks no assignment to a field of its Array; any value that names an array is saved."""
    npy = flower.array_from_numpy(np.ones(2, "f4")).data
    arrays = {key: make_array(flower, "float32", (2,), "numpy.ndarray", npy) for key in "abcdefgh"}
    arrays["a"].data = bytearray(npy)
    arrays["b"].data = memoryview(npy)
    arrays["c"].dtype = np.dtype("f4")
    arrays["d"].shape = [np.int64(2)]
    arrays["e"].data, arrays["e"].stype = bytearray(b"12345678"), "raw"
    arrays["f"].data, arrays["f"].stype = np.ones(2, "f4").data, "raw"
    arrays["g"].data = bytearray(npy.replace(b"{'descr'", b"{ 'descr'", 1).replace(b" \n", b"\n", 1))
    arrays["h"].data, arrays["h"].stype = np.ones((0, 2), ">f4").data, "raw"
    archive.save(flower.Arrays(arrays, keep_input=True) if has_old_names(flower) else dict(arrays), path)
    for found in reopened(path):
        for key, array in arrays.items():
            mine = found["model"][key]
            assert (mine.dtype, mine.shape, mine.stype) == ("float32", (2,), array.stype)
            assert mine.data == bytes(array.data)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("data", None, TypeError),
        ("data", "text", TypeError),
        ("shape", None, TypeError),
        ("shape", (1.5,), TypeError),
        ("shape", (-1,), ValueRangeError),
        ("shape", (2**62, 2**62), ValueRangeError),
    ],
)
def test_invalid_arrays(flower: Names, path: str, field: str, value: Any, error: type[Exception]) -> None:
    """An invalid array is refused with record and key, before anything is written."""
    array = flower.array_from_numpy(np.ones(2))
    setattr(array, field, value)
    with pytest.raises(error, match=r"^'?model/w'?: "):
        archive.save({"w": array}, path)
    assert not Path(path).exists()


def test_one_name_in_every_kind(flower: Names, path: str) -> None:
    if not has_three_spaces(flower):
        pytest.skip("one name space")
    record = flower.Arrays({"w": flower.array_from_numpy(np.ones(2))})
    records = flower.RecordSet(
        {"x": record}, {"x": flower.Metrics({"m": 1})}, {"x": flower.Configs({"c": b""})}
    )
    archive.save(records, path)
    for found in reopened(path):
        same_records(flower, found, records)


def test_old_names_of_today(flower: Names, path: str) -> None:
    """RecordSet and ParametersRecord of flwr 1.17 and later are its RecordDict and ArrayRecord."""
    if has_old_names(flower):
        pytest.skip("they are today's names here")
    record = flower.ParametersRecord(plain_arrays(flower))
    records = flower.RecordSet({"m": flower.Metrics({"a": 1}), "model": record})
    archive.save(records, path)
    for found in reopened(path):
        same_records(flower, found, records)


def test_subclasses(flower: Names, path: str) -> None:
    class Mine(flower.Records):  # type: ignore[name-defined]
        pass

    class Weights(flower.Arrays):  # type: ignore[name-defined]
        pass

    records = make_records(
        Names(**{**vars(flower), "Records": Mine}),
        {"model": Weights({"w": flower.array_from_numpy(np.ones(2))}), "m": flower.Metrics({"a": 1})},
    )
    archive.save(records, path)
    same_records(flower, archive.open(path).records, records)


def test_context(flower: Names, path: str) -> None:
    records = all_records(flower)
    theirs = flower.Context(RUN_ID, 2**64 - 1, dict(NODE), records, dict(RUN))
    archive.save(theirs, path)
    with archive.open(path) as opened:
        found = opened.context
        assert type(found) is archive.Context
        assert (found.run_id, found.node_id) == (RUN_ID, 2**64 - 1)
        for mine, other in ((found.node_config, NODE), (found.run_config, RUN)):
            assert type(mine) is dict
            same_values(archive.ConfigRecord({**mine}), other, archive.ConfigRecord)
        same_records(flower, found.state, records)
        same_records(flower, opened.records, records)
    same_records(flower, archive.load(path), records)


def test_context_series_id(flower: Names, path: str) -> None:
    """The sixth field of flwr's newest Context."""
    empty = make_records(flower, {})
    theirs = flower.Context(1, 2, {}, empty, {})
    if not hasattr(theirs, "series_id"):
        pytest.skip("a Context has five fields")
    theirs.series_id = 7
    archive.save(theirs, path)
    assert archive.open(path).context.series_id == 7


def test_context_has_no_other_fields(flower: Names, path: str) -> None:
    """A field that a new flwr adds to its Context fails here, so that it does not go unsaved."""
    known = {"run_id", "node_id", "node_config", "state", "run_config", "series_id"}
    assert set(vars(flower.Context(1, 2, {}, make_records(flower, {}), {}))) <= known


def test_consumed(flower: Names, path: str) -> None:
    records = make_records(
        flower,
        {
            "a": flower.Arrays(plain_arrays(flower)),
            "m": flower.Metrics({"loss": 0.5}),
            "b": flower.Arrays(odd_arrays(flower)),
            "big": flower.Arrays({str(n): flower.array_from_numpy(np.full(2**20, n)) for n in range(8)}),
        },
    )
    arrays = views(flower, records)[0]
    before = {name: flower.Arrays(dict(record)) for name, record in arrays.items()}
    names = list(arrays)
    left: list[int] = []
    before_big = before.pop("big").count_bytes()
    archive.save(
        records, path, keep_input=False, progress=lambda done, total: left.append(len(arrays["big"]))
    )
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)
    assert len(set(left)) > 2, left  # popped as they are written, not all at the end
    assert [len(record) for record in views(flower, records)[0].values()] == [0, 0, 0]
    assert views(flower, records)[1]["m"] == {"loss": 0.5}
    for found in reopened(path):
        kept = views(flower, found)[0]
        assert list(kept) == names
        assert kept["big"].count_bytes() == before_big
        assert [int(array.numpy()[-1]) for array in kept["big"].values()] == list(range(8))
        for name, record in before.items():
            same_arrays(kept[name], record)


@pytest.mark.parametrize("in_context", [False, True])
def test_consumed_arrays_are_freed(flower: Names, path: str, in_context: bool) -> None:
    record = flower.Arrays({str(n): flower.array_from_numpy(np.full(1000, n)) for n in range(3)})
    seen = [weakref.ref(array) for array in record.values()]
    records = record
    if in_context:
        state = make_records(flower, {"model": record})
        records = flower.Context(RUN_ID, 1, dict(NODE), state, dict(RUN))
    archive.save(records, path, keep_input=False)
    gc.collect()
    assert len(record) == 0
    assert [ref() for ref in seen] == [None] * 3
    assert list(archive.open(path).records.array_records["model"]) == ["0", "1", "2"]


def test_failed_consuming_save_loses_nothing(flower: Names, path: str) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise RuntimeError("stopped")

    arrays = {str(n): flower.array_from_numpy(np.full(2**20, n)) for n in range(8)}
    record = flower.Arrays(dict(arrays))
    with pytest.raises(PartialSaveError) as caught:
        archive.save(record, path, keep_input=False, progress=stop)
    assert not Path(path).exists()
    assert caught.value.partial is not None
    arrived = archive.recover(caught.value.partial).array_records["model"]
    assert 0 < len(arrived) < 8 or len(record) == 0
    assert set(arrived) | set(record) == set(arrays)
    for key, array in arrived.items():
        assert array.data == arrays[key].data


@pytest.mark.parametrize("keep_input", [True, False])
@pytest.mark.parametrize("bad", [2**64, -(2**63) - 1, [1, 2**70]], ids=str)
def test_configs_that_no_archive_holds(flower: Names, path: str, bad: Any, keep_input: bool) -> None:
    """They are refused with record and key, before anything is written or consumed."""
    arrays = flower.Arrays({"w": small(flower, 1, 1)})
    records = make_records(flower, {"model": arrays, "run": flower.Configs({"seed": bad})})
    with pytest.raises(ValueRangeError, match=r"^'run/seed'"):
        archive.save(records, path, keep_input=keep_input)
    assert list(arrays) == ["w"]
    assert not list(Path(path).parent.iterdir())


@pytest.mark.parametrize(
    ("kind", "values"), [("Metrics", {"loss": 0.5}), ("Configs", {"lr": 0.5}), ("Metrics", {})]
)
def test_values_alone_are_no_records(flower: Names, path: str, kind: str, values: dict[str, float]) -> None:
    record = getattr(flower, kind)(values)
    text = f"^pass a {type(record).__name__} as metrics= or configs="
    with pytest.raises(TypeError, match=text):
        archive.save(record, path)
    assert not Path(path).exists()


def test_changed_after_the_save(flower: Names, path: str) -> None:
    """Records of an archive share no list with the caller's records."""
    metrics = flower.Metrics({"losses": [0.5]})
    archive.save(make_records(flower, {"m": metrics}), path)
    metrics["losses"].append(0.25)
    found = archive.open(path).records.metric_records["m"]
    assert found["losses"] == [0.5]
    losses: Any = found["losses"]
    losses.append(0.125)
    assert metrics["losses"] == [0.5, 0.25]


def test_back_into_flower(flower: Names, path: str) -> None:
    """The fields of opened arrays make Flower's own Arrays again, equal to those saved."""
    record = flower.Arrays(plain_arrays(flower) | odd_arrays(flower))
    archive.save(record, path)
    found = archive.open(path).records.array_records["model"]
    again = {k: make_array(flower, a.dtype, tuple(a.shape), a.stype, a.data) for k, a in found.items()}
    assert flower.Arrays(again) == record
