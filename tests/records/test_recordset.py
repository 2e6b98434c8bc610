"""RecordSet follows Flower up to 1.15, plus item access."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from archive.records import (
    Array,
    ArrayRecord,
    ConfigRecord,
    MetricRecord,
    ParametersRecord,
    RecordDict,
    RecordSet,
)


def array_record() -> ArrayRecord:
    return ArrayRecord({"w": Array("f4", (3,), "s", b"x")})


METRIC = MetricRecord({"m": 1})
CONFIG = ConfigRecord({"c": True})


def test_positional_and_keyword_per_kind() -> None:
    arrays = array_record()
    by_position = RecordSet({"p": arrays}, {"m": METRIC}, {"c": CONFIG})
    by_name = RecordSet(
        parameters_records={"p": arrays}, metrics_records={"m": METRIC}, configs_records={"c": CONFIG}
    )
    assert by_position == by_name
    assert by_position.parameters_records["p"] is arrays
    assert by_position.metrics_records["m"] is METRIC
    assert by_position.configs_records["c"] is CONFIG
    assert RecordSet() == RecordSet(None, None, None) == RecordSet({}, {}, {})


def test_one_name_in_three_kinds() -> None:
    records = RecordSet({"x": array_record()}, {"x": METRIC}, {"x": CONFIG})
    assert records.parameters_records["x"] == array_record()
    assert records.metrics_records["x"] is METRIC
    assert records.configs_records["x"] is CONFIG


def test_inputs_are_neither_shared_nor_consumed() -> None:
    given = {"m": METRIC}
    records = RecordSet(metrics_records=given)
    records.metrics_records["n"] = METRIC
    assert given == {"m": METRIC}


def test_name_spaces_are_the_same_object_each_time_and_not_assignable() -> None:
    records = RecordSet()
    for name in ("parameters_records", "metrics_records", "configs_records"):
        assert getattr(records, name) is getattr(records, name)
        with pytest.raises(AttributeError):
            setattr(records, name, {})


@pytest.mark.parametrize(
    ("space", "wrong", "expected"),
    [
        (
            "parameters_records",
            METRIC,
            "Expected `ParametersRecord`, but received `MetricRecord` for the value.",
        ),
        ("metrics_records", CONFIG, "Expected `MetricsRecord`, but received `ConfigRecord` for the value."),
        ("configs_records", METRIC, "Expected `ConfigsRecord`, but received `MetricRecord` for the value."),
        ("configs_records", 3, "Expected `ConfigsRecord`, but received `int` for the value."),
    ],
)
def test_kinds_and_keys_are_checked(space: str, wrong: Any, expected: str) -> None:
    with pytest.raises(TypeError) as caught:
        RecordSet(**{space: {"x": wrong}})
    assert str(caught.value) == expected
    records = RecordSet()
    with pytest.raises(TypeError):
        getattr(records, space)["x"] = wrong
    with pytest.raises(TypeError, match=r"^Expected `str`, but received `int` for the key\.$"):
        getattr(records, space)[1] = wrong


def test_both_names_of_array_records_are_parameters() -> None:
    old = ParametersRecord.from_checked({})
    assert RecordSet({"a": old, "b": array_record()}).parameters_records["a"] is old


def test_one_line_repr() -> None:
    records = RecordSet({"p": array_record()}, {"m": METRIC}, {"c": CONFIG})
    assert repr(records) == (
        "RecordSet(parameters_records={'p': {'w': Array(dtype='f4', shape=(3,), stype='s', data=b'x')}}, "
        "metrics_records={'m': {'m': 1}}, configs_records={'c': {'c': True}})"
    )


def test_item_access_finds_any_kind() -> None:
    arrays = array_record()
    records = RecordSet({"p": arrays}, {"m": METRIC}, {"c": CONFIG})
    assert records["p"] is arrays
    assert records["m"] is METRIC
    assert records["c"] is CONFIG
    assert "m" in records
    assert "x" not in records
    assert list(records) == ["p", "m", "c"]
    with pytest.raises(KeyError, match="x"):
        records["x"]


def test_an_ambiguous_name_names_its_kinds() -> None:
    records = RecordSet({"x": array_record()}, {}, {"x": CONFIG})
    for access in (records.__getitem__, records.__delitem__):
        with pytest.raises(KeyError, match="parameters_records and configs_records"):
            access("x")
    assert list(records) == ["x"]


def test_item_assignment_goes_by_kind() -> None:
    records = RecordSet()
    for record in (array_record(), METRIC, CONFIG):
        records["x"] = record
    assert records == RecordSet({"x": array_record()}, {"x": METRIC}, {"x": CONFIG})
    del records.metrics_records["x"], records.configs_records["x"], records["x"]
    assert records == RecordSet()
    with pytest.raises(
        TypeError, match=r"^Expected `ArrayRecord`, `MetricRecord`, or `ConfigRecord` but received"
    ):
        records["x"] = 3
    for wrong in (METRIC, 3):
        with pytest.raises(TypeError, match="Expected `str`"):
            records[1] = wrong  # type: ignore[index]


def test_an_empty_one_is_true_as_upstream() -> None:
    assert bool(RecordSet())


def test_equality() -> None:
    assert RecordSet({"a": array_record(), "b": ArrayRecord()}) == RecordSet(
        {"b": ArrayRecord(), "a": array_record()}
    )
    assert RecordSet({}, {"m": METRIC}) != RecordSet()
    assert RecordSet() != 3
    assert RecordSet() != RecordDict()
    with pytest.raises(TypeError):
        hash(RecordSet())


def test_pickle_and_copies() -> None:
    records = RecordSet({"p": array_record()}, {"m": METRIC}, {"c": CONFIG})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(records, protocol))
        assert back == records
        with pytest.raises(TypeError):
            back.metrics_records["x"] = CONFIG
    for shallow in (records.copy(), copy.copy(records)):
        assert shallow == records
        assert shallow["m"] is METRIC
        shallow["n"] = METRIC
    assert "n" not in records
    deep = copy.deepcopy(records)
    assert deep == records
    assert deep["m"] is not METRIC


def test_drain_yields_arrays_of_every_record() -> None:
    records = RecordSet({"p": ArrayRecord([np.zeros(1), np.zeros(2)]), "q": array_record()}, {"p": METRIC})
    assert [(names, array.shape) for names, array in records.drain()] == [
        (("p", "0"), (1,)),
        (("p", "1"), (2,)),
        (("q", "w"), (3,)),
    ]
    assert records == RecordSet({"p": ArrayRecord(), "q": ArrayRecord()}, {"p": METRIC})
