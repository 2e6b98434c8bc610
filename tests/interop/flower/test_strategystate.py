"""The attributes of a strategy saved and restored, without flwr."""

import json
import random
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest

from archive.errors import ValueRangeError
from archive.interop.flower.strategystate import (
    SchemaError,
    capture,
    require_attributes,
    restore,
)


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


def with_data(text: str) -> Outer:
    outer = Outer()
    outer.data, outer.strategy.data = np.full(3, ord(text)), text  # type: ignore[attr-defined]
    outer.strategy.inner = Inner()  # type: ignore[attr-defined]
    return outer


@pytest.mark.parametrize("spelled", ["strategy/data", "strategy.data"])
def test_excluded_attributes_are_not_saved(spelled: str) -> None:
    exclude = ("data", spelled, "strategy/inner")
    first = with_data("a")
    first.train()
    saved = capture(first, exclude)
    assert list(saved.arrays) == ["momentum/w"]
    assert set(saved.tree["objects"]["strategy"]["attributes"]) == {"norm"}
    assert saved.tree["objects"]["strategy"]["objects"] == {}
    second = with_data("b")
    restore(second, saved.tree, capture(with_data("a"), exclude).tree, saved.arrays, exclude=exclude)
    assert second.data.tolist() == [98] * 3  # type: ignore[attr-defined]
    assert second.strategy.data == "b"  # type: ignore[attr-defined]
    assert second.strategy.norm == 2.0


def test_what_was_saved_before_it_was_excluded_keeps_the_value_of_the_script() -> None:
    first = with_data("a")
    started = capture(first).tree
    first.train()
    saved, second = capture(first), with_data("b")
    del second.strategy.inner  # type: ignore[attr-defined]
    exclude = ("data", "strategy.data", "strategy.inner")
    assert restore(second, saved.tree, started, saved.arrays, exclude=exclude) == []
    assert (second.data[0], second.strategy.data) == (98, "b")  # type: ignore[attr-defined]
    assert second.strategy.norm == 2.0


@pytest.mark.parametrize(
    ("exclude", "problem"),
    [
        (("testset",), "Outer has no attribute testset; there are counts, eta, fit, kind, me, momentum"),
        (("eta", "strategy.norms"), "Inner has no attribute strategy/norms; there are norm"),
        (("eta/real/x",), "float has no attribute eta/real/x; there are none"),
        ("etas", "Outer has no attribute etas; "),
    ],
)
def test_excluding_an_unknown_name_is_an_error(exclude: tuple[str, ...], problem: str) -> None:
    require_attributes(Outer(), ("eta", "strategy.norm", "me/strategy"))
    require_attributes(Outer(), "eta")
    with pytest.raises(ValueRangeError) as caught:
        require_attributes(Outer(), exclude)
    assert problem in str(caught.value)
    assert caught.value.key == "exclude"
