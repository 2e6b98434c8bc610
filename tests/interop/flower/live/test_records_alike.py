"""Our records and Context do what Flower's do: each test asks the same of both."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from tests.interop.flower.live.comparisons import alike, assert_alike, kind_of, text_of
from tests.interop.flower.live.names import (
    Names,
    has_old_names,
    has_three_spaces,
    has_today_names,
    make_array,
    make_records,
    small,
    views,
)
from tests.interop.flower.live.samples import CONFIGS, METRICS, RUN_ID

pytest.importorskip("flwr")

VALUES: dict[str, Any] = {
    "int": 1,
    "float": 1.5,
    "float64": np.float64(2),
    "nan": float("nan"),
    "bool": True,
    "str": "x",
    "bytes": b"x",
    "no str": "",
    "none": None,
    "float32": np.float32(1),
    "int64": np.int64(1),
    "0-d": np.array(1.0),
    "ndarray": np.array([1.0]),
    "tuple": (1, 2),
    "dict": {},
    "set": {1},
    "complex": 1j,
    "bytearray": bytearray(b"x"),
    "empty list": [],
    "ints": [1, 2],
    "floats": [1.0, 2.0],
    "strs": ["a", ""],
    "bytes list": [b"a"],
    "bools": [True, False],
    "nested": [[1]],
    "int then bool": [1, True],
    "bool then int": [True, 1],
    "int then float": [1, 2.0],
    "float then int": [1.0, 2],
    "float then float64": [1.0, np.float64(2)],
    "float64 then float": [np.float64(1), 2.0],
    "str then bytes": ["a", b"b"],
    "none in list": [None],
    "int then none": [1, None],
    "large int": 2**70,
}


@pytest.mark.parametrize("kind", ["Metrics", "Configs"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_of_a_record(flower: Names, ours: Names, kind: str, value: Any) -> None:
    def put(lib: Names) -> Any:
        record = getattr(lib, kind)()
        result = kind_of(lambda: record.__setitem__("key", value))
        return result, list(record), repr(record)

    assert_alike(put, flower, ours, differs=False)


@alike()
def test_key_that_is_no_str(lib: Names) -> Any:
    array = small(lib, 1)
    return [
        text_of(lambda: lib.Arrays().__setitem__(1, array)),
        text_of(lambda: lib.Metrics().__setitem__(1, 1)),
        text_of(lambda: lib.Configs().__setitem__(None, 1)),
        text_of(lambda: lib.Metrics({b"a": 1})),
    ]


@alike()
def test_record_key_that_is_no_str(lib: Names) -> Any:
    space = views(lib, make_records(lib, {}))[1]
    found = [text_of(lambda: space.__setitem__(1, lib.Metrics()))]
    if not has_three_spaces(lib):
        found.append(text_of(lambda: lib.Records().__setitem__(1, lib.Metrics())))
    return found


@alike(differs=has_old_names)
def test_record_value_that_is_no_record(lib: Names) -> Any:
    """Until 1.16 only class names in the text differ: MetricsRecord is an alias of our MetricRecord."""
    records = make_records(lib, {})
    found = [text_of(lambda space=space: space.__setitem__("k", 1)) for space in views(lib, records)]
    found.append(text_of(lambda: views(lib, records)[0].__setitem__("k", lib.Metrics())))
    if not has_three_spaces(lib):
        found.append(text_of(lambda: records.__setitem__("k", {})))
    return found


@alike()
def test_input_kept_or_not(lib: Names) -> Any:
    found = []
    for kind, value in (("Arrays", small(lib, 1)), ("Metrics", 1), ("Configs", "x")):
        for options in ({}, {"keep_input": True}, {"keep_input": False}):
            given = {"a": value, "b": value}
            record = getattr(lib, kind)(given, **options)
            found.append((kind, options, list(record), list(given)))
    return found


@alike(differs=has_today_names)
def test_input_of_a_parameters_record(lib: Names) -> Any:
    """ParametersRecord follows flwr until 1.16; later its default is that of ArrayRecord."""
    given = {"a": small(lib, 1)}
    lib.ParametersRecord(given)
    return list(given)


@alike(differs=has_old_names)
def test_input_after_an_error(lib: Names) -> Any:
    """Until 1.16 what came before the bad value was gone; ours checks everything first."""
    given = {"a": small(lib, 1), "b": 2}
    return kind_of(lambda: lib.Arrays(given, keep_input=False)), list(given)


@alike(differs=True)
def test_values_after_an_error(lib: Names) -> Any:
    """flwr deletes key by key until the bad one; ours checks everything first."""
    given = {"a": 1, "b": None}
    return kind_of(lambda: lib.Metrics(given, keep_input=False)), list(given)


@alike()
def test_equality(lib: Names) -> Any:
    a, b = small(lib, 1, 2), small(lib, 1, 2)
    one, other = lib.Arrays({"x": a, "y": b}), lib.Arrays({"y": b, "x": a})
    arrays = (a == b, a != small(lib, 1, 3), a == 1, a == make_array(lib, "float64", (2,), "", a.data))
    records = (
        one == other,
        one == dict(other),
        one == lib.Arrays({"x": a}),
        one == 5,
        lib.Metrics({"a": 1}) == {"a": 1.0},
        lib.Metrics({"a": 1}) == lib.Configs({"a": 1}),
        lib.Metrics({"a": 1}) == lib.Metrics({"a": True + 1}),
    )
    sets = [
        make_records(lib, {"a": lib.Metrics({"m": 1}), "b": lib.Configs({"c": 2})}),
        make_records(lib, {"b": lib.Configs({"c": 2}), "a": lib.Metrics({"m": 1})}),
        make_records(lib, {"a": lib.Metrics({"m": 1})}),
    ]
    return arrays, records, sets[0] == sets[1], sets[0] == sets[2]


@alike(differs=has_three_spaces)
def test_equality_with_something_else(lib: Names) -> Any:
    """RecordSet until 1.15 raises NotImplementedError; ours is unequal."""
    return kind_of(lambda: make_records(lib, {}) == 5)


@alike()
def test_hashes(lib: Names) -> Any:
    things = [small(lib, 1), lib.Arrays(), lib.Metrics(), lib.Configs(), make_records(lib, {})]
    return [kind_of(lambda thing=thing: hash(thing)) for thing in things]


@alike()
def test_copies(lib: Names) -> Any:
    things = [
        small(lib, 1),
        lib.Arrays({"a": small(lib, 1)}),
        lib.Metrics({"a": [1]}),
        lib.Configs({"a": b"x"}),
    ]
    records = make_records(lib, {"m": things[2], "a": things[1]})
    if not has_three_spaces(lib):  # whose checks are methods: copied with the owner, they still are equal
        things.append(records)
    return [
        (copy.deepcopy(thing) == thing, pickle.loads(pickle.dumps(thing)) == thing, copy.copy(thing) == thing)
        for thing in things
    ]


@alike()
def test_order_and_dict_methods(lib: Names) -> Any:
    record = lib.Configs({"z": 1, "a": 2, "m": 3})
    found: list[Any] = [list(record), list(record.items()), list(record.values()), list(record.keys())]
    record["z"] = 9
    found.append(list(record.items()))
    found.append((record.pop("a"), record.pop("nothing", None), kind_of(lambda: record.pop("nothing"))))
    record.update({"b": 4}, c=5)
    found.append((list(record), record.setdefault("d", "x"), record.get("e"), "b" in record, len(record)))
    found.append((kind_of(lambda: record["e"]), kind_of(lambda: record.__delitem__("e")), bool(record)))
    found.append((record.popitem(), list(reversed(list(record)))))
    record.clear()
    found.append((list(record), bool(record)))
    return found


@alike()
def test_representation_of_values(lib: Names) -> Any:
    metrics, configs = (
        {key: value for key, value in values.items() if not key.startswith("long")}
        for values in (METRICS, CONFIGS)
    )
    return repr(lib.Metrics(metrics)), repr(lib.Configs(configs))


@alike(differs=True)
def test_representation_of_long_values(lib: Names) -> Any:
    return len(repr(lib.Configs(dict(CONFIGS)))) > 4000


@alike(differs=lambda lib: lib.generation == "single")
def test_representation_of_records(lib: Names) -> Any:
    """Of 1.16 only the names differ: its RecordSet is our RecordDict."""
    records = {"m": lib.Metrics({"loss": 0.5}), "c": lib.Configs({"lr": [1]}), "n": lib.Metrics()}
    return repr(make_records(lib, records)), repr(make_records(lib, {}))


@alike()
def test_views_write_through(lib: Names) -> Any:
    records = make_records(lib, {"c": lib.Configs({"lr": 1}), "m": lib.Metrics({"loss": 0.5})})
    arrays, metrics, configs = views(lib, records)
    arrays["new"] = lib.Arrays()
    metrics["m"] = lib.Metrics({"loss": 2})
    del configs["c"]
    found: list[Any] = [list(view) for view in views(lib, records)]
    found.append(views(lib, records)[1]["m"]["loss"])
    found.append([kind_of(lambda view=view: view["absent"]) for view in views(lib, records)])
    found.append([kind_of(lambda view=view: view.__delitem__("absent")) for view in views(lib, records)])
    found.append([len(view) for view in views(lib, records)])
    if not has_three_spaces(lib):
        found.append((list(records), kind_of(lambda: views(lib, records)[2]["m"])))
    return found


@alike()
def test_record_of_another_kind_put_over(lib: Names) -> Any:
    if has_three_spaces(lib):
        pytest.skip("a name space for each kind")
    records = make_records(lib, {"a": lib.Metrics({"x": 1}), "b": lib.Metrics()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        records["a"] = lib.Configs({"y": 2})
    return list(records), [list(view) for view in views(lib, records)], records["a"] == {"y": 2}


@alike()
def test_deprecated_keywords(lib: Names) -> Any:
    if has_old_names(lib):
        pytest.skip("no deprecated keywords yet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return kind_of(lambda: lib.Records({"m": 1})), kind_of(lambda: lib.Records({1: lib.Metrics()}))


@alike()
def test_context_fields(lib: Names) -> Any:
    state = make_records(lib, {"m": lib.Metrics({"a": 1})})
    one = lib.Context(run_id=1, node_id=2, node_config={"a": 1}, state=state, run_config={"b": "x"})
    other = lib.Context(1, 2, {"a": 1}, state, {"b": "x"})
    one_id = one.run_id
    one.run_id = RUN_ID
    return one_id, one == other, other == lib.Context(1, 2, {"a": 1}, state, {"b": "x"}), one.state is state
