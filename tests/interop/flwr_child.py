"""Flower's own live objects saved, opened and compared: a program that test_flwr.py runs where flwr is.

Prints one JSON object: the versions, and what became of every check ("ok", "skip: why", or a traceback).
"""

from __future__ import annotations

import copy
import gc
import json
import pickle
import platform
import re
import sys
import tempfile
import traceback
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

import archive
import archive.errors

CREATED = "2026-01-02T03:04:05Z"
RUN_ID = 2**63 + 12345

CHECKS: dict[str, Callable[..., Any]] = {}
"""Checks by name: called with (flower, ours, path)."""
PROBES: dict[str, Callable[..., Any]] = {}
"""Behaviours by name: called with Flower's names and with ours, they must come to the same."""
DIFFERENT: dict[str, Callable[[SimpleNamespace], bool]] = {}
"""Probes where ours goes its own way on purpose, as RECORDS.md says, and in which generations."""


class NotHereError(Exception):
    """The check has no meaning with this flwr."""


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    CHECKS[function.__name__] = function
    return function


def probe(
    function: Callable[..., Any] | None = None,
    *,
    differs: Callable[[SimpleNamespace], bool] | bool | None = None,
) -> Any:
    if function is None:
        return lambda function: probe(function, differs=differs)
    PROBES[function.__name__] = function
    if differs is not None:
        DIFFERENT[function.__name__] = differs if callable(differs) else lambda _: bool(differs)
    return function


# What flwr calls things, by generation: "set" has three name spaces (until 1.15), "single" one name space
# under the old names (1.16), "dict" the names of today.


def flower_names() -> SimpleNamespace:
    import flwr
    import flwr.common as names

    version = tuple(map(int, flwr.__version__.split(".")[:2])) if hasattr(flwr, "__version__") else (0, 0)
    new = hasattr(names, "RecordDict")
    one = new or "records" in names.RecordSet.__init__.__code__.co_varnames
    return SimpleNamespace(
        flower=True,
        version=version,
        generation="dict" if new else "single" if one else "set",
        shape=_shape_type(names),
        Array=names.Array,
        Arrays=names.ArrayRecord if new else names.ParametersRecord,
        ParametersRecord=names.ParametersRecord,
        Metrics=names.MetricRecord if new else names.MetricsRecord,
        Configs=names.ConfigRecord if new else names.ConfigsRecord,
        Records=names.RecordDict if new else names.RecordSet,
        RecordSet=names.RecordSet,
        Context=names.Context,
        array_from_numpy=names.array_from_numpy,
    )


def our_names(flower: SimpleNamespace) -> SimpleNamespace:
    """Return our names of the same generation."""
    new = flower.generation == "dict"
    return SimpleNamespace(
        flower=False,
        version=flower.version,
        generation=flower.generation,
        shape=flower.shape,
        Array=archive.Array,
        Arrays=archive.ArrayRecord if new else archive.ParametersRecord,
        ParametersRecord=archive.ParametersRecord,
        Metrics=archive.MetricRecord,
        Configs=archive.ConfigRecord,
        Records=archive.RecordSet if flower.generation == "set" else archive.RecordDict,
        RecordSet=archive.RecordSet,
        Context=archive.Context,
        array_from_numpy=archive.array_from_numpy,
    )


def _shape_type(names: Any) -> type:
    return type(names.array_from_numpy(np.zeros(2)).shape)


def make_array(lib: SimpleNamespace, dtype: str, shape: tuple[int, ...], stype: str, data: bytes) -> Any:
    return lib.Array(dtype, lib.shape(shape), stype, data)


def make_records(lib: SimpleNamespace, records: dict[str, Any]) -> Any:
    if lib.generation != "set":
        return lib.Records(records)
    kinds = (lib.Arrays, lib.Metrics, lib.Configs)
    return lib.Records(*({n: r for n, r in records.items() if isinstance(r, kind)} for kind in kinds))


def views(lib: SimpleNamespace, records: Any) -> tuple[Any, Any, Any]:
    """Return arrays, metrics and configs of a container by name, in the words of its generation."""
    if isinstance(records, archive.RecordDict) or lib.generation == "dict":
        return records.array_records, records.metric_records, records.config_records
    return records.parameters_records, records.metrics_records, records.configs_records


NDARRAYS: dict[str, np.ndarray[Any, Any]] = {
    **{
        f"{kind}": np.arange(6).astype(kind).reshape(2, 3)
        for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
    },
    "big endian": np.arange(4, dtype=">f4"),
    "0-d": np.array(1.5),
    "empty": np.zeros((0, 3), "f4"),
    "fortran": np.asfortranarray(np.arange(12, dtype="f8").reshape(3, 4)),
    "strided": np.arange(20)[::3],
    "str": np.array(["a", "bcé", ""]),
    "bytes": np.array([b"a", b"bc\0d"]),
    "datetime": np.array(["2026-01-01", "NaT"], "M8[s]"),
    "structured": np.array([(1, 2.5), (3, -0.0)], [("a", "i4"), ("b", "f8")]),
    "nan": np.array([np.nan, -np.inf, -0.0]),
    "keys/with slash, ünïcode and .": np.ones(3, "f4"),
    "large": np.arange(300_000, dtype="f4"),
}


def flower_arrays(lib: SimpleNamespace) -> dict[str, Any]:
    return {key: lib.array_from_numpy(ndarray) for key, ndarray in NDARRAYS.items()}


