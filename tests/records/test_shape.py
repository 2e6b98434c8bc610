"""Shape: a tuple that also equals the list."""

import copy
import json
import operator
import pickle

import pytest

from archive.records import Shape


def test_equals_list_and_tuple_from_both_sides() -> None:
    shape = Shape([2, 3])
    for other in ([2, 3], (2, 3), Shape((2, 3))):
        assert operator.eq(shape, other)
        assert operator.eq(other, shape)
        assert not operator.ne(shape, other)
        assert not operator.ne(other, shape)
    for another in ([3, 2], (2,), [], 2):
        assert operator.ne(shape, another)
        assert not operator.eq(shape, another)


def test_is_a_tuple() -> None:
    shape = Shape([2, 3])
    assert isinstance(shape, tuple)
    assert hash(shape) == hash((2, 3))
    assert repr(shape) == "(2, 3)"
    assert json.dumps(shape) == "[2, 3]"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol: int) -> None:
    back = pickle.loads(pickle.dumps(Shape([2, 3]), protocol))
    assert type(back) is Shape
    assert back == [2, 3]
    assert type(copy.deepcopy(back)) is Shape
