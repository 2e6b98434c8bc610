"""RecordDict follows the newest Flower."""

import copy
import gc
import pickle
import warnings
import weakref
from typing import Any

import numpy as np
import pytest

from archive.records import Array, ArrayRecord, ConfigRecord, MetricRecord, ParametersRecord, RecordDict


def array_record() -> ArrayRecord:
    return ArrayRecord({"w": Array("f4", (3,), "s", b"x")})


METRIC = MetricRecord({"m": 1})
CONFIG = ConfigRecord({"c": True})


def test_one_name_space_in_insertion_order() -> None:
    records = RecordDict({"c": CONFIG, "a": array_record(), "m": METRIC})
    records["z"] = METRIC
    assert list(records) == ["c", "a", "m", "z"]
    assert records["c"] is CONFIG
    assert RecordDict() == RecordDict(None) == RecordDict({}) == {}
    assert RecordDict(records=records) == records


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (
            {"a": 3},
            "Expected `ArrayRecord`, `MetricRecord`, or `ConfigRecord` but received `int` for the value.",
        ),
        (
            {"a": {}},
            "Expected `ArrayRecord`, `MetricRecord`, or `ConfigRecord` but received `dict` for the value.",
        ),
        ({1: METRIC}, "Expected `str`, but received `int` for the key."),
    ],
)
def test_keys_and_values_are_checked(wrong: Any, expected: str) -> None:
    with pytest.raises(TypeError) as caught:
        RecordDict(wrong)
    assert str(caught.value) == expected
    ((key, value),) = wrong.items()
    with pytest.raises(TypeError):
        RecordDict()[key] = value


@pytest.mark.parametrize("wrong", [3, [("a", METRIC)]])
def test_input_is_a_dict(wrong: Any) -> None:
    with pytest.raises(TypeError):
        RecordDict(wrong)
    with pytest.raises(TypeError):
        RecordDict({}, {})


def test_old_keywords_warn_and_come_after_records() -> None:
    with pytest.warns(DeprecationWarning, match="parameters_records") as caught:
        records = RecordDict(
            {"x": METRIC},
            configs_records={"c": CONFIG},
            metrics_records={"m": METRIC},
            parameters_records={"p": array_record()},
        )
    assert caught[0].filename == __file__
    assert list(records) == ["x", "p", "m", "c"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("parameters_records", "array_records"),
        ("metrics_records", "metric_records"),
        ("configs_records", "config_records"),
    ],
)
def test_old_properties_warn(old: str, new: str) -> None:
    records = RecordDict({"a": array_record(), "m": METRIC, "c": CONFIG})
    with pytest.warns(DeprecationWarning, match=new):
        assert getattr(records, old) == getattr(records, new)


def test_overwriting_with_another_kind_warns() -> None:
    records = RecordDict({"x": METRIC})
    says = "^Key 'x' was overwritten: record of type `MetricRecord` replaced with type `ConfigRecord`$"
    with pytest.warns(UserWarning, match=says):
        records["x"] = CONFIG
    assert records["x"] is CONFIG
    with pytest.warns(UserWarning, match="overwritten"):
        records.metric_records["x"] = METRIC
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        records["x"] = MetricRecord()
        records["a"] = array_record()
        records["a"] = ParametersRecord.from_checked({})


# Views


def test_views_show_one_kind_in_order() -> None:
    records = RecordDict({"n": METRIC, "a": array_record(), "c": CONFIG, "m": METRIC})
    assert list(records.metric_records) == ["n", "m"]
    assert records.array_records == {"a": array_record()}
    assert dict(records.config_records) == {"c": CONFIG}
    assert len(records.metric_records) == 2
    assert "n" in records.metric_records
    assert "a" not in records.metric_records
    assert repr(records.metric_records) == "{'n': {'m': 1}, 'm': {'m': 1}}"
    assert records.metric_records == records.metric_records.copy()
    assert records.metric_records != {}
    assert records.metric_records != 3
    with pytest.raises(TypeError):
        hash(records.metric_records)


def test_views_write_through_and_are_live() -> None:
    records = RecordDict({"a": array_record()})
    view = records.metric_records
    view["m"] = METRIC
    assert records["m"] is METRIC
    records["n"] = METRIC
    assert list(view) == ["m", "n"]
    del view["m"]
    assert "m" not in records
    assert view.pop("n") is METRIC
    view.update(k=METRIC, l=METRIC)
    view.clear()
    assert list(records) == ["a"]


def test_views_know_only_their_kind() -> None:
    records = RecordDict({"c": CONFIG})
    view = records.metric_records
    with pytest.raises(KeyError):
        view["c"]
    with pytest.raises(KeyError):
        del view["c"]
    assert records["c"] is CONFIG
    with pytest.raises(
        TypeError, match=r"^Expected `MetricRecord`, but received `ConfigRecord` for the value\.$"
    ):
        view["x"] = CONFIG  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"^Expected `str`, but received `int` for the key\.$"):
        view[1] = METRIC  # type: ignore[index]
    with pytest.raises(AttributeError):
        records.metric_records = {}  # type: ignore[assignment]


# Manners


def test_repr_one_kind_a_line() -> None:
    records = RecordDict({"m": METRIC, "a": array_record(), "c": CONFIG})
    assert repr(records) == (
        "RecordDict(\n"
        "  array_records={'a': {'w': Array(dtype='f4', shape=(3,), stype='s', data=b'x')}},\n"
        "  metric_records={'m': {'m': 1}},\n"
        "  config_records={'c': {'c': True}}\n"
        ")"
    )


def test_equality_by_content() -> None:
    assert RecordDict({"a": METRIC, "b": CONFIG}) == RecordDict({"b": CONFIG, "a": METRIC})
    assert RecordDict({"a": METRIC}) == {"a": METRIC}
    assert RecordDict({"a": METRIC}) != RecordDict({"a": MetricRecord({"m": 2})})
    assert RecordDict() != 3
    with pytest.raises(TypeError):
        hash(RecordDict())


def test_pickle_and_copies() -> None:
    records = RecordDict({"m": METRIC, "a": array_record(), "c": CONFIG})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(records, protocol))
        assert type(back) is RecordDict
        assert back == records
        assert list(back) == list(records)
        with pytest.raises(TypeError):
            back["x"] = 3  # type: ignore[assignment]
    for shallow in (records.copy(), copy.copy(records)):
        assert type(shallow) is RecordDict
        assert shallow["m"] is METRIC
        shallow["n"] = METRIC
    assert "n" not in records
    assert copy.deepcopy(records)["m"] is not METRIC


def test_drain_yields_arrays_and_lets_go_of_them() -> None:
    records = RecordDict({"m": METRIC, "p": ArrayRecord([np.zeros(1), np.zeros(2)]), "q": array_record()})
    seen = []
    gc.disable()
    try:
        for names, array in records.drain():
            gone = weakref.ref(array)
            seen.append((names, array.shape))
            del array
            assert gone() is None
    finally:
        gc.enable()
    assert seen == [(("p", "0"), (1,)), (("p", "1"), (2,)), (("q", "w"), (3,))]
    assert records == {"m": METRIC, "p": ArrayRecord(), "q": ArrayRecord()}