def odd_arrays(lib: SimpleNamespace) -> dict[str, Any]:
    """Return arrays whose data is no .npy, or not the one that dtype and shape say."""
    brain = np.arange(5).astype(ml_dtypes.bfloat16)
    return {
        "tobytes": make_array(lib, "float32", (2,), "numpy.ndarray.tobytes", np.ones(2, "f4").tobytes()),
        "no stype": make_array(lib, "int64", (1,), "", b"\1\0\0\0\0\0\0\0"),
        "nothing known": make_array(lib, "", (), "", b"any bytes at all"),
        "no data": make_array(lib, "float32", (0,), "", b""),
        "bfloat16 bytes": make_array(lib, "bfloat16", (5,), "torch.bfloat16", brain.tobytes()),
        "bfloat16 npy": lib.array_from_numpy(brain),
        "torch dtype": make_array(lib, "torch.float32", (1,), "torch.save", b"PK\3\4 no numpy"),
        "not the npy it says": make_array(lib, "float32", (2,), "numpy.ndarray", b"\x93NUMPY broken"),
        "npy of other shape": make_array(
            lib, "float64", (7,), "numpy.ndarray", lib.array_from_numpy(np.ones(2)).data
        ),
        "large and foreign": make_array(lib, "x", (9, 9), "y", bytes(range(256)) * 4096),
    }


METRICS: dict[str, Any] = {
    "loss": 0.1 + 0.2,
    "count": 3,
    "negative": -(2**63),
    "most": 2**64 - 1,
    "nan": float("nan"),
    "inf": [float("inf"), -0.0],
    "float64": np.float64(0.25),
    "ints": [1, 2, 3],
    "flags among ints": [1, True],
    "none": [],
    "long": [0.5] * 3000,
}
CONFIGS: dict[str, Any] = {
    **METRICS,
    "lr": 0.1,
    "flag": True,
    "flags": [True, False],
    "text": "ünïcode\0nul\nline",
    "no text": "",
    "texts": ["a", "", "ü"],
    "blob": b"\x00\xff\x80",
    "no blob": b"",
    "blobs": [b"a", b"", b"\xff"],
    "long blob": bytes(range(256)) * 100,
}
NODE = {"partition-id": 3, "num-partitions": 10, "flag": False, "ratio": 0.5, "name": "nöde"}
RUN = {"lr": 1e-3, "num-server-rounds": 3, "fraction": 0.1, "nesterov": True, "model": "a/b"}


def all_records(lib: SimpleNamespace) -> Any:
    """Return every kind of record in one container, the kinds mixed."""
    return make_records(
        lib,
        {
            "z-metrics": lib.Metrics(dict(METRICS)),
            "model": lib.Arrays(flower_arrays(lib)),
            "a-configs": lib.Configs(dict(CONFIGS)),
            "odd": lib.Arrays(odd_arrays(lib)),
            "empty arrays": lib.Arrays({}),
            "empty metrics": lib.Metrics(),
            "empty configs": lib.Configs(),
        },
    )


# Comparisons


def same_value(ours: Any, theirs: Any) -> None:
    """Compare two config values: type, bits and, of lists, each."""
    if isinstance(theirs, list):
        assert type(ours) is list
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            same_value(mine, other)
        return
    expected = float if isinstance(theirs, float) else type(theirs)
    assert type(ours) is expected, (ours, theirs)
    assert ours == theirs or (ours != ours and theirs != theirs)
    assert repr(ours) == repr(expected(theirs))


def same_values(ours: Any, theirs: Any, kind: type) -> None:
    assert type(ours) is kind
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        same_value(ours[key], value)


def same_arrays(ours: Any, theirs: Any, kind: type | None = None) -> None:
    assert isinstance(ours, archive.ArrayRecord)
    assert kind is None or type(ours) is kind
    assert list(ours) == list(theirs)
    assert ours.count_bytes() == theirs.count_bytes()
    for key, array in theirs.items():
        mine = ours[key]
        assert type(mine) is archive.Array
        assert (mine.dtype, tuple(mine.shape), mine.stype) == (array.dtype, tuple(array.shape), array.stype)
        assert mine.data == array.data, key
        assert mine.shape == array.shape


def same_records(lib: SimpleNamespace, ours: Any, theirs: Any) -> None:
    """Compare a container of ours with Flower's: type, names and order, and every record."""
    assert type(ours) is (archive.RecordSet if lib.generation == "set" else archive.RecordDict)
    if lib.generation != "set":
        assert list(ours) == list(theirs)
    for mine, other in zip(views(lib, ours), views(lib, theirs), strict=True):
        assert list(mine) == list(other)
    arrays, metrics, configs = views(lib, theirs)
    mine = views(lib, ours)
    for name, record in arrays.items():
        same_arrays(
            mine[0][name],
            record,
            archive.ParametersRecord if lib.generation == "set" else archive.ArrayRecord,
        )
    for name, record in metrics.items():
        same_values(mine[1][name], record, archive.MetricRecord)
    for name, record in configs.items():
        same_values(mine[2][name], record, archive.ConfigRecord)


def reopened(path: str) -> tuple[Any, Any]:
    """Return the records of an archive as they are opened, and as they are loaded; it verifies."""
    assert archive.verify(path)
    return archive.open(path, verify="open").records, archive.load(path)


