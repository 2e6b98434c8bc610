"""What an index takes, against numpy: values, shape, errors, and exactly the segments that hold its bytes."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.selection import Selection, parse_selection

TYPES = ["u1", ">i2", "f4", "V3", "U2", [("a", "u1"), ("b", "<f4", 2)], "c16"]


@st.composite
def indexes(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Draw indexes of every sort, most of them valid."""
    sorts = ("slices", "integers", "mask", "mixed", "mixed", "mixed")
    sort = draw(st.sampled_from(sorts))
    if sort == "slices" or not shape:
        return draw(hnp.basic_indices(shape, allow_newaxis=True))
    if sort == "integers":
        return draw(hnp.integer_array_indices(shape))
    if sort == "mask":
        return draw(hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))]))
    items: list[Any] = []
    for length in shape[: draw(st.integers(1, len(shape)))]:
        # beyond the ends too: numpy's errors are ours
        numbers = st.integers(-length - draw(st.booleans()), length)
        items.append(
            draw(
                st.one_of(
                    numbers,
                    numbers.map(np.array),
                    st.lists(numbers, max_size=4),
                    st.lists(numbers, min_size=2, max_size=2),
                    hnp.arrays(np.int16, (2, 1), elements=numbers),
                    hnp.arrays(bool, length),
                    st.slices(length),
                    st.slices(length),
                )
            )
        )
    for extra in draw(st.lists(st.sampled_from([None, Ellipsis, True, False]), max_size=2)):
        if extra is not Ellipsis or not any(item is Ellipsis for item in items):
            items.insert(draw(st.integers(0, len(items))), extra)
    return tuple(items)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray, Any, int]:
    """Draw an array, an index and the bytes of a segment, which may cut elements."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=6))
    dtype: np.dtype[Any] = np.dtype(draw(st.sampled_from(TYPES)))
    count = math.prod(shape)
    if dtype.kind == "U":
        array: NDArray = np.array([f"{n % 90:02}" for n in range(count)]).reshape(shape)
    else:
        data = (np.arange(count * dtype.itemsize) * 37 % 251 % 120).astype("u1")
        array = data.view(dtype).reshape(shape)
    return array, draw(indexes(shape)), draw(st.sampled_from([1, 7, 16, 50, 1000]))


def touched(found: Selection, size: int) -> NDArray:
    """Return the numbers of the segments that are touched; the stretches do not touch one another."""
    stretches = found.stretches(size)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(stretches))
    return np.concatenate([np.arange(0), *(np.arange(first, end) for first, end in stretches)])


def read(array: NDArray, index: Any, size: int) -> Any:
    """Take ``array[index]`` from the segments that it touches, and no others."""
    whole = array.reshape(-1).view("u1")
    found = parse_selection(index, array.shape, array.dtype, array.itemsize)
    assert found is not None
    numbers = touched(found, size)
    at = np.arange(array.size).reshape(array.shape)[index].reshape(-1) * array.itemsize
    places = np.add.outer(at, np.arange(array.itemsize))
    assert numbers.tolist() == np.unique(places // size).tolist()
    if len(at):
        assert found.bounds == (at.min(), at.max() + array.itemsize)
        together = bool((np.diff(places.reshape(-1)) == 1).all())
        assert found.contiguous == together or (together and found.copies)
    data = b"".join(whole[number * size : (number + 1) * size].tobytes() for number in numbers)
    shift: Any = np.zeros(-(-len(whole) // size), np.int64)
    shift[numbers] = (np.arange(len(numbers)) - numbers) * size
    if len(numbers) and (np.diff(numbers) == 1).all():
        shift = int(shift[numbers[0]])
    gathered = found.gather(np.frombuffer(data, "u1"), shift, size)
    assert gathered.nbytes == found.nbytes
    return found.arrange(gathered.view(array.dtype))


@settings(max_examples=120)
@given(cases())
def test_as_numpy(case: tuple[NDArray, Any, int]) -> None:
    compare(*case)


@pytest.mark.slow
@settings(max_examples=5000)
@given(cases())
def test_as_numpy_many_times(case: tuple[NDArray, Any, int]) -> None:
    compare(*case)


def compare(array: NDArray, index: Any, size: int) -> None:
    try:
        wanted = array[index]
    except (IndexError, DeprecationWarning) as error:  # numpy 1 warns where the result is empty
        refused = str(error)
        with pytest.raises(type(error), match=re.escape(refused)):
            parse_selection(index, array.shape, array.dtype, array.itemsize)
        return
    found = read(array, index, size)
    assert (type(found), found.dtype, found.shape) == (type(wanted), wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


class Index:
    def __index__(self) -> int:
        return 3

    def __repr__(self) -> str:  # workers have to collect the same name
        return "Index()"


@pytest.mark.parametrize(
    "index",
    [
        np.s_[Index()],
        np.s_[np.uint64(3)],
        np.s_[[]],
        np.s_[[[1, 2], [3, 4]], ..., ::-1],
        np.s_[:, range(3)],
        np.s_[np.array(3), 1, [0, 2]],
        np.s_[np.array([True] * 10), 1],
        np.s_[:, [0], ..., [1]],
        np.s_[(), None],
        np.s_[np.ones((10, 5), bool), ::2],
    ],
    ids=repr,
)
def test_other_indexes(index: Any) -> None:
    array = np.arange(10 * 5 * 4, dtype="f4").reshape(10, 5, 4)
    wanted = array[index]
    found = read(array, index, 16)
    assert (type(found), found.shape) == (type(wanted), wanted.shape)
    assert found.tobytes() == wanted.tobytes()
    if wanted.ndim:
        assert found.flags.c_contiguous or not wanted.flags.c_contiguous


@pytest.mark.parametrize(
    "index", [1.5, "name", [1.5], np.array([object()]), (0, 0, 0, 0), slice("a"), np.s_[::0]]
)
def test_what_numpy_refuses(index: Any) -> None:
    array = np.zeros((3, 4, 5))
    with pytest.raises((IndexError, TypeError, ValueError)) as wanted:
        array[index]
    with pytest.raises(type(wanted.value)) as caught:
        parse_selection(index, array.shape, array.dtype, 8)
    assert str(caught.value) == str(wanted.value)


@pytest.mark.parametrize("index", ["a", ["a"], ["a", "b"], ["b", "a"]])
def test_fields_are_left_to_numpy(index: Any) -> None:
    assert parse_selection(index, (4,), np.dtype([("a", "u1"), ("b", "f4")]), 5) is None


def test_many_places_are_gathered_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "GATHER_BYTES", 64)
    array = np.arange(50 * 40, dtype="i8").reshape(50, 40)
    chosen = np.random.default_rng(1).integers(0, 50, 300)
    for index in (np.s_[chosen], np.s_[:, chosen % 40], np.s_[chosen, 5:15], np.s_[::3, chosen % 40]):
        assert read(array, index, 100).tobytes() == array[index].tobytes()


def test_nothing_is_enumerated_of_dense_steps() -> None:
    """10 ** 17 elements: what would list their places would not return."""
    found = parse_selection(np.s_[5::2, ::-1], (10**9, 10**9), np.dtype("u1"), 1)
    assert found is not None
    assert found.stretches(10**15) == [(0, 1000)]
    one = parse_selection(np.s_[:: 5 * 10**8, 3], (10**9, 10**9), np.dtype("u1"), 1)
    assert one is not None
    assert one.stretches(10**15) == [(0, 1), (500, 501)]
