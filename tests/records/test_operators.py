"""Operators on an Array: numpy's on the elements, whatever holds them; equality stays that of Flower."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.records import Array
from archive.records.operators import ArrayOperators
from archive.tools import edit

LEFT, RIGHT = np.arange(1, 5).reshape(2, 2), np.array([[2, 1], [3, 2]])
ARITHMETIC: list[Callable[[Any, Any], Any]] = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.matmul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    divmod,
    operator.pow,
    operator.lshift,
    operator.rshift,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]
UNARY: list[Callable[[Any], Any]] = [operator.neg, operator.pos, operator.inv, abs]


@pytest.fixture(params=["memory", "mmap", "pread", "c"])
def lazy(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return an Array over LEFT, in memory or in an archive."""
    if request.param == "memory":
        yield Array(LEFT)
        return
    archive.save({"w": LEFT}, tmp_path / "a.h5")
    options: Any = {"mode": "c"} if request.param == "c" else {"access": request.param}
    with archive.open(tmp_path / "a.h5", **options) as handle:
        yield handle["w"]
        assert handle["w"].numpy().tolist() == LEFT.tolist()
    assert archive.verify(tmp_path / "a.h5")


def same(found: Any, expected: Any) -> None:
    for one, other in (
        zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    ):
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
        assert not isinstance(one, np.ndarray) or one.flags.writeable


@pytest.mark.parametrize("operate", ARITHMETIC, ids=lambda function: function.__name__)
def test_operators_are_those_of_numpy(operate: Callable[[Any, Any], Any], lazy: Array) -> None:
    other = Array(RIGHT)
    same(operate(lazy, RIGHT), operate(LEFT, RIGHT))
    same(operate(RIGHT, lazy), operate(RIGHT, LEFT))
    same(operate(lazy, other), operate(LEFT, RIGHT))
    same(operate(lazy, RIGHT.tolist()), operate(LEFT, RIGHT))
    same(operate(RIGHT.tolist(), lazy), operate(RIGHT, LEFT))
    if operate is not operator.matmul:
        same(operate(lazy, 2), operate(LEFT, 2))
        same(operate(2, lazy), operate(2, LEFT))
        same(operate(np.int32(2), lazy), operate(np.int32(2), LEFT))


@pytest.mark.parametrize("operate", UNARY, ids=lambda function: function.__name__)
def test_operators_of_one_side(operate: Callable[[Any], Any], lazy: Array) -> None:
    same(operate(lazy), operate(LEFT))


def test_functions_of_numpy_take_the_elements(lazy: Array) -> None:
    assert np.mean(lazy) == 2.5
    assert np.add.reduce(lazy).tolist() == [4, 6]
    assert np.where(lazy > 2, lazy, 0).tolist() == [[0, 0], [3, 4]]
    assert np.concatenate([lazy, LEFT]).shape == (4, 2)
    assert np.equal(lazy, LEFT).all()
    assert np.add.outer(lazy, lazy).shape == (2, 2, 2, 2)
    assert bool((lazy > 0).all())
    with pytest.raises(ValueError, match="ambiguous"):
        bool(lazy > 0)


def test_sequences(lazy: Array) -> None:
    assert len(lazy) == 2
    assert [row.tolist() for row in lazy] == [[1, 2], [3, 4]]
    assert 3 in lazy
    assert dict(zip("ab", lazy, strict=True))["b"].tolist() == [3, 4]
    empty, scalar = Array(np.zeros((0, 2))), Array(np.array(2.5))
    assert (len(empty), list(empty)) == (0, [])
    for function in (len, iter):
        with pytest.raises(TypeError, match="without axes"):
            function(scalar)


def test_numbers() -> None:
    scalar = Array(np.array(2.5))
    assert (float(scalar), int(scalar), complex(scalar)) == (2.5, 2, 2.5)
    assert scalar + 1 == 3.5
    with pytest.raises(TypeError):
        float(Array(LEFT))


def test_equality_hash_and_truth_stay_those_of_flower(lazy: Array) -> None:
    assert (lazy == Array(LEFT)) is True
    assert (lazy == Array(LEFT.astype("i4"))) is False
    assert (lazy != Array(LEFT)) is False
    assert (lazy == 1) is False
    assert all((lazy, Array(np.array(0)), Array(np.zeros(0))))
    with pytest.raises(TypeError, match="unhashable"):
        hash(lazy)


