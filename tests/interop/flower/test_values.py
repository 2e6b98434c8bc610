"""Values and objects as JSON and arrays, without flwr."""

import json
import random
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import pytest
import torch

from archive.errors import DamagedError
from archive.interop.flower.attributes import SchemaError, capture, restore
from archive.interop.flower.values import NotStateError, decode, encode
from archive.records import Array


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
    ],
    ids=repr,
)
def test_values(value: Any) -> None:
    found = through(value)
    assert type(found) is type(value)
    assert found == value
    assert getattr(found, "maxlen", 3) == getattr(value, "maxlen", 3)


def test_not_a_number() -> None:
    assert repr(through([float("nan"), -0.0])) == "[nan, -0.0]"


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", ">f8", "c16", "U5", "S3", "M8[s]"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    found = through({"a": array, "b": array})["b"]
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, shape, array.tobytes())
    assert found.flags.writeable


def test_order_of_memory_and_scalars() -> None:
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
    ours = torch.Generator().manual_seed(3)
    again = through(ours)
    assert torch.equal(torch.rand(3, generator=again), torch.rand(3, generator=ours))


def test_tensors() -> None:
    tensor = torch.arange(4, dtype=torch.bfloat16)
    found = through({"w": tensor, "b": torch.ones(2, requires_grad=True)})
    assert torch.equal(found["w"], tensor)
    assert found["b"].requires_grad


@pytest.mark.parametrize(
    "value",
    [object(), print, iter([]), np.array([object()]), 1j, type],
    ids=["object", "function", "iterator", "objects", "complex", "class"],
)
def test_what_no_file_holds(value: Any) -> None:
    with pytest.raises(NotStateError, match="x/a"):
        through({"a": value})


@pytest.mark.parametrize("tree", [{"$": "no such"}, {"a": 1}, {"$": "ndarray", "at": "gone"}])
def test_trees_of_something_else(tree: Any) -> None:
    with pytest.raises(DamagedError):
        decode(tree, {})


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
