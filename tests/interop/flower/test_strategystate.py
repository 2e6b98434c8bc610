"""The attributes of a strategy saved and restored, without flwr."""

import argparse
import copy
import enum
import json
import random
import re
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from archive.errors import HostileFileError, ValueRangeError
from archive.interop.flower.strategystate import (
    SchemaError,
    capture,
    require_attributes,
    restore,
)
from archive.interop.flower.strategytrees import bulk, differences, unchanged
from tests.optional import torch


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


class Phase(enum.Enum):
    WARM = 1
    HOT = 2


class Best(NamedTuple):
    round: int
    weights: Any


class Settings:
    def __init__(self, folder: str = "runs") -> None:
        self.folder = Path(folder)
        self.phase, self.since = Phase.WARM, datetime(2024, 1, 1)
        self.best: Best | None = None
        self.recent: deque[Best] = deque(maxlen=2)

    def train(self) -> None:
        self.phase, self.since = Phase.HOT, self.since + timedelta(days=1)
        self.best = Best(1, np.ones(2))
        self.recent.append(self.best)


def test_paths_times_and_classes_are_values() -> None:
    first, second = Settings(), Settings("other")
    started = capture(first).tree
    first.train()
    saved = capture(first)
    assert saved.left_out == []
    notes = restore(second, json.loads(json.dumps(saved.tree)), started, saved.arrays)
    assert notes == [f"folder was {Path('runs')!r} and is {Path('other')!r} from here on"]
    assert (second.folder, second.phase, second.since) == (Path("other"), Phase.HOT, datetime(2024, 1, 2))
    assert type(second.best) is type(second.recent[0]) is Best
    assert second.best.weights.tolist() == second.recent[0].weights.tolist() == [1, 1]


def test_a_member_of_a_local_enum_is_left_out() -> None:
    """It has attributes, and these must not be set as those of an object."""
    outer = Outer()
    outer.mode = enum.Enum("local", "A").A  # type: ignore[attr-defined]
    saved = capture(outer)
    assert saved.left_out == ["mode"]
    assert "mode" not in saved.tree["objects"]


class Metric:
    """As of FL4Health: a name, what it has seen, and maybe a function."""

    def __init__(self, name: str, rule: Any = None) -> None:
        self.name, self.seen = name, []  # type: ignore[var-annotated]
        if rule is not None:
            self.rule = rule


class Manager:
    """Copies its metrics for each kind of prediction when it sees the first one."""

    def __init__(self, *metrics: Any) -> None:
        self.metrics: Any = metrics
        self.by_kind: dict[str, list[Any]] = {}
        self.reporters: list[Any] = [Reporter(), {"spare": Reporter()}, len]
        self.hooks: list[Any] = [len, max]
        self.spare: Any = None

    def update(self, value: Any) -> None:
        self.by_kind = self.by_kind or {"class": copy.deepcopy(list(self.metrics))}
        for metric in self.by_kind["class"]:
            metric.seen.append(value)
        self.metrics[0].name += "!"
        self.reporters[0].update(value)
        self.reporters[1]["spare"].update(value)
        self.spare = self.spare or Reporter()
        self.spare.update(value)
        self.reporters[1]["new"] = self.spare


class Reporter:
    def __init__(self) -> None:
        self.values: deque[Any] = deque(maxlen=3)

    def update(self, value: Any) -> None:
        self.values.append(value)


def without_shared(tree: Any) -> str:
    """Return a tree without the notes which values are one array: they come back as equal ones."""
    return re.sub(r', "as": "[^"]*"', "", json.dumps(tree))


def test_containers_of_objects() -> None:
    first, second = Manager(Metric("a"), Metric("b")), Manager(Metric("a"), Metric("b"))
    started = capture(first).tree
    for value in (1, np.ones(2)):
        first.update(value)
    saved = capture(first)
    assert saved.left_out == []
    assert set(saved.arrays) == {
        "by_kind/class/0/seen/1",
        "by_kind/class/1/seen/1",
        "reporters/0/values/1",
        "reporters/1/spare/values/1",
        "reporters/1/new/values/1",
    }
    kept = second.metrics, second.reporters, second.reporters[0], second.reporters[1]["spare"]
    tree = json.loads(json.dumps(saved.tree))
    assert restore(second, tree, json.loads(json.dumps(started)), saved.arrays) == []
    assert second.metrics[0].name == "a!!"
    found = second.metrics, second.reporters, second.reporters[0], second.reporters[1]["spare"]
    assert found[1:] == kept[1:]
    assert all(one is other for one, other in zip(found[0], kept[0], strict=True))
    assert second.reporters[2] is len
    assert second.hooks == [len, max]
    assert second.spare is second.reporters[1]["new"]
    for reporter in (found[2], found[3], second.spare):
        assert type(reporter) is Reporter
        assert reporter.values.maxlen == 3
        assert [np.sum(value) for value in reporter.values] == [1, 2]
    assert [(type(m), m.name, m.seen[0]) for m in second.by_kind["class"]] == [
        (Metric, "a", 1),
        (Metric, "b", 1),
    ]
    for _ in range(2):
        assert without_shared(capture(first).tree) == without_shared(capture(second).tree)
        for one in (first, second):
            one.update(3)