# Saving


@check
def records_of_every_kind(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    records = all_records(flower)
    report = archive.save(records, path)
    assert report.arrays == len(NDARRAYS) + len(odd_arrays(flower))
    for found in reopened(path):
        same_records(flower, found, records)
    same_records(flower, archive.open(path).records, all_records(flower))  # nothing was taken or changed


@check
def records_equal_ours_byte_for_byte(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """The file of Flower's records is the file of ours, and its records equal them."""
    archive.save(all_records(flower), path, created=CREATED)
    archive.save(all_records(ours), path + "2", created=CREATED)
    mine = archive.open(path)
    if flower.generation != "single":  # our ParametersRecord in a RecordDict opens as ArrayRecord
        assert Path(path).read_bytes() == Path(path + "2").read_bytes()
    for name in mine.records:
        if "metrics" not in name and "configs" not in name:
            assert mine.records[name] == archive.open(path + "2").records[name]


@check
def record_by_itself(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    record = flower.Arrays(flower_arrays(flower) | odd_arrays(flower))
    archive.save(record, path, name="global model", metrics=flower.Metrics({"loss": 0.5}))
    for found in reopened(path):
        assert type(found) is archive.RecordSet
        assert list(found) == ["global model", "metrics"]
        same_arrays(found["global model"], record)
        assert found["metrics"] == {"loss": 0.5}


@check
def plain_dict_of_arrays(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    arrays = flower_arrays(flower)
    archive.save(arrays, path)
    same_arrays(archive.open(path).records["model"], flower.Arrays(dict(arrays)))
    archive.save(iter(arrays.items()), path)
    same_arrays(archive.open(path).records["model"], flower.Arrays(dict(arrays)))
    with archive.create(path) as writer:
        for key, array in arrays.items():
            writer.add("model", key, array)
    same_arrays(archive.open(path).records["model"], flower.Arrays(dict(arrays)))


@check
def torch_state_dict(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    torch = require_torch()
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


@check
def ndarrays(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    if not hasattr(flower.Arrays, "from_numpy_ndarrays"):
        raise NotHereError("ParametersRecord takes no ndarrays")
    record = flower.Arrays(list(NDARRAYS.values()))
    archive.save(record, path)
    for found in reopened(path):
        same_arrays(found["model"], record)
        for mine, other in zip(found["model"].to_numpy_ndarrays(), record.to_numpy_ndarrays(), strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


@check
def arrays_over_the_same_bytes(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
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
    same_arrays(archive.open(path).records["model"], record)


@check
def loosely_typed_arrays(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """Nothing checks what is assigned to a field of Flower's Array: what can be told is saved."""
    npy = flower.array_from_numpy(np.ones(2, "f4")).data
    arrays = {key: make_array(flower, "float32", (2,), "numpy.ndarray", npy) for key in "abcdefgh"}
    arrays["a"].data = bytearray(npy)
    arrays["b"].data = memoryview(npy)
    arrays["c"].dtype = np.dtype("f4")
    arrays["d"].shape = [np.int64(2)]
    arrays["e"].data, arrays["e"].stype = bytearray(b"12345678"), "raw"
    arrays["f"].data, arrays["f"].stype = memoryview(np.ones(2, "f4")), "raw"
    arrays["g"].data = bytearray(npy.replace(b"{'descr'", b"{ 'descr'", 1).replace(b" \n", b"\n", 1))
    arrays["h"].data, arrays["h"].stype = memoryview(np.ones((0, 2), ">f4")), "raw"
    archive.save(flower.Arrays(arrays, keep_input=True) if _old(flower) else dict(arrays), path)
    for found in reopened(path):
        for key, array in arrays.items():
            mine = found["model"][key]
            assert (mine.dtype, mine.shape, mine.stype) == ("float32", (2,), array.stype)
            assert mine.data == bytes(array.data)


@check
def arrays_that_say_nonsense(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """Refused with record and key, before anything is written."""
    for field, value, error in (
        ("data", None, "TypeError: model/w: "),
        ("data", "text", "TypeError: model/w: "),
        ("shape", None, "TypeError: model/w: "),
        ("shape", (1.5,), "TypeError: model/w: "),
        ("shape", (-1,), "ValueRangeError: 'model/w': "),
        ("shape", (2**62, 2**62), "ValueRangeError: 'model/w': "),
    ):
        array = flower.array_from_numpy(np.ones(2))
        setattr(array, field, value)
        text = text_of(partial(archive.save, {"w": array}, path))
        assert text.startswith(error), (field, value, text)
        assert not Path(path).exists()


@check
def one_name_in_every_kind(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    if flower.generation != "set":
        raise NotHereError("one name space")
    record = flower.Arrays({"w": flower.array_from_numpy(np.ones(2))})
    records = flower.RecordSet(
        {"x": record}, {"x": flower.Metrics({"m": 1})}, {"x": flower.Configs({"c": b""})}
    )
    archive.save(records, path)
    for found in reopened(path):
        same_records(flower, found, records)


@check
def old_names_of_today(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """RecordSet and ParametersRecord of flwr 1.17 and later are its RecordDict and ArrayRecord."""
    if flower.generation != "dict":
        raise NotHereError("they are not old here")
    record = flower.ParametersRecord(flower_arrays(flower))
    records = flower.RecordSet({"m": flower.Metrics({"a": 1}), "model": record})
    archive.save(records, path)
    for found in reopened(path):
        same_records(flower, found, records)


@check
def subclasses(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    class Mine(flower.Records):  # type: ignore[name-defined]
        pass

    class Weights(flower.Arrays):  # type: ignore[name-defined]
        pass

    records = make_records(
        SimpleNamespace(**{**vars(flower), "Records": Mine}),
        {"model": Weights({"w": flower.array_from_numpy(np.ones(2))}), "m": flower.Metrics({"a": 1})},
    )
    archive.save(records, path)
    same_records(flower, archive.open(path).records, records)


@check
def context(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    records = all_records(flower)
    theirs = flower.Context(RUN_ID, 2**64 - 1, dict(NODE), records, dict(RUN))
    archive.save(theirs, path)
    with archive.open(path) as opened:
        found = opened.context
        assert type(found) is archive.Context
        assert (found.run_id, found.node_id) == (RUN_ID, 2**64 - 1)
        for mine, other in ((found.node_config, NODE), (found.run_config, RUN)):
            assert type(mine) is dict
            same_values(archive.ConfigRecord(mine), other, archive.ConfigRecord)
        same_records(flower, found.state, records)
        same_records(flower, opened.records, records)
    same_records(flower, archive.load(path), records)


@check
def context_series_id(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """The sixth field of flwr's newest Context."""
    empty = make_records(flower, {})
    theirs = flower.Context(1, 2, {}, empty, {})
    if not hasattr(theirs, "series_id"):
        raise NotHereError("a Context has five fields")
    theirs.series_id = 7
    archive.save(theirs, path)
    assert archive.open(path).context.series_id == 7


@check
def context_has_no_other_fields(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """Nothing that flwr knows of a Context goes unsaved without this test telling."""
    known = {"run_id", "node_id", "node_config", "state", "run_config", "series_id"}
    assert set(vars(flower.Context(1, 2, {}, make_records(flower, {}), {}))) <= known


@check
def consumed(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    records = make_records(
        flower,
        {
            "a": flower.Arrays(flower_arrays(flower)),
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


@check
def consumed_record_and_context(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    def watched() -> tuple[Any, list[Any]]:
        record = flower.Arrays({str(n): flower.array_from_numpy(np.full(1000, n)) for n in range(3)})
        return record, [weakref.ref(array) for array in record.values()]

    record, seen = watched()
    archive.save(record, path, keep_input=False)
    gc.collect()
    assert len(record) == 0
    assert [ref() for ref in seen] == [None] * 3
    assert list(archive.open(path).records["model"]) == ["0", "1", "2"]

    record, seen = watched()
    state = make_records(flower, {"model": record})
    archive.save(flower.Context(RUN_ID, 1, dict(NODE), state, dict(RUN)), path, keep_input=False)
    gc.collect()
    assert len(record) == 0
    assert [ref() for ref in seen] == [None] * 3
    assert list(archive.open(path).context.state["model"]) == ["0", "1", "2"]


@check
def failed_consuming_save_loses_nothing(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise StopError

    arrays = {str(n): flower.array_from_numpy(np.full(2**20, n)) for n in range(8)}
    record = flower.Arrays(dict(arrays))
    try:
        archive.save(record, path, keep_input=False, progress=stop)
    except archive.errors.PartialSaveError as error:
        left = error.partial
    assert not Path(path).exists()
    arrived = archive.recover(left)["model"]
    assert 0 < len(arrived) < 8 or len(record) == 0
    assert set(arrived) | set(record) == set(arrays)
    for key, array in arrived.items():
        assert array.data == arrays[key].data


@check
def what_no_archive_holds(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """Refused with record and key, before anything is written or taken."""
    arrays = flower.Arrays({"w": flower.array_from_numpy(np.ones(2))})
    for bad in (2**64, -(2**63) - 1, [1, 2**70]):
        records = make_records(flower, {"model": arrays, "run": flower.Configs({"seed": bad})})
        for keep_input in (True, False):
            text = text_of(partial(archive.save, records, path, keep_input=keep_input))
            assert text.startswith("ValueRangeError: 'run/seed'"), text
            assert list(arrays) == ["w"]
            assert not list(Path(path).parent.glob(Path(path).name + "*"))
    for record in (flower.Metrics({"loss": 0.5}), flower.Configs({"lr": 0.5}), flower.Metrics()):
        text = text_of(partial(archive.save, record, path))
        assert text.startswith(f"TypeError: pass a {type(record).__name__} as metrics= or configs="), text
        assert not Path(path).exists()


@check
def changed_after_the_save(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """What the records of an archive hold is not what the caller's hold."""
    metrics = flower.Metrics({"losses": [0.5]})
    archive.save(make_records(flower, {"m": metrics}), path)
    metrics["losses"].append(0.25)
    found = archive.open(path).records["m"]
    assert found["losses"] == [0.5]
    found["losses"].append(0.125)
    assert metrics["losses"] == [0.5, 0.25]


@check
def back_into_flower(flower: SimpleNamespace, ours: SimpleNamespace, path: str) -> None:
    """Fields of what was opened make Flower's own Arrays again, equal to those saved."""
    record = flower.Arrays(flower_arrays(flower) | odd_arrays(flower))
    archive.save(record, path)
    found = archive.open(path).records["model"]
    again = {k: make_array(flower, a.dtype, tuple(a.shape), a.stype, a.data) for k, a in found.items()}
    assert flower.Arrays(again) == record


# Behaviours. Each probe is run with Flower's names and with ours.


def small(lib: SimpleNamespace, *values: float) -> Any:
    return lib.array_from_numpy(np.array(values))


def outcome(function: Callable[..., Any], lib: SimpleNamespace) -> Any:
    try:
        return function(lib)
    except NotHereError:
        raise
    except Exception as error:  # noqa: BLE001 the error is what is compared
        return type(error).__name__


def text_of(function: Callable[[], Any]) -> str:
    """Return type and text of the error, class names without their modules."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 the error is what is compared
        return f"{type(error).__name__}: " + re.sub(r"<class '[\w.]*?(\w+)'>", r"<class '\1'>", str(error))
    return "no error"


def kind_of(function: Callable[[], Any]) -> str:
    return text_of(function).partition(":")[0]


def _old(lib: SimpleNamespace) -> bool:
    return lib.generation != "dict"


def _plain_array(lib: SimpleNamespace) -> bool:
    """Tell whether Array is the dataclass without checks that it was until 1.15."""
    return lib.generation == "set"


def _add_value_probes() -> None:
    values: dict[str, Any] = {
        "int": 1,
        "float": 1.5,
        "float64": np.float64(2),
        "nan": float("nan"),
        "bool": True,
        "str": "x",
        "bytes": b"x",
        "no str": "",
        "none": None,
        "float32": np.float32(1),
        "int64": np.int64(1),
        "0-d": np.array(1.0),
        "ndarray": np.array([1.0]),
        "tuple": (1, 2),
        "dict": {},
        "set": {1},
        "complex": 1j,
        "bytearray": bytearray(b"x"),
        "empty list": [],
        "ints": [1, 2],
        "floats": [1.0, 2.0],
        "strs": ["a", ""],
        "bytes list": [b"a"],
        "bools": [True, False],
        "nested": [[1]],
        "int then bool": [1, True],
        "bool then int": [True, 1],
        "int then float": [1, 2.0],
        "float then int": [1.0, 2],
        "float then float64": [1.0, np.float64(2)],
        "float64 then float": [np.float64(1), 2.0],
        "str then bytes": ["a", b"b"],
        "none in list": [None],
        "int then none": [1, None],
        "large int": 2**70,
    }
    for label, value in values.items():
        for kind in ("Metrics", "Configs"):

            def put(lib: SimpleNamespace, kind: str = kind, value: Any = value) -> Any:
                record = getattr(lib, kind)()
                result = kind_of(lambda: record.__setitem__("key", value))
                return result, list(record), repr(record)

            PROBES[f"{kind} takes {label}"] = put


_add_value_probes()


@probe
def key_that_is_no_str(lib: SimpleNamespace) -> Any:
    array = small(lib, 1)
    return [
        text_of(lambda: lib.Arrays().__setitem__(1, array)),
        text_of(lambda: lib.Metrics().__setitem__(1, 1)),
        text_of(lambda: lib.Configs().__setitem__(None, 1)),
        text_of(lambda: lib.Metrics({b"a": 1})),
    ]


@probe
def value_that_is_no_array(lib: SimpleNamespace) -> Any:
    return [text_of(lambda bad=bad: lib.Arrays().__setitem__("k", bad)) for bad in (1, None, np.ones(2))]


@probe
def record_key_that_is_no_str(lib: SimpleNamespace) -> Any:
    space = views(lib, make_records(lib, {}))[1]
    found = [text_of(lambda: space.__setitem__(1, lib.Metrics()))]
    if lib.generation != "set":
        found.append(text_of(lambda: lib.Records().__setitem__(1, lib.Metrics())))
    return found


@probe(differs=_old)
def record_value_that_is_no_record(lib: SimpleNamespace) -> Any:
    """Until 1.16 only class names in the text differ: MetricsRecord is an alias of our MetricRecord."""
    records = make_records(lib, {})
    found = [text_of(lambda space=space: space.__setitem__("k", 1)) for space in views(lib, records)]
    found.append(text_of(lambda: views(lib, records)[0].__setitem__("k", lib.Metrics())))
    if lib.generation != "set":
        found.append(text_of(lambda: records.__setitem__("k", {})))
    return found


@probe
def counted_bytes(lib: SimpleNamespace) -> Any:
    full = {key: value for key, value in CONFIGS.items() if value not in ("", b"", [])}
    return (
        lib.Arrays(flower_arrays(lib)).count_bytes(),
        lib.Arrays(odd_arrays(lib)).count_bytes(),
        lib.Metrics(dict(METRICS)).count_bytes(),
        lib.Configs(full).count_bytes(),
        [getattr(lib, kind)().count_bytes() for kind in ("Arrays", "Metrics", "Configs")],
    )


@probe(differs=True)
def counted_bytes_of_nothing(lib: SimpleNamespace) -> Any:
    return [kind_of(lambda value=value: lib.Configs({"k": value}).count_bytes()) for value in ("", b"", [])]


@probe
def input_kept_or_not(lib: SimpleNamespace) -> Any:
    found = []
    for kind, value in (("Arrays", small(lib, 1)), ("Metrics", 1), ("Configs", "x")):
        for options in ({}, {"keep_input": True}, {"keep_input": False}):
            given = {"a": value, "b": value}
            record = getattr(lib, kind)(given, **options)
            found.append((kind, options, list(record), list(given)))
    return found


@probe(differs=lambda lib: not _old(lib))
def input_of_a_parameters_record(lib: SimpleNamespace) -> Any:
    """ParametersRecord follows flwr until 1.16; later its default is that of ArrayRecord."""
    given = {"a": small(lib, 1)}
    lib.ParametersRecord(given)
    return list(given)


@probe
def arrays_of_a_record_are_new_or_the_same(lib: SimpleNamespace) -> Any:
    array = small(lib, 1)
    return lib.Arrays({"a": array}, keep_input=True)["a"] is array


@probe(differs=_old)
def input_after_an_error(lib: SimpleNamespace) -> Any:
    """Until 1.16 what came before the bad value was gone; ours checks everything first."""
    given = {"a": small(lib, 1), "b": 2}
    return kind_of(lambda: lib.Arrays(given, keep_input=False)), list(given)


@probe(differs=True)
def values_after_an_error(lib: SimpleNamespace) -> Any:
    """flwr deletes key by key until the bad one; ours checks everything first."""
    given = {"a": 1, "b": None}
    return kind_of(lambda: lib.Metrics(given, keep_input=False)), list(given)


@probe
def ndarrays_not_kept(lib: SimpleNamespace) -> Any:
    if not hasattr(lib.Arrays, "from_numpy_ndarrays") or _old(lib):
        return None
    given = [np.ones(2), np.zeros(3)]
    kept = lib.Arrays(given)
    before = len(given)
    record = lib.Arrays(given, keep_input=False)
    arrays = record.to_numpy_ndarrays(keep_input=False)
    return list(kept), before, given, list(record), [array.tolist() for array in arrays]


@probe
def arguments_of_an_array_record(lib: SimpleNamespace) -> Any:
    if _old(lib):
        return None
    array = np.ones(2)
    calls: list[Callable[[], Any]] = [
        lambda: lib.Arrays([array], {"a": small(lib, 1)}),
        lambda: lib.Arrays([array], numpy_ndarrays=[array]),
        lambda: lib.Arrays(numpy_ndarrays=[array], array_dict={}),
        lambda: lib.Arrays((array,)),
        lambda: lib.Arrays(5),
        lambda: lib.Arrays([1]),
        lambda: lib.Arrays({"a": 1}),
        lambda: lib.Arrays({1: small(lib, 1)}),
        lambda: lib.Arrays(array_dict=[array]),
        lambda: lib.Arrays(numpy_ndarrays={"a": small(lib, 1)}),
        lambda: lib.Arrays({}),
        lambda: lib.Arrays([]),
        lambda: lib.Arrays(None),
        lambda: lib.Arrays(numpy_ndarrays=[array]),
        lambda: lib.Arrays([np.array([None])]),
    ]
    return [kind_of(call) for call in calls]


@probe
def arguments_of_an_array(lib: SimpleNamespace) -> Any:
    if _plain_array(lib):
        return None
    shape = lib.shape((1,))
    array = np.ones(1)
    calls: list[Callable[[], Any]] = [
        lib.Array,
        lambda: lib.Array("f4", shape, ""),
        lambda: lib.Array("f4", shape, "", b"", b""),
        lambda: lib.Array("f4", shape, "", b"", dtype="f4"),
        lambda: lib.Array(array, dtype="f4"),
        lambda: lib.Array(array, ndarray=array),
        lambda: lib.Array(array, array),
        lambda: lib.Array(1),
        lambda: lib.Array([1]),
        lambda: lib.Array(ndarray=[1]),
        lambda: lib.Array(1, shape, "", b""),
        lambda: lib.Array("f4", "11", "", b""),
        lambda: lib.Array("f4", lib.shape((1.5,)), "", b""),
        lambda: lib.Array("f4", shape, 1, b""),
        lambda: lib.Array("f4", shape, "", bytearray(b"x")),
        lambda: lib.Array("f4", shape, "", "text"),
        lambda: lib.Array("f4", shape, "", b""),
        lambda: lib.Array("f4", shape, stype="", data=b""),
        lambda: lib.Array(dtype="f4", shape=shape, stype="", data=b""),
        lambda: lib.Array(ndarray=array),
        lambda: lib.Array(np.array([None])),
    ]
    return [kind_of(call) for call in calls]


@probe(differs=lambda lib: not _plain_array(lib))
def shape_of_the_other_type(lib: SimpleNamespace) -> Any:
    """Ours takes tuple and list; flwr since 1.16 one of them."""
    other = {list: (1,), tuple: [1]}[lib.shape]
    return kind_of(lambda: lib.Array("f4", other, "", b""))


@probe
def shape_compares(lib: SimpleNamespace) -> Any:
    return lib.array_from_numpy(np.ones((2, 3))).shape == lib.shape((2, 3))


@probe
def bytes_of_ndarrays(lib: SimpleNamespace) -> Any:
    arrays = flower_arrays(lib).values()
    return [(array.dtype, list(array.shape), array.stype, array.data) for array in arrays]


@probe
def numpy_of_arrays(lib: SimpleNamespace) -> Any:
    arrays = [array.numpy() for array in flower_arrays(lib).values()]
    return [(str(a.dtype), a.shape, a.tobytes(), a.flags.writeable, a.flags.f_contiguous) for a in arrays]


@probe
def numpy_of_another_stype(lib: SimpleNamespace) -> Any:
    text = text_of(lambda: make_array(lib, "float32", (1,), "my.own", b"1234").numpy())
    return text.partition(":")[0], "'my.own'" in text


@probe
def numpy_of_no_npy(lib: SimpleNamespace) -> Any:
    broken = (b"", b"no npy at all", b"\x93NUMPY\1\0\x10\0{'descr': '<f4'", b"\x80\4.")
    return [
        kind_of(lambda data=data: make_array(lib, "f4", (1,), "numpy.ndarray", data).numpy())
        for data in broken
    ]


@probe
def equality(lib: SimpleNamespace) -> Any:
    a, b = small(lib, 1, 2), small(lib, 1, 2)
    one, other = lib.Arrays({"x": a, "y": b}), lib.Arrays({"y": b, "x": a})
    arrays = (a == b, a != small(lib, 1, 3), a == 1, a == make_array(lib, "float64", (2,), "", a.data))
    records = (
        one == other,
        one == dict(other),
        one == lib.Arrays({"x": a}),
        one == 5,
        lib.Metrics({"a": 1}) == {"a": 1.0},
        lib.Metrics({"a": 1}) == lib.Configs({"a": 1}),
        lib.Metrics({"a": 1}) == lib.Metrics({"a": True + 1}),
    )
    sets = [
        make_records(lib, {"a": lib.Metrics({"m": 1}), "b": lib.Configs({"c": 2})}),
        make_records(lib, {"b": lib.Configs({"c": 2}), "a": lib.Metrics({"m": 1})}),
        make_records(lib, {"a": lib.Metrics({"m": 1})}),
    ]
    return arrays, records, sets[0] == sets[1], sets[0] == sets[2]


@probe(differs=lambda lib: lib.generation == "set")
def equality_with_something_else(lib: SimpleNamespace) -> Any:
    """RecordSet until 1.15 raises NotImplementedError; ours is unequal."""
    return kind_of(lambda: make_records(lib, {}) == 5)


@probe
def hashes(lib: SimpleNamespace) -> Any:
    things = [small(lib, 1), lib.Arrays(), lib.Metrics(), lib.Configs(), make_records(lib, {})]
    return [kind_of(lambda thing=thing: hash(thing)) for thing in things]


@probe
def copies(lib: SimpleNamespace) -> Any:
    things = [
        small(lib, 1),
        lib.Arrays({"a": small(lib, 1)}),
        lib.Metrics({"a": [1]}),
        lib.Configs({"a": b"x"}),
    ]
    records = make_records(lib, {"m": things[2], "a": things[1]})
    if lib.generation != "set":  # whose checks are methods: copied with the owner, they still are equal
        things.append(records)
    return [
        (copy.deepcopy(thing) == thing, pickle.loads(pickle.dumps(thing)) == thing, copy.copy(thing) == thing)
        for thing in things
    ]


@probe
def order_and_dict_methods(lib: SimpleNamespace) -> Any:
    record = lib.Configs({"z": 1, "a": 2, "m": 3})
    found: list[Any] = [list(record), list(record.items()), list(record.values()), list(record.keys())]
    record["z"] = 9
    found.append(list(record.items()))
    found.append((record.pop("a"), record.pop("nothing", None), kind_of(lambda: record.pop("nothing"))))
    record.update({"b": 4}, c=5)
    found.append((list(record), record.setdefault("d", "x"), record.get("e"), "b" in record, len(record)))
    found.append((kind_of(lambda: record["e"]), kind_of(lambda: record.__delitem__("e")), bool(record)))
    found.append((record.popitem(), list(reversed(list(record)))))
    record.clear()
    found.append((list(record), bool(record)))
    return found


@probe
def representation_of_values(lib: SimpleNamespace) -> Any:
    return repr(lib.Metrics(dict(METRICS))), repr(lib.Configs(dict(CONFIGS)))


@probe(differs=lambda lib: lib.shape is list)
def representation_of_an_array(lib: SimpleNamespace) -> Any:
    """Short data is spelled alike; where flwr kept a list, shape is not."""
    return repr(make_array(lib, "float32", (1,), "my.own", b"1234"))


@probe(differs=True)
def representation_of_long_data(lib: SimpleNamespace) -> Any:
    return len(repr(lib.array_from_numpy(np.ones(1000)))) > 500


@probe(differs=lambda lib: lib.generation == "single")
def representation_of_records(lib: SimpleNamespace) -> Any:
    """Of 1.16 only the names differ: its RecordSet is our RecordDict."""
    records = {"m": lib.Metrics({"loss": 0.5}), "c": lib.Configs({"lr": [1]}), "n": lib.Metrics()}
    return repr(make_records(lib, records)), repr(make_records(lib, {}))


@probe
def views_write_through(lib: SimpleNamespace) -> Any:
    records = make_records(lib, {"c": lib.Configs({"lr": 1}), "m": lib.Metrics({"loss": 0.5})})
    arrays, metrics, configs = views(lib, records)
    arrays["new"] = lib.Arrays()
    metrics["m"] = lib.Metrics({"loss": 2})
    del configs["c"]
    found: list[Any] = [list(view) for view in views(lib, records)]
    found.append(views(lib, records)[1]["m"]["loss"])
    found.append([kind_of(lambda view=view: view["absent"]) for view in views(lib, records)])
    found.append([kind_of(lambda view=view: view.__delitem__("absent")) for view in views(lib, records)])
    found.append([len(view) for view in views(lib, records)])
    if lib.generation != "set":
        found.append((list(records), kind_of(lambda: views(lib, records)[2]["m"])))
    return found


@probe
def record_of_another_kind_put_over(lib: SimpleNamespace) -> Any:
    if lib.generation == "set":
        return None
    records = make_records(lib, {"a": lib.Metrics({"x": 1}), "b": lib.Metrics()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        records["a"] = lib.Configs({"y": 2})
    return list(records), [list(view) for view in views(lib, records)], records["a"] == {"y": 2}


@probe
def deprecated_keywords(lib: SimpleNamespace) -> Any:
    if _old(lib):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return kind_of(lambda: lib.Records({"m": 1})), kind_of(lambda: lib.Records({1: lib.Metrics()}))


@probe
def context_fields(lib: SimpleNamespace) -> Any:
    state = make_records(lib, {"m": lib.Metrics({"a": 1})})
    one = lib.Context(run_id=1, node_id=2, node_config={"a": 1}, state=state, run_config={"b": "x"})
    other = lib.Context(1, 2, {"a": 1}, state, {"b": "x"})
    one_id = one.run_id
    one.run_id = RUN_ID
    return one_id, one == other, other == lib.Context(1, 2, {"a": 1}, state, {"b": "x"}), one.state is state


@probe
def tensors(lib: SimpleNamespace) -> Any:
    torch = require_torch()
    if _old(lib):
        return None
    state = {
        "w": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,
        "n": torch.tensor(3),
        "b": torch.tensor([True]),
    }
    state["g"] = torch.ones(2, requires_grad=True)
    record = lib.Arrays(dict(state))
    taken = dict(state)
    lib.Arrays(taken, keep_input=False)
    back = record.to_torch_state_dict(keep_input=False)
    return (
        [(key, a.dtype, list(a.shape), a.stype) for key, a in lib.Arrays(dict(state)).items()],
        [a.numpy().tolist() for a in lib.Arrays(dict(state)).values()],
        list(taken),
        list(record),
        type(back).__name__,
        [(key, str(t.dtype), t.tolist()) for key, t in back.items()],
        kind_of(lambda: lib.Arrays({"a": torch.ones(1), "b": 1})),
        kind_of(lambda: lib.Arrays(torch_state_dict={"a": 1})),
        kind_of(lambda: lib.Array(torch_tensor=[1])),
    )


@probe
def bytes_of_tensors(lib: SimpleNamespace) -> Any:
    torch = require_torch()
    if _old(lib):
        return None
    made = [
        torch.ones(2, 3),
        torch.tensor(1),
        torch.arange(6).reshape(2, 3).T,
        torch.zeros(0),
        torch.ones(6)[::2],
    ]
    return [(a.dtype, list(a.shape), a.data) for a in map(lib.Array, made)]


@probe(differs=lambda lib: not _old(lib))
def bfloat16_tensor(lib: SimpleNamespace) -> Any:
    """flwr fails; ours has ml_dtypes."""
    torch = require_torch()
    if _old(lib):
        return None
    return kind_of(lambda: lib.Array(torch.ones(2, dtype=torch.bfloat16)))


# Running


def require_torch() -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        raise NotHereError("no torch beside this flwr")
    return torch


def compare(name: str, flower: SimpleNamespace, ours: SimpleNamespace) -> None:
    theirs, mine = outcome(PROBES[name], flower), outcome(PROBES[name], ours)
    if name in DIFFERENT and DIFFERENT[name](flower):
        assert mine != theirs, f"no difference any more: both {mine!r:.2000}"
    else:
        assert mine == theirs, f"flwr: {theirs!r:.4000}\nours: {mine!r:.4000}"


def names() -> list[str]:
    """Return every check and probe."""
    return [*CHECKS, *PROBES]


def run(name: str, flower: SimpleNamespace, ours: SimpleNamespace, folder: str) -> str:
    try:
        if name in CHECKS:
            place = Path(folder, name)
            place.mkdir()
            CHECKS[name](flower, ours, str(place / "a.h5"))
        else:
            compare(name, flower, ours)
    except NotHereError as reason:
        return f"skip: {reason}"
    except Exception:  # noqa: BLE001 every check is run and told of
        return traceback.format_exc()
    return "ok"


def main() -> None:
    if any(name.partition(".")[0] == "flwr" for name in sys.modules):
        raise SystemExit("importing archive has imported flwr")
    from importlib.metadata import version

    warnings.simplefilter("ignore", DeprecationWarning)  # ParametersRecord of ours says so once
    flower = flower_names()
    torch = ""
    try:
        import torch as imported

        torch = imported.__version__
    except ImportError:
        pass
    ours = our_names(flower)
    with tempfile.TemporaryDirectory() as folder:
        results = {name: run(name, flower, ours, folder) for name in names()}
    versions = {"flwr": version("flwr"), "numpy": np.__version__, "python": platform.python_version()}
    sys.stdout.write(json.dumps({"versions": versions | {"torch": torch}, "results": results}) + "\n")


if __name__ == "__main__":
    main()
