"""ParametersRecord follows Flower up to 1.16."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from archive.records import Array, ArrayRecord, ParametersRecord

pytestmark = pytest.mark.filterwarnings("ignore:ParametersRecord is the old name:DeprecationWarning")


def arrays() -> dict[str, Array]:
    return {"b": Array(np.zeros(2)), "a": Array("f", (1,), "s", b"x")}


def test_drains_its_input_and_keeps_the_same_objects() -> None:
    source = arrays()
    before = dict(source)
    record = ParametersRecord(source)
    assert source == {}
    assert list(record) == ["b", "a"]
    assert all(record[key] is before[key] for key in before)


def test_keeps_its_input_when_asked() -> None:
    source = arrays()
    for record in (ParametersRecord(source, True), ParametersRecord(array_dict=source, keep_input=True)):
        assert len(source) == 2
        assert record["a"] is source["a"]


def test_nothing_given_is_empty() -> None:
    assert ParametersRecord() == ParametersRecord(None) == ParametersRecord(array_dict={}) == {}


def test_takes_another_record() -> None:
    source = ArrayRecord(arrays())
    assert len(ParametersRecord(source)) == 2
    assert len(source) == 0


@pytest.mark.parametrize("wrong", [{"c": 3}, {1: Array(np.zeros(1))}])
def test_a_refused_input_is_not_consumed(wrong: dict[Any, Any]) -> None:
    source = arrays() | wrong
    with pytest.raises(TypeError, match=r"must be of type `.+` but `<class 'int'>` was passed\."):
        ParametersRecord(source)
    assert len(source) == 3
    with pytest.raises(TypeError):
        ParametersRecord([np.zeros(2)])  # type: ignore[arg-type]


def test_is_an_array_record() -> None:
    record = ParametersRecord(arrays())
    assert isinstance(record, ArrayRecord)
    assert record == ArrayRecord(arrays())
    assert record.count_bytes() == len(Array(np.zeros(2)).data) + 1 + 2
    assert type(ParametersRecord.from_numpy_ndarrays([np.zeros(2)])) is ParametersRecord
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert type(pickle.loads(pickle.dumps(record, protocol))) is ParametersRecord
    assert type(copy.deepcopy(record)) is ParametersRecord
    assert [key for key, _ in record.drain()] == ["b", "a"]


def test_warns_once_that_the_name_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParametersRecord, "_warned", False)
    with pytest.warns(DeprecationWarning, match="old name of ArrayRecord") as caught:
        ParametersRecord()
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ParametersRecord()


def test_the_loaders_way_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParametersRecord, "_warned", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(pickle.dumps(ParametersRecord.from_checked(arrays())))