def test_a_setting_inside_of_a_container_of_objects_is_one() -> None:
    first, second = Manager(Metric("a"), Metric("b")), Manager(Metric("a"), Metric("c"))
    started = capture(first).tree
    first.update(1)
    saved = capture(first)
    notes = restore(second, saved.tree, started, saved.arrays)
    assert notes == ["metrics/1/name was 'b' and is 'c' from here on"]
    assert [metric.name for metric in second.metrics] == ["a!", "c"]
    assert (
        restore(second, saved.tree, started, saved.arrays, capture(Manager(Metric("a"), Metric("c"))).tree)
        == []
    )


def test_a_setting_that_the_run_changed_is_named() -> None:
    first, second = Manager(Metric("a")), Manager(Metric("x"))
    started = capture(first).tree
    first.update(1)
    saved = capture(first)
    notes = restore(second, saved.tree, started, saved.arrays)
    assert notes == [
        "metrics/0/name was 'a' and is 'x' in the script, but the run changed it: its own value goes on"
    ]
    assert second.metrics[0].name == "a!"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Manager(Metric("a")), "'strategy/metrics': the run began with builtins.tuple of 2, and the"),
        (
            lambda: Manager(Metric("a"), Reporter()),
            "'strategy/metrics/1': saved with class .*Metric, now .*Rep",
        ),
    ],
)
def test_other_objects_in_a_container_are_an_error(make: Any, problem: str) -> None:
    first = Manager(Metric("a"), Metric("b"))
    started = capture(first).tree
    first.update(1)
    saved = capture(first)
    with pytest.raises(SchemaError, match=problem):
        restore(make(), saved.tree, started, saved.arrays)
    second = make()
    restore(second, saved.tree, started, saved.arrays, exclude=("metrics",))
    assert second.by_kind["class"][1].name == "b"


@pytest.mark.parametrize(
    "made",
    [
        Metric("a", rule=len),  # the function would be lost
        argparse.Namespace(a=1),  # a class of another package
        Scheduler(),
    ],
    ids=["function", "package", "state dict"],
)
def test_an_object_that_no_file_makes_is_an_error(made: Any) -> None:
    first, second = Manager(Metric("a")), Manager(Metric("a"))
    started = capture(first).tree
    first.by_kind["class"] = [made]
    saved = capture(first)
    with pytest.raises(
        SchemaError, match=r"'strategy/by_kind/class/0': the run made an object of class .*; make"
    ):
        restore(second, saved.tree, started, saved.arrays)
    assert restore(second, saved.tree, started, saved.arrays, exclude=("by_kind",)) == []
    assert second.by_kind == {}


def test_an_object_of_a_class_that_the_script_has_is_made() -> None:
    """Of any package: the script itself put one into its strategy."""
    first, second = Manager(Metric("a")), Manager(Metric("a"))
    for manager in (first, second):
        manager.options = argparse.Namespace(a=1)  # type: ignore[attr-defined]
    started = capture(first).tree
    first.by_kind["class"] = [argparse.Namespace(a=2)]
    saved = capture(first)
    restore(second, saved.tree, started, saved.arrays)
    assert second.by_kind == first.by_kind


class Deleting:
    """A file must not have an object of such a class made: it acts when it goes."""

    def __del__(self) -> None:
        assert not hasattr(self, "name")


def test_a_file_makes_no_object_that_acts_when_it_goes() -> None:
    tree = capture(Manager(Metric("a"))).tree
    for name in (
        f"{__name__}.Deleting",
        "subprocess.Popen",
        "os.system",
        "nowhere.Class",
        f"{__name__}.Any",
        "",
    ):
        made = {"class": name, "attributes": {"name": "x"}, "objects": {}}
        hostile = tree | {"objects": tree["objects"] | {"more": made}}
        with pytest.raises(SchemaError, match="cannot be made again"):
            restore(Manager(Metric("a")), hostile, tree, {})


