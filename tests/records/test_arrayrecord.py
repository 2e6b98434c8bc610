"""ArrayRecord: its three inputs, conversions, memory and draining."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from archive.records import Array, ArrayRecord, RecordDict, arrayrecord

from .conftest import StoredPayload

Stored = Callable[..., tuple[Array, StoredPayload]]


def zeros(count: int = 2) -> list[Any]:
    return [np.zeros(1000, "f4") for _ in range(count)]


def serialised() -> int:
    return len(Array(zeros(1)[0]).data)


# Construction


def test_nothing_given_is_empty() -> None:
    for record in (ArrayRecord(), ArrayRecord(None), ArrayRecord({}), ArrayRecord([])):
        assert len(record) == 0


@pytest.mark.parametrize(
    "give", [ArrayRecord, lambda x: ArrayRecord(array_dict=x), ArrayRecord.from_array_dict]
)
def test_from_dict_makes_new_arrays_over_the_same_data(give: Callable[[Any], ArrayRecord]) -> None:
    source = OrderedDict(b=Array("f", (1,), "s", b"x" * 100), a=Array(np.zeros(2)))
    record = give(source)
    assert list(record) == ["b", "a"]
    assert record == source
    assert record["b"] is not source["b"]
    assert record["b"].data is source["b"].data
    assert record["a"].payload is source["a"].payload
    assert len(source) == 2


@pytest.mark.parametrize(
    "give", [ArrayRecord, lambda x: ArrayRecord(numpy_ndarrays=x), ArrayRecord.from_numpy_ndarrays]
)
def test_from_list_names_by_position(give: Callable[[Any], ArrayRecord]) -> None:
    source = [np.arange(2.0), np.arange(3, dtype="i2")]
    record = give(source)
    assert list(record) == ["0", "1"]
    assert record["1"] == Array(source[1])
    assert len(source) == 2
    assert source[0] is not None


def test_dict_is_drained_by_key_when_asked() -> None:
    source = {"a": Array(np.zeros(2)), "b": Array(np.ones(2))}
    expected = dict(source)
    assert ArrayRecord(source, keep_input=False) == expected
    assert source == {}


@pytest.mark.parametrize(
    ("args", "keywords"),
    [
        ((3,), {}),
        (("text",), {}),
        (((np.zeros(2),),), {}),
        (([np.zeros(2), 3],), {}),
        (([Array(np.zeros(2))],), {}),
        (({1: Array(np.zeros(2))},), {}),
        (({"a": np.zeros(2)},), {}),
        (({"a": Array(np.zeros(2)), "b": 3},), {}),
        (([np.zeros(2)], True), {}),
        (([np.zeros(2)],), {"array_dict": {}}),
        ((), {"numpy_ndarrays": [np.zeros(2)], "array_dict": {}}),
        ((), {"numpy_ndarrays": (np.zeros(2),)}),
        ((), {"array_dict": [np.zeros(2)]}),
        ((), {"unknown": 1}),
        ((ArrayRecord(),), {}),
    ],
)
@pytest.mark.parametrize("keep_input", [True, False])
def test_wrong_construction_is_a_type_error(
    args: tuple[Any, ...], keywords: dict[str, Any], keep_input: bool
) -> None:
    with pytest.raises(TypeError) as caught:
        ArrayRecord(*args, **keywords, keep_input=keep_input)
    text = (
        "Invalid arguments for ArrayRecord. Expected either a list of NumPy ndarrays, a PyTorch state_dict, "
        "or a dictionary of Arrays. The `keep_input` argument is keyword-only."
    )
    assert str(caught.value).startswith(text) or "unexpected keyword argument 'unknown'" in str(caught.value)


def test_texts_of_wrong_keys_and_values() -> None:
    record = ArrayRecord()
    key_text = r"^Key must be of type `str` but `<class 'int'>` was passed\.$"
    value_text = (
        r"^Value must be of type `<class 'archive.records.array.Array'>` but `<class 'int'>` was passed\.$"
    )
    with pytest.raises(TypeError, match=key_text):
        record[1] = Array(np.zeros(2))  # type: ignore[index]
    with pytest.raises(TypeError, match=value_text):
        record["a"] = 1  # type: ignore[assignment]
    with pytest.raises(TypeError, match=key_text):
        ArrayRecord.from_array_dict({1: Array(np.zeros(2))})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=value_text):
        ArrayRecord.from_array_dict({"a": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "source", [{"a": Array(np.zeros(2)), "b": 3}, {"a": Array(np.zeros(2)), 1: Array(np.zeros(2))}]
)
def test_a_refused_dict_is_not_consumed(source: dict[Any, Any]) -> None:
    before = dict(source)
    with pytest.raises(TypeError):
        ArrayRecord(source, keep_input=False)
    assert source == before


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ArrayRecord([np.zeros(2), 3]), "Expected NumPy ndarray, got <class 'int'>"),
        (lambda: ArrayRecord({"a": 1}), "Value must be of type"),
        (lambda: ArrayRecord([], []), "Got 2 inputs"),
        (lambda: ArrayRecord("w"), "Got <class 'str'>"),
    ],
    ids=["list", "dict", "two", "text"],
)
def test_what_is_wrong_stands_after_the_text_of_invalid_arguments(make: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"^Invalid arguments for ArrayRecord.*keyword-only.*{says}"):
        make()


def test_the_classmethods_name_the_type_they_expect() -> None:
    with pytest.raises(TypeError, match=r"^Expected NumPy ndarray, got <class 'int'>"):
        ArrayRecord.from_numpy_ndarrays([3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"^Expected a list of NumPy ndarrays, got <class 'tuple'>"):
        ArrayRecord.from_numpy_ndarrays((np.zeros(2),))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Unsupported serialization type for numpy conversion: 'raw' of"):
        ArrayRecord({"w": Array("f", (1,), "raw", b"x")}).to_numpy_ndarrays()


def test_a_refused_list_is_not_consumed() -> None:
    for last, error in ((3, TypeError), (np.array([None]), ValueError)):
        source = [*zeros(2), last]
        with pytest.raises(error):
            ArrayRecord(source, keep_input=False)
        assert len(source) == 3
        assert source[0] is not None


def test_keep_input_is_keyword_only() -> None:
    for make in (
        ArrayRecord.from_numpy_ndarrays,
        ArrayRecord.from_array_dict,
        ArrayRecord.from_torch_state_dict,
    ):
        with pytest.raises(TypeError, match="positional"):
            make([], True)  # type: ignore[arg-type]


def test_goes_through_the_classmethods_which_may_be_overridden() -> None:
    calls: list[tuple[str, bool]] = []

    class Own(ArrayRecord):
        @classmethod
        def from_array_dict(cls, array_dict: Any, *, keep_input: bool = True) -> Any:
            calls.append(("dict", keep_input))
            return super().from_array_dict(array_dict, keep_input=keep_input)

        @classmethod
        def from_numpy_ndarrays(cls, ndarrays: Any, *, keep_input: bool = True) -> Any:
            calls.append(("list", keep_input))
            return super().from_numpy_ndarrays(ndarrays, keep_input=keep_input)

    assert type(Own([np.zeros(2)])) is Own
    Own({"a": Array(np.zeros(2))}, keep_input=False)
    assert calls == [("list", True), ("dict", False)]


def test_converts_with_array_from_numpy_ndarray(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = Array.from_numpy_ndarray.__func__  # type: ignore[attr-defined]

    def noting(cls: Any, ndarray: Any) -> Any:
        seen.append(ndarray)
        return original(cls, ndarray)

    monkeypatch.setattr(Array, "from_numpy_ndarray", classmethod(noting))
    source = zeros(2)
    ArrayRecord(source)
    assert [x is y for x, y in zip(seen, source, strict=True)] == [True, True]


def test_from_checked_takes_the_dict_itself(stored: Stored) -> None:
    arrays = {str(i): stored(np.zeros(1))[0] for i in range(10)}
    record = ArrayRecord.from_checked(arrays)
    assert record["3"] is arrays["3"]
    with pytest.raises(TypeError):
        record["x"] = 1  # type: ignore[assignment]
    record["x"] = Array(np.zeros(1))
    assert "x" in arrays


# Memory


def test_list_slots_are_emptied_one_by_one_and_the_list_cleared() -> None:
    source = zeros(3)
    gone = [weakref.ref(array) for array in source]
    states: list[list[bool]] = []

    class Noting(list[Any]):
        def __setitem__(self, place: Any, value: Any) -> None:
            super().__setitem__(place, value)
            states.append([item is None for item in self])
            states.append([ref() is None for ref in gone])

    watched = Noting(source)
    del source
    record = ArrayRecord.from_numpy_ndarrays(watched, keep_input=False)
    assert watched == []
    assert len(record) == 3
    assert states == [
        [True, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, False],
        [True, True, True],
        [True, True, True],
    ]


@pytest.mark.parametrize(("count", "expected"), [(3, 2), (0, 1), pytest.param(10, 4, marks=pytest.mark.slow)])
def test_collects_past_the_threshold_and_at_the_end(
    count: int, expected: int, collections: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrayrecord, "GC_THRESHOLD", 10_000)  # more than two arrays, less than three
    source = zeros(count)
    record = ArrayRecord(source, keep_input=False)
    assert len(collections) == expected
    del collections[:]
    record.to_numpy_ndarrays(keep_input=False)
    assert len(collections) == expected
    assert len(record) == 0


def test_the_threshold_itself_is_not_past_it(collections: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrayrecord, "GC_THRESHOLD", serialised())
    ArrayRecord(zeros(1), keep_input=False)
    assert len(collections) == 1
    monkeypatch.setattr(arrayrecord, "GC_THRESHOLD", serialised() - 1)
    ArrayRecord(zeros(1), keep_input=False)
    assert len(collections) == 3


def test_keeping_the_input_collects_nothing(collections: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrayrecord, "GC_THRESHOLD", 1)
    record = ArrayRecord(zeros(5))
    record.to_numpy_ndarrays()
    ArrayRecord(dict(record), keep_input=False)
    assert collections == []


# Conversions


def test_to_numpy() -> None:
    source = [np.arange(2.0), np.arange(3, dtype="i2")]
    record = ArrayRecord(source)
    for back, array in zip(record.to_numpy_ndarrays(), source, strict=True):
        assert np.array_equal(back, array)
        assert back.dtype == array.dtype
    assert len(record) == 2
    with pytest.raises(TypeError):
        record.to_numpy_ndarrays(False)


def test_to_numpy_refuses_another_stype_before_anything_is_removed() -> None:
    record = ArrayRecord({"a": Array(np.zeros(2)), "b": Array("f", (), "raw", b"")})
    for keep_input in (True, False):
        with pytest.raises(TypeError, match="'raw'"):
            record.to_numpy_ndarrays(keep_input=keep_input)
    assert list(record) == ["a", "b"]


def test_count_bytes_reads_nothing(stored: Stored) -> None:
    array, payload = stored(np.zeros(2))
    record = ArrayRecord({"zé": array, "k": Array(np.zeros(2))})
    assert record.count_bytes() == 2 + 1 + 2 * len(Array(np.zeros(2)).data)
    assert payload.reads == []
    assert ArrayRecord().count_bytes() == 0
    assert ArrayRecord({"k": Array("", (), "", b"abc")}).count_bytes() == 4


def test_drain_lets_go_of_each_array_first() -> None:
    record = ArrayRecord(zeros(3))
    gc.disable()
    try:
        seen = []
        for key, array in record.drain():
            assert key not in record
            gone = weakref.ref(array)
            del array
            assert gone() is None
            seen.append(key)
    finally:
        gc.enable()
    assert seen == ["0", "1", "2"]
    assert len(record) == 0


def test_drain_may_be_left_and_taken_up() -> None:
    record = ArrayRecord(zeros(3))
    for _ in record.drain():
        break
    del record["1"]
    record["new"] = Array(np.zeros(1))
    assert [key for key, _ in record.drain()] == ["2", "new"]


def test_drain_skips_what_was_removed_meanwhile() -> None:
    record = ArrayRecord(zeros(3))
    for _ in record.drain():
        record.clear()
    assert len(record) == 0


# Manners


def test_equality_pickle_and_copies(stored: Stored) -> None:
    lazy, payload = stored(np.arange(3.0))
    record = ArrayRecord({"a": lazy, "b": Array(np.ones(2))})
    assert record == ArrayRecord({"b": Array(np.ones(2)), "a": Array(np.arange(3.0))})
    assert record != ArrayRecord({"a": lazy})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(record, protocol))
        assert type(back) is ArrayRecord
        assert back == record
        with pytest.raises(TypeError):
            back["x"] = 1  # type: ignore[assignment]
    payload.reads.clear()
    deep = copy.deepcopy(record)
    assert deep["a"] is not record["a"]
    assert deep["a"].payload is payload
    shallow = copy.copy(record)
    assert shallow["a"] is record["a"]
    del shallow["a"], deep["a"]
    assert "a" in record
    assert payload.reads == []
    with pytest.raises(TypeError):
        hash(record)
    assert repr(ArrayRecord({"a": Array("d", (1,), "s", b"x")})) == (
        "{'a': Array(dtype='d', shape=(1,), stype='s', data=b'x')}"
    )


def test_is_no_state_dict_without_tensors() -> None:
    with pytest.raises(TypeError, match=r"^Invalid arguments for ArrayRecord\. .*RecordDict"):
        ArrayRecord(RecordDict())


# torch


def test_from_state_dict() -> None:
    torch = pytest.importorskip("torch")
    source = OrderedDict(w=torch.ones(2, 2), steps=torch.tensor(3))
    for record in (
        ArrayRecord(source),
        ArrayRecord(torch_state_dict=source),
        ArrayRecord.from_torch_state_dict(source),
    ):
        assert list(record) == ["w", "steps"]
        assert record["steps"].shape == ()
    assert len(source) == 2
    assert len(ArrayRecord(source, keep_input=False)) == 2
    assert len(source) == 0


@pytest.mark.parametrize("keep_input", [True, False])
def test_a_refused_state_dict_is_not_consumed(keep_input: bool) -> None:
    torch = pytest.importorskip("torch")
    for wrong in ({"b": 3}, {1: torch.ones(1)}, {"_extra_state": None}, {"b": Array(np.zeros(1))}):
        source: dict[Any, Any] = {"a": torch.ones(1)} | wrong
        with pytest.raises(TypeError):
            ArrayRecord(source, keep_input=keep_input)
        with pytest.raises(TypeError):
            ArrayRecord(torch_state_dict=source, keep_input=keep_input)
        assert len(source) == 2


def test_state_dict_with_keep_input_false_pops_by_key() -> None:
    torch = pytest.importorskip("torch")
    source = {"a": torch.ones(2), "b": torch.eye(2).to_sparse()}
    with pytest.raises(TypeError):
        ArrayRecord(source, keep_input=False)
    assert list(source) == ["b"]


def test_to_state_dict(collections: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.BatchNorm1d(3)
    record = ArrayRecord(module.state_dict())
    back = record.to_torch_state_dict()
    assert type(back) is OrderedDict
    assert list(back) == list(module.state_dict())
    module.load_state_dict(back)
    back["weight"][0] = 9
    assert record["weight"].numpy()[0] == 1
    assert len(record) == len(back)
    assert collections == []
    monkeypatch.setattr(arrayrecord, "GC_THRESHOLD", 10_000)
    record = ArrayRecord(zeros(10))
    assert len(record.to_torch_state_dict(keep_input=False)) == 10
    assert len(record) == 0
    assert len(collections) == 4


@pytest.mark.parametrize("wrong", [Array("f", (), "raw", b""), Array(np.array(["text"]))])
@pytest.mark.parametrize("keep_input", [True, False])
def test_to_state_dict_refuses_before_anything_is_removed(wrong: Array, keep_input: bool) -> None:
    pytest.importorskip("torch")
    record = ArrayRecord({"a": Array(np.zeros(2)), "b": wrong})
    with pytest.raises(TypeError):
        record.to_torch_state_dict(keep_input=keep_input)
    assert list(record) == ["a", "b"]


def test_to_state_dict_believes_the_npy_where_dtype_is_free_text() -> None:
    pytest.importorskip("torch")
    record = ArrayRecord({"a": Array("?!", (2,), "numpy.ndarray", Array(np.ones(2)).data)})
    assert record.to_torch_state_dict(keep_input=False)["a"].tolist() == [1, 1]
