"""TypedDict: checks, equality, copies."""

import copy
import pickle

import pytest

from archive.records import TypedDict
from archive.records.typeddict import require_str_key


def require_int(value: object) -> None:
    if not isinstance(value, int):
        raise TypeError("no int")


def numbers(**values: int) -> TypedDict[str, int]:
    made: TypedDict[str, int] = TypedDict(require_str_key, require_int)
    made.update(values)
    return made


def test_checks_every_assignment() -> None:
    record = numbers(a=1)
    with pytest.raises(TypeError, match=r"^Key must be of type `str` but `<class 'int'>` was passed\.$"):
        record[1] = 1  # type: ignore[index]
    with pytest.raises(TypeError, match="no int"):
        record["b"] = "x"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="no int"):
        record.update(c="x")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no int"):
        record.setdefault("d", "x")  # type: ignore[arg-type]
    assert record == {"a": 1}


def test_is_a_mapping_in_insertion_order() -> None:
    record = numbers(b=1, a=2)
    assert (list(record), len(record), "a" in record, "x" in record) == (["b", "a"], 2, True, False)
    assert list(record.keys()) == ["b", "a"]
    assert list(record.values()) == [1, 2]
    assert list(record.items()) == [("b", 1), ("a", 2)]
    assert record.pop("b") == 1
    assert record.get("b") is None
    del record["a"]
    with pytest.raises(KeyError):
        record["a"]
    with pytest.raises(KeyError):
        del record["a"]
    record["z"] = 3
    record.clear()
    assert len(record) == 0


def test_equality_by_content_whatever_the_order() -> None:
    assert numbers(a=1, b=2) == numbers(b=2, a=1)
    assert numbers(a=1) == {"a": 1}
    assert numbers(a=1) == {"a": 1}
    assert numbers(a=1) != {"a": 2}
    assert numbers(a=1) != [("a", 1)]
    assert numbers() != 3


def test_unhashable_and_plain_repr() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(numbers())
    assert repr(numbers(a=1)) == "{'a': 1}"


def test_copies_are_shallow_and_checked() -> None:
    for clone in (numbers(a=1).copy(), copy.copy(numbers(a=1)), copy.deepcopy(numbers(a=1))):
        assert type(clone) is TypedDict
        with pytest.raises(TypeError):
            clone["b"] = "x"  # type: ignore[assignment]
    record = numbers(a=1)
    for clone in (record.copy(), copy.copy(record)):
        clone["b"] = 2
    assert record == {"a": 1}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol: int) -> None:
    back = pickle.loads(pickle.dumps(numbers(a=1), protocol))
    assert back == {"a": 1}
    with pytest.raises(TypeError):
        back["b"] = "x"
