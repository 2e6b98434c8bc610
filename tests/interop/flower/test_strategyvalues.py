"""Values and objects as JSON and arrays, without flwr."""

import json
import random
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import numpy as np
import pytest

from archive.errors import HostileFileError
from archive.interop.flower.strategystate import SchemaError, capture, restore
from archive.interop.flower.strategyvalues import NotStateError, decode, encode, parameter_array
from archive.records import Array
from tests.optional import torch


def through(value: Any) -> Any:
    arrays: dict[str, Array] = {}
    tree = json.loads(json.dumps(encode(value, "x", arrays), allow_nan=False))
    assert all(name.startswith("x") for name in arrays)
    return decode(tree, arrays)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**80,
        0.1 + 0.2,
        float("inf"),
        "ünï\0",
        b"",
        b"\xff" * 10,
        b"\xff" * 10_000,
        [],
        [1, [2.5, None]],
        (1, ("a", b"b")),
        {1, 2},
        {"a": 1, 2: "b", (3, 4): [5]},
        {},
        deque([1, 2], maxlen=3),
        frozenset({1, 2}),
        {frozenset({1}): 0.5},
        bytearray(b"ab"),
        OrderedDict(b=1, a=2),
        Counter("aab"),
        {"x": defaultdict(list, {"a": [1]})},
        defaultdict(None, {"a": 1}),
    ],
    ids=repr,
)
def test_values(value: Any) -> None:
    found = through(value)
    assert type(found) is type(value)
    assert found == value
    assert repr(found) == repr(value)  # what they contain is of the same classes too


def test_not_a_number() -> None:
    assert repr(through([float("nan"), -0.0])) == "[nan, -0.0]"


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", ">f8", "c16", "U5", "S3", "M8[s]"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    found = through({"a": array, "b": array})["b"]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, shape, array.tobytes())
    assert found.flags.writeable


def test_what_contains_itself_is_not_saved() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotStateError, match="nested too deep"):
        through(value)


def test_order_of_memory_and_scalars() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    for given in (array.transpose(1, 2, 0), array.transpose(0, 2, 1), array[:, ::2]):
        found = through(given)
        assert np.array_equal(found, given)
        assert found.strides == given.copy(order="K").strides
    assert through(np.asfortranarray(np.ones((2, 3)))).flags.f_contiguous
    for scalar in (np.float32(0.1), np.float64("nan"), np.int8(-3), np.bool_(True), np.str_("ü")):
        found = through(scalar)
        assert type(found) is type(scalar)
        assert found.tobytes() == scalar.tobytes()


def test_paths_that_meet() -> None:
    value = {"a": {"b": np.zeros(1)}, "a/b": np.ones(1)}
    found = through(value)
    assert (found["a"]["b"][0], found["a/b"][0]) == (0, 1)


def test_generators_go_on() -> None:
    makers = [
        lambda: np.random.default_rng(1),
        lambda: np.random.Generator(np.random.MT19937(1)),
        lambda: np.random.Generator(np.random.Philox(1)),
        lambda: np.random.Generator(np.random.SFC64(1)),
        lambda: np.random.RandomState(1),
    ]
    for make in makers:
        generator = make()
        generator.normal(size=3)
        clone = through(generator)
        assert clone.normal(size=5).tolist() == generator.normal(size=5).tolist()
    python = random.Random(1)
    python.gauss(0, 1)
    clone = through(python)
    assert [clone.gauss(0, 1) for _ in range(3)] == [python.gauss(0, 1) for _ in range(3)]


def test_generators_of_torch_go_on() -> None:
    ours = torch().Generator().manual_seed(3)
    again = through(ours)
    assert torch().equal(torch().rand(3, generator=again), torch().rand(3, generator=ours))


def test_tensors() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    for given in (array.transpose(1, 2, 0), array.transpose(0, 2, 1), array[:, ::2]):
        found = through(torch().from_numpy(given))
        assert torch().equal(found, torch().from_numpy(given))
        assert found.stride() == tuple(stride // 8 for stride in given.copy(order="K").strides)
    tensor = torch().arange(4, dtype=torch().bfloat16)
    found = through({"w": tensor, "b": torch().ones(2, requires_grad=True)})
    assert torch().equal(found["w"], tensor)
    assert found["b"].requires_grad


@pytest.mark.parametrize(
    "value",
    [
        *(object(), print, iter([]), np.array([object()]), 1j, type, defaultdict(lambda: 0)),
    ],
    ids=["object", "function", "iterator", "objects", "complex", "class", "factory"],
)
def test_what_no_file_holds(value: Any) -> None:
    with pytest.raises(NotStateError, match="x/a"):
        through({"a": value})


def test_no_file_holds_a_sparse_tensor() -> None:
    sparse = torch().eye(2).to_sparse()
    with pytest.raises(NotStateError, match="x/a"):
        through({"a": sparse})


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "no such"},
        {"a": 1},
        {"$": "ndarray", "at": "gone"},
        {"$": "tuple"},
        {"$": "tensor", "at": "w", "axes": [0, 7], "requires_grad": False},
        {"$": "ndarray", "at": "w", "axes": [0, 0]},
        {"$": "dtype", "name": "nn"},
        {"$": "defaultdict", "factory": "eval", "items": []},
    ],
    ids=str,
)
def test_trees_of_something_else(tree: Any) -> None:
    if tree.get("$") in ("tensor", "dtype"):
        torch()
    with pytest.raises(HostileFileError):
        decode(tree, {"w": Array(np.zeros((2, 3)))})