def test_nothing_is_written_to_an_array(lazy: Array) -> None:
    kept = grown = lazy
    grown += 1
    assert type(grown) is np.ndarray
    assert kept is not grown
    elements = LEFT.copy()
    elements += kept
    assert elements.tolist() == (2 * LEFT).tolist()
    with pytest.raises(TypeError, match="cannot be written to"):
        np.add(LEFT, 1, out=kept)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="cannot be written to"):
        np.add.at(kept, 0, 1)
    with pytest.raises(TypeError):
        kept[0] = 1  # type: ignore[index]
    assert kept.numpy().tolist() == LEFT.tolist()


def test_items_of_archives_records_and_editors(tmp_path: Path) -> None:
    """Of ``e["w"] += 1`` only an editor can make something."""
    path = tmp_path / "a.h5"
    archive.save({"w": LEFT}, path)
    with archive.open(path) as handle:
        record: Any = handle.records["model"]
        with pytest.raises(TypeError, match="item assignment"):
            handle["w"] += 1  # type: ignore[index]
        with pytest.raises(TypeError, match="Array"):
            record["w"] += 1
    with edit(path) as editor:
        editor["w"] += 1
    loaded: Any = archive.load(path)["model"]
    assert loaded["w"].numpy().tolist() == (LEFT + 1).tolist()


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn"])
def test_types_of_ml_dtypes(name: str, tmp_path: Path) -> None:
    elements = np.array([1, 2, 4], getattr(ml_dtypes, name))
    archive.save({"w": elements}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        same(handle["w"] + elements, elements + elements)
        same(handle["w"] * 2, elements * 2)
        same(handle["w"] < 3, elements < 3)


@pytest.mark.parametrize("operate", ARITHMETIC, ids=lambda function: function.__name__)
def test_tensors_are_refused(operate: Callable[[Any, Any], Any]) -> None:
    torch = pytest.importorskip("torch")
    tensor, array = torch.tensor(RIGHT), Array(LEFT)
    for left, right in ((array, tensor), (tensor, array)):
        with pytest.raises(TypeError, match=r"of an Array and a tensor: take torch\(\)"):
            operate(left, right)
    with pytest.raises(TypeError, match="tensor"):
        np.add(array, 1, out=tensor)
    same(array.torch().numpy() + RIGHT, LEFT + RIGHT)


def test_an_array_says_where(tmp_path: Path) -> None:
    mask = np.array([[True, False], [False, True]])
    archive.save({"mask": mask}, tmp_path / "a.h5")
    elements = np.array([[1.0, 2.0], [3.0, 4.0]])
    with archive.open(tmp_path / "a.h5") as handle:
        same(np.sum(Array(elements), where=handle["mask"]), np.sum(elements, where=mask))
        same(np.add(elements, 1, out=np.zeros((2, 2)), where=handle["mask"]), np.where(mask, elements + 1, 0))


def test_other_libraries_have_their_turn() -> None:
    class Declines:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "mine"

        def __add__(self, other: Any) -> str:
            return "mine"

    class Takes:
        def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> list[type]:
            return [type(value) for value in inputs]

    array = Array(LEFT)
    assert array + Declines() == Declines() + array == "mine"
    assert array + Takes() == [np.ndarray, Takes]
    pandas = pytest.importorskip("pandas")
    column = Array(np.arange(2)) + pandas.Series([1, 2])
    assert type(column) is pandas.Series
    assert column.tolist() == [1, 3]


def test_foreign_serialisations_have_no_elements() -> None:
    array = Array("float32", (1,), "my.own", b"1234")
    for function in (lambda: array + 1, lambda: list(array), lambda: float(array)):
        with pytest.raises(TypeError, match="Unsupported serialization type"):
            function()
    assert len(array) == 1


def test_every_operator_of_numpys_own_mixin_is_there_but_those_that_assign() -> None:
    from numpy.lib.mixins import NDArrayOperatorsMixin

    theirs = {name for name in vars(NDArrayOperatorsMixin) if callable(getattr(NDArrayOperatorsMixin, name))}
    assigning = {name for name in theirs if name.startswith("__i") and name not in ("__invert__", "__init__")}
    assert theirs - assigning <= set(dir(ArrayOperators))
    assert not assigning & set(vars(ArrayOperators))