@pytest.mark.parametrize(
    "change",
    [
        {"class": 1},
        {"attributes": []},
        {"objects": {"metrics": 1}},
        {"objects": {"metrics": {}}},
        {"objects": {"metrics": {"same": 1}}},
        {"objects": {"metrics": {"class": "builtins.tuple", "keys": [0], "items": []}}},
        {"objects": {"metrics": {"class": "builtins.tuple", "keys": [0, 0], "items": [{"value": 1}] * 2}}},
        {"objects": {"metrics": {"keys": [], "items": []}}},
        {"objects": {"by_kind": {"class": "builtins.dict", "keys": [[]], "items": [{"value": 1}]}}},
        {"attributes": {"spare": {"$": "path", "flavour": "posix", "pure": True, "text": "a\0"}}},
    ],
    ids=str,
)
def test_a_hostile_state_is_refused(change: Any) -> None:
    tree = capture(Manager(Metric("a"))).tree
    with pytest.raises(HostileFileError) as caught:
        restore(Manager(Metric("a")), tree | change, tree, {})
    assert str(caught.value.key).startswith("strategy")


def test_a_hostile_state_is_refused_however_deep() -> None:
    tree = capture(Manager(Metric("a"))).tree
    inner: Any = {"class": f"{__name__}.Reporter", "attributes": {}, "objects": {}}
    for _ in range(400):
        inner = {"class": f"{__name__}.Reporter", "attributes": {}, "objects": {"more": inner}}
    with pytest.raises(HostileFileError, match="nested more than 100 deep"):
        restore(Manager(Metric("a")), tree | {"objects": {"more": inner}}, tree, {})


def test_a_file_sets_no_attributes_of_python_or_ours() -> None:
    manager = Manager(Metric("a"))
    tree = capture(manager).tree
    restore(
        manager, tree | {"attributes": {"__dict__": {"$": "dict", "items": []}, "_fedarchive": 1}}, tree, {}
    )
    assert "metrics" in vars(manager)
    assert not hasattr(manager, "_fedarchive")


class Node:
    def __init__(self) -> None:
        self.next: Any = None


def test_a_long_chain_of_objects_is_left_out_where_it_is_too_long() -> None:
    first = node = Node()
    for _ in range(300):
        node.next = Node()
        node = node.next
    saved = capture(first)
    assert [len(name.split("/")) for name in saved.left_out] == [91]
    restore(first, saved.tree, saved.tree, saved.arrays)


def test_what_contains_itself() -> None:
    first, second = Manager(Metric("a")), Manager(Metric("a"))
    for manager in (first, second):
        manager.reporters.append(manager.reporters)
        manager.reporters.append(manager)
    saved = capture(first)
    restore(second, saved.tree, saved.tree, saved.arrays)
    assert second.reporters[3] is second.reporters
    assert second.reporters[4] is second


# Settings


def test_differences_lists_every_setting_that_differs() -> None:
    def make(eta: float = 0.1, name: str = "b", folder: str = "runs", inner: Any = None) -> Any:
        outer: Any = Outer(eta)
        outer.manager, outer.settings = Manager(Metric("a"), Metric(name)), Settings(folder)
        outer.inner, outer.start, outer.rate = inner, None, 3
        return outer

    started = json.loads(json.dumps(capture(make()).tree))
    assert differences(started, capture(make()).tree) == []
    changed = make(0.2, "c", "other", Inner())
    changed.start, changed.strategy, changed.new = np.ones(2), Node(), 5
    changed.manager.hooks = [min]
    assert differences(started, capture(changed).tree) == [
        ("eta", 0.1, 0.2),
        ("start", None, "(arrays)"),
        ("strategy", f"{__name__}.Inner", f"{__name__}.Node"),
        ("manager/metrics/1/name", "b", "c"),
        ("settings/folder", Path("runs"), Path("other")),
        ("inner", None, f"{__name__}.Inner"),
    ]
    fewer = make()
    fewer.manager.metrics = fewer.manager.metrics[:1]
    found = differences(started, capture(fewer).tree)
    assert found == [("manager/metrics", "builtins.tuple of 2", "builtins.tuple of 1")]
    assert differences(started, capture(Inner()).tree) == [
        ("class", f"{__name__}.Outer", f"{__name__}.Inner")
    ]