class Inner:
    def __init__(self) -> None:
        self.norm = 1.0


class Outer:
    def __init__(self, eta: float = 0.1) -> None:
        self.eta = eta
        self.strategy = Inner()
        self.counts: Counter[str] = Counter()
        self.named = OrderedDict()  # type: ignore[var-annotated]
        self.momentum = None
        self.fit, self.kind, self.me = (lambda: 1), Inner, self

    def train(self) -> None:
        self.momentum = {"w": np.ones(2)}  # type: ignore[assignment]
        self.strategy.norm *= 2
        self.counts["rounds"] += 1
        self.named["x"] = 1


def test_objects_are_restored_in_place() -> None:
    first = Outer()
    started = capture(first).tree
    first.train()
    saved = capture(first)
    assert not saved.left_out
    assert list(saved.arrays) == ["momentum/w"]
    second = Outer(eta=0.5)
    inner = second.strategy
    notes = restore(second, json.loads(json.dumps(saved.tree)), started, saved.arrays)
    assert notes == ["eta was 0.1 and is 0.5 from here on"]
    assert second.strategy is inner
    assert inner.norm == 2.0
    assert (type(second.counts), second.counts["rounds"]) == (Counter, 1)
    assert type(second.named) is OrderedDict
    assert second.momentum["w"].tolist() == [1, 1]


def test_another_class_inside_is_an_error() -> None:
    saved = capture(Outer())
    other = Outer()
    other.strategy = object.__new__(Outer)  # type: ignore[assignment]
    with pytest.raises(SchemaError, match=r"strategy was of class .*Inner, now .*Outer"):
        restore(other, saved.tree, saved.tree, saved.arrays)


def test_a_setting_may_be_changed_at_every_start() -> None:
    started = saved = capture(Outer(eta=0.1)).tree
    for eta in (0.1, 0.2, 0.2, 0.3, 0.1):
        outer = Outer(eta=eta)
        restore(outer, saved, started, {})
        assert outer.eta == eta
        saved = capture(outer).tree


def test_a_generator_that_two_share_stays_one() -> None:
    for make in (
        lambda: np.random.default_rng(1),
        lambda: random.Random(1),
        lambda: np.random.RandomState(1),
    ):
        first, second = Outer(), Outer()
        for outer in (first, second):
            outer.generator = outer.strategy.generator = make()  # type: ignore[attr-defined]
        started = capture(first).tree
        first.generator.random()  # type: ignore[attr-defined]
        saved = capture(first)
        restore(second, saved.tree, started, saved.arrays)
        assert second.generator is second.strategy.generator  # type: ignore[attr-defined]
        assert second.generator.random() == first.generator.random()  # type: ignore[attr-defined]


class Scheduler:
    def state_dict(self) -> dict[str, Any]:
        return {"at": np.zeros(2), "rule": print}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError


def test_an_object_whose_state_no_file_holds_is_left_out() -> None:
    outer = Outer()
    outer.scheduler = Scheduler()  # type: ignore[attr-defined]
    saved = capture(outer)
    assert (saved.left_out, saved.arrays) == (["scheduler"], {})
    restore(outer, saved.tree, saved.tree, saved.arrays)


def test_mappings_of_other_classes_are_filled_in_place() -> None:
    first, second = Outer(), Outer()
    for outer in (first, second):
        outer.seen = defaultdict(lambda: 7)  # type: ignore[attr-defined]
    started = capture(first).tree
    first.seen["a"] += 1  # type: ignore[attr-defined]
    saved = capture(first)
    restore(second, saved.tree, started, saved.arrays)
    assert second.seen == {"a": 8}  # type: ignore[attr-defined]
    assert second.seen["b"] == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [b"", b"PK\3\4 of np.savez", Array(np.zeros(3)).data + b"more"])
def test_parameters_that_are_no_npy_are_kept_as_they_are(data: bytes) -> None:
    array = parameter_array(data, "numpy.ndarray")
    assert (array.data, array.stype, array.shape) == (data, "numpy.ndarray", (len(data),))
