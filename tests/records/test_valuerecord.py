"""MetricRecord and ConfigRecord, value by value as both generations of Flower decide."""

import copy
import enum
import math
import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from archive.records import ConfigRecord, ConfigsRecord, MetricRecord, MetricsRecord


class Level(enum.IntEnum):
    LOW = 1


NUMBERS: list[Any] = [
    1,
    1.0,
    np.float64(1),
    float("nan"),
    float("inf"),
    2**70,
    -1,
    Level.LOW,
    [],
    [1, 2],
    [1.0, 2.0],
    [1, True],
    [1.0, np.float64(2)],
    [np.float64(1), np.float64(2)],
]
SETTINGS: list[Any] = [True, "text", "", b"bytes", b"", ["a", "b"], [b"a"], [True, False]]
NEITHER: list[Any] = [
    None,
    np.float32(1),
    np.int64(1),
    np.bool_(True),
    np.array(1),
    (1,),
    [[1]],
    {},
    [None],
    [np.int64(1)],
    [()],
    [1, 2.0],
    ["a", 1],
    [True, 1],
    [np.float64(1), 1.0],
    bytearray(b"x"),
    memoryview(b"x"),
    1j,
    {1},
]


def numbered(values: list[Any]) -> list[str]:
    return [f"{place}-{type(value).__name__}" for place, value in enumerate(values)]


def test_old_names_are_the_same_classes() -> None:
    assert MetricsRecord is MetricRecord
    assert ConfigsRecord is ConfigRecord


@pytest.mark.parametrize("value", NUMBERS, ids=numbered(NUMBERS))
def test_numbers_are_metrics_and_configs(value: Any) -> None:
    assert MetricRecord({"k": value})["k"] is value
    assert ConfigRecord({"k": value})["k"] is value


@pytest.mark.parametrize("value", SETTINGS, ids=numbered(SETTINGS))
def test_settings_are_configs_only(value: Any) -> None:
    assert ConfigRecord({"k": value})["k"] is value
    with pytest.raises(TypeError):
        MetricRecord({"k": value})  # type: ignore[dict-item]


@pytest.mark.parametrize("value", NEITHER, ids=numbered(NEITHER))
@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_other_values_are_neither(kind: Any, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^(Not all values are of valid type|All values in a list must be)"):
        kind({"k": value})
    record = kind()
    with pytest.raises(TypeError):
        record["k"] = value
    assert len(record) == 0


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (
            MetricRecord,
            True,
            "Not all values are of valid type. Expected `int | float | list[int] | list[float]` but `<class",
        ),
        (
            ConfigRecord,
            None,
            "Not all values are of valid type. Expected `int | float | str | bytes | bool | list[int]",
        ),
        (MetricRecord, [1, 2.0], "All values in a list must be of the same valid type. One of int | float."),
        (
            ConfigRecord,
            ["a", 1],
            "All values in a list must be of the same valid type. One of int | float | str | bytes | bool.",
        ),
    ],
    ids=["metric", "config", "metrics", "configs"],
)
def test_texts_begin_as_flowers(kind: Any, value: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        kind({"k": value})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_keys_are_str(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"^Key must be of type `str` but `<class 'int'>` was passed\.$"):
        kind({1: 1})


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_input_is_kept_unless_asked(kind: Any) -> None:
    assert kind() == kind(None) == {}
    given = {"a": 1, "b": 2}
    assert kind(given) == given == {"a": 1, "b": 2}
    for drained in (dict(given), kind(given)):
        assert kind(drained, False) == given
        assert len(drained) == 0
    drained = dict(given)
    assert kind(drained, keep_input=False) == given
    assert drained == {}


def test_input_may_be_named_as_in_the_newest() -> None:
    assert MetricRecord(metric_dict={"a": 1}, keep_input=True) == {"a": 1}
    assert ConfigRecord(config_dict={"a": 1}, keep_input=True) == {"a": 1}


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_a_refused_input_is_not_consumed(kind: Any) -> None:
    given = {"a": 1, "b": None}
    with pytest.raises(TypeError):
        kind(given, keep_input=False)
    assert given == {"a": 1, "b": None}


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_lists_are_the_callers_and_grow_in_place(kind: Any) -> None:
    history = [1]
    record = kind({"k": history})
    record["k"].append("anything")
    assert record["k"] is history
    assert record["k"] == [1, "anything"]


def test_nan_is_a_value() -> None:
    assert math.isnan(MetricRecord({"k": float("nan")})["k"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "nbytes"),
    [(1, 8), (1.5, 8), (np.float64(2), 8), ([], 0), ([1, 2], 16), ([1, True], 16), ([0.5], 8), (2**70, 8)],
    ids=repr,
)
def test_count_bytes_of_numbers(value: Any, nbytes: int) -> None:
    assert MetricRecord({"ké": value}).count_bytes() == 2 + nbytes
    assert ConfigRecord({"ké": value}).count_bytes() == 2 + nbytes


@pytest.mark.parametrize(
    ("value", "nbytes"),
    [
        (True, 1),
        ([True, False], 2),
        ("sé", 2),
        (b"abc", 3),
        (["a", "bc"], 3),
        ([b"a", b"bcd"], 4),
        ("", 0),
        (b"", 0),
        ([""], 0),
        ([], 0),
    ],
    ids=repr,
)
def test_count_bytes_of_settings(value: Any, nbytes: int) -> None:
    assert ConfigRecord({"ké": value}).count_bytes() == 2 + nbytes


def test_count_bytes_adds_up() -> None:
    assert MetricRecord().count_bytes() == 0
    assert ConfigRecord({"a": 1, "bc": "xyz"}).count_bytes() == 9 + 5


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_dataclass_manners(kind: Any) -> None:
    record = kind({"a": 1, "b": [2]})
    assert record == kind({"b": [2], "a": 1}) == {"a": 1, "b": [2]}
    assert record != kind({"a": 1})
    assert repr(record) == "{'a': 1, 'b': [2]}"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(record, protocol))
        assert type(back) is kind
        assert back == record
    shallow, deep = copy.copy(record), copy.deepcopy(record)
    assert shallow["b"] is record["b"]
    assert deep["b"] is not record["b"]
    shallow["c"] = 3
    assert "c" not in record
    with pytest.raises(TypeError):
        hash(record)


@pytest.mark.parametrize("kind", [MetricRecord, ConfigRecord])
def test_what_cannot_be_drained_is_refused_before_anything_is_taken(kind: Any) -> None:
    given = MappingProxyType({"a": 1})
    assert kind(given) == {"a": 1}
    with pytest.raises(TypeError, match="keep_input=False removes keys, which a mappingproxy does not allow"):
        kind(given, keep_input=False)