def test_differences_and_restore_follow_one_rule() -> None:
    first, second = Outer(0.1), Outer(0.2)
    second.strategy.norm = 3.0
    started = capture(first).tree
    assert differences(started, capture(second).tree) == [("eta", 0.1, 0.2), ("strategy/norm", 1.0, 3.0)]
    notes = restore(second, capture(first).tree, started, {})
    assert notes == ["eta was 0.1 and is 0.2 from here on", "strategy/norm was 1.0 and is 3.0 from here on"]
    assert differences(started, capture(second).tree) == []


def test_an_object_where_there_was_none_is_a_setting() -> None:
    first, second = Outer(), Outer()
    first.hook = None  # type: ignore[attr-defined]
    second.hook = hook = Inner()  # type: ignore[attr-defined]
    started = capture(first).tree
    notes = restore(second, capture(first).tree, started, {})
    assert notes == [f"hook was None and is '{__name__}.Inner' from here on"]
    assert second.hook is hook  # type: ignore[attr-defined]
    assert differences(started, capture(second).tree) == []


# Data


class Held:
    """20 MB in all, none of which changes."""

    def __init__(self) -> None:
        self.x, self.y = np.zeros(10 << 20, "u1"), {"y": [np.zeros(10 << 20, "u1")]}
        self.note = "a"


def test_large_attributes_that_do_not_change_are_found() -> None:
    outer: Any = Outer()
    outer.held, outer.small = Held(), np.zeros(1 << 20)
    outer.moments, outer.deep = np.zeros(17 << 20, "u1"), Inner()
    outer.deep.table = np.zeros((5 << 20, 2), "u2").T
    sizes = {"held": 20 << 20, "moments": 17 << 20, "deep": 20 << 20, "deep/table": 20 << 20}
    first = bulk(capture(outer))
    assert {name: nbytes for name, (nbytes, _) in first.items()} == sizes
    outer.moments[-1] += 1  # in place, at the same address
    outer.deep.table = outer.deep.table.copy(order="K")  # equal, at another address
    outer.deep.norm = 2
    second = bulk(capture(outer))
    assert unchanged(first, second) == [("held", 20 << 20), ("deep/table", 20 << 20)]
    outer.held.note = "b"
    assert unchanged(second, bulk(capture(outer))) == [("moments", 17 << 20), ("deep", 20 << 20)]
    require_attributes(outer, [name for name, _ in unchanged(second, second)])


def test_data_sets_and_loaders_belong_to_the_script() -> None:
    data: Any = torch().utils.data

    def make(seed: int) -> Any:
        outer: Any = Outer()
        generator = torch().Generator().manual_seed(seed)
        outer.testset = data.TensorDataset(torch().arange(8.0))
        outer.loader = data.DataLoader(outer.testset, 4, shuffle=True, generator=generator)
        outer.plain = data.DataLoader(data.Subset(outer.testset, [1, 2]))
        outer.loaders = {"a": data.DataLoader(outer.testset), "b": [outer.plain]}
        outer.stream = iter(outer.plain)
        return outer

    first, second = make(1), make(2)
    started = capture(first).tree
    list(first.loader)
    saved = capture(first)
    assert saved.data == ["testset", "loader", "plain", "loaders/a", "loaders/b/0"]
    assert saved.left_out == ["stream"]
    assert not any(array.payload.nbytes == 32 for array in saved.arrays.values())
    own = second.testset, second.loader, second.loader.generator
    notes = restore(second, json.loads(json.dumps(saved.tree)), started, saved.arrays)
    assert notes == []
    assert own == (second.testset, second.loader, second.loader.generator)
    expected = [batch[0].tolist() for batch in first.loader]
    assert [batch[0].tolist() for batch in second.loader] == expected
    assert expected != [batch[0].tolist() for batch in make(2).loader]
    del second.loader
    assert restore(second, saved.tree, started, saved.arrays) == [
        "loader is not there yet, and what was saved of it is not restored"
    ]
    assert capture(first, ("loader", "testset", "plain", "loaders", "stream")).data == []


