"""The attributes of a strategy saved and restored, without flwr."""

import json
import random
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest

from archive.interop.flower.strategystate import SchemaError, capture, restore


class Inner:
    def __init__(self) -> None:
        self.norm = 1.0


class Outer:
    def __init__(self, eta: float = 0.1) -> None:
        self.eta = eta
        self.strategy = Inner()
        self.counts: Counter[str] = Counter()
        self.named: OrderedDict[str, Any] = OrderedDict()
        self.momentum: Any = None
        self.fit, self.kind, self.me = (lambda: 1), Inner, self

    def train(self) -> None:
        self.momentum = {"w": np.ones(2)}
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
    with pytest.raises(SchemaError, match=r"'strategy/strategy': saved with class .*Inner, now .*Outer"):
        restore(other, saved.tree, saved.tree, saved.arrays)


def test_a_setting_may_be_changed_at_every_start() -> None:
    started = saved = capture(Outer(eta=0.1)).tree
    for eta in (0.1, 0.2, 0.2, 0.3, 0.1):
        outer = Outer(eta=eta)
        restore(outer, saved, started, {})
        assert outer.eta == eta
        saved = capture(outer).tree


def test_a_missing_object_is_an_error() -> None:
    saved = capture(Outer())
    other = Outer()
    del other.strategy
    with pytest.raises(SchemaError, match=r"'strategy/strategy': saved with an object of class .*Inner"):
        restore(other, saved.tree, saved.tree, saved.arrays)


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