def test_a_data_set_with_a_state_dict_is_state() -> None:
    class Buffer(torch().utils.data.Dataset):
        def __init__(self) -> None:
            self.items: list[float] = []

        def state_dict(self) -> Any:
            return {"items": self.items}

        def load_state_dict(self, state: Any) -> None:
            self.items = state["items"]

    first, second = Outer(), Outer()
    first.buffer, second.buffer = Buffer(), Buffer()  # type: ignore[attr-defined]
    started = capture(first).tree
    first.buffer.items.append(0.5)  # type: ignore[attr-defined]
    saved = capture(first)
    assert saved.data == []
    restore(second, saved.tree, started, saved.arrays)
    assert second.buffer.items == [0.5]  # type: ignore[attr-defined]


def test_an_object_that_a_data_set_holds_too_is_state() -> None:
    class Augmented(torch().utils.data.Dataset):
        def __init__(self, rule: Any) -> None:
            self.rule = rule

    first: Any = Outer()
    first.set, first.rule = Augmented(Inner()), None
    first.rule = first.set.rule
    assert capture(first).tree["objects"]["rule"]["attributes"] == {"norm": 1.0}


class Recording:
    """Keeps what it gets, as strategies do: results of other packages, objects with functions, schedulers."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.latest: Any = None
        self.kept = [Metric("a")]
        self.inner = Metric("b")
        self.table: dict[str, Any] = {"a": Metric("a")}
        self.loss: Any = 0.5
        self.by_round: Any = None


def test_objects_that_could_not_be_made_again_are_left_out_with_their_attribute() -> None:
    first = Recording()
    started = capture(first).tree
    assert capture(first, (), started).left_out == []
    first.results = [(argparse.Namespace(a=1), np.ones(2))]
    first.latest = Scheduler()
    first.kept += [Metric("b", rule=len)]
    first.inner.late = argparse.Namespace(b=2)  # type: ignore[attr-defined]
    first.inner.seen = [np.zeros(1), Metric("c")]
    first.table["f"] = len
    first.loss = Metric("loss")
    first.by_round = OrderedDict({"a": Metric("d")})
    saved = capture(first, (), started)
    assert saved.left_out == ["results", "latest", "kept", "inner/late", "table", "loss", "by_round"]
    assert list(saved.arrays) == ["inner/seen/0"]
    second = Recording()
    assert restore(second, json.loads(json.dumps(saved.tree)), started, saved.arrays) == []
    assert (second.results, second.latest, second.loss, second.by_round) == ([], None, 0.5, None)
    assert [metric.name for metric in (*second.kept, second.inner, second.inner.seen[1])] == ["a", "b", "c"]
    assert list(second.table) == ["a"]


def test_objects_that_can_be_made_again_are_kept_by_later_rounds() -> None:
    first = Manager(Metric("a"), Metric("b"))
    started = capture(first).tree
    first.update(1)
    saved = capture(first, (), started)
    assert saved.tree == capture(first).tree
    assert saved.left_out == []


def test_an_object_that_is_left_out_in_one_place_is_saved_in_another() -> None:
    first = Recording()
    started = capture(first).tree
    shared = Metric("shared")
    first.results, first.latest = [shared, Scheduler()], shared
    saved = capture(first, (), started)
    assert saved.left_out == ["results"]
    second = Recording()
    restore(second, saved.tree, started, saved.arrays)
    assert second.latest.name == "shared"


def test_another_class_in_its_place_is_left_out() -> None:
    first = Recording()
    started = capture(first).tree
    first.inner = Inner()  # type: ignore[assignment]
    assert capture(first, (), started).left_out == ["inner"]


def test_a_generator_without_a_seed_is_named_by_differences_only() -> None:
    first, second = Recording(), Recording()
    for number, thing in enumerate((first, second)):
        thing.loss = np.random.default_rng(number)
    started = capture(first).tree
    assert differences(started, capture(second).tree) == [
        ("loss", "(random generator)", "(random generator)")
    ]
    first.loss.random()
    saved = capture(first)
    assert restore(second, saved.tree, started, saved.arrays) == []
    assert second.loss.random() == first.loss.random()


@pytest.mark.parametrize(
    "tree", [None, {}, [], 0, {"class": "x"}, {"value": 1}, {"class": "x", "keys": [], "items": []}]
)
def test_a_state_of_no_object_is_refused(tree: Any) -> None:
    given = capture(Inner()).tree
    with pytest.raises(HostileFileError, match="'strategy': invalid saved state"):
        restore(Inner(), tree, given, {})
    with pytest.raises(HostileFileError, match="'strategy': invalid saved state"):
        differences(tree, given)
