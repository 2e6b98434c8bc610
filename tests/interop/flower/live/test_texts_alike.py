"""Our error texts begin with those of today's Flower, whatever they add."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.interop.flower.live.comparisons import text_of
from tests.interop.flower.live.names import Names, make_array, require_today, views

require_today()

CALLS: dict[str, Callable[[Names], Any]] = {
    "arrays of a number": lambda lib: lib.Arrays(42),
    "arrays of a text": lambda lib: lib.Arrays("invalid"),
    "arrays of a tuple": lambda lib: lib.Arrays((np.zeros(2),)),
    "arrays of numbers": lambda lib: lib.Arrays([1, 2]),
    "arrays of a dict of numbers": lambda lib: lib.Arrays({"a": 1}),
    "arrays of a dict by number": lambda lib: lib.Arrays({1: lib.Array(np.zeros(2))}),
    "two positional": lambda lib: lib.Arrays([np.zeros(2)], True),
    "two inputs": lambda lib: lib.Arrays([np.zeros(2)], array_dict={"a": lib.Array(np.zeros(1))}),
    "an item that is no Array": lambda lib: lib.Arrays().__setitem__("a", np.zeros(2)),
    "a key that is no text": lambda lib: lib.Arrays().__setitem__(1, lib.Array(np.zeros(2))),
    "from a list of numbers": lambda lib: lib.Arrays.from_numpy_ndarrays([3]),
    "from torch without torch": lambda lib: lib.Arrays.from_torch_state_dict({}),
    "to torch without torch": lambda lib: lib.Arrays().to_torch_state_dict(),
    "elements of another stype": lambda lib: lib.Arrays(
        {"a": make_array(lib, "f", (1,), "raw", b"x")}
    ).to_numpy_ndarrays(),
    "no argument": lambda lib: lib.Array(),
    "some parts": lambda lib: lib.Array("float32", (2,)),
    "five parts": lambda lib: lib.Array("float32", (2,), "raw", b"", 1),
    "no text as dtype": lambda lib: lib.Array(1, (2,), "raw", b""),
    "no bytes as data": lambda lib: lib.Array("float32", (2,), "raw", 213),
    "an Array of a list": lambda lib: lib.Array([1, 2]),
    "an ndarray that is a list": lambda lib: lib.Array(ndarray=[1, 2]),
    "an ndarray and parts": lambda lib: lib.Array(np.zeros(2), dtype="float32"),
    "from a list": lambda lib: lib.Array.from_numpy_ndarray([1, 2]),
    "from a tensor without torch": lambda lib: lib.Array.from_torch_tensor(1),
    "numpy of another stype": lambda lib: make_array(lib, "f", (1,), "raw", b"x").numpy(),
    "a flag as metric": lambda lib: lib.Metrics({"a": True}),
    "a text as metric": lambda lib: lib.Metrics({"a": "x"}),
    "texts as metric": lambda lib: lib.Metrics({"a": ["x"]}),
    "mixed metrics": lambda lib: lib.Metrics({"a": [1, 2.0]}),
    "a metric by number": lambda lib: lib.Metrics({1: 2}),
    "nothing as config": lambda lib: lib.Configs({"a": None}),
    "a list of nothing as config": lambda lib: lib.Configs({"a": [None]}),
    "mixed configs": lambda lib: lib.Configs({"a": ["x", 1]}),
    "a record that is a number": lambda lib: lib.Records({"a": 1}),
    "a record by number": lambda lib: lib.Records({1: lib.Metrics()}),
    "a record of another kind": lambda lib: views(lib, lib.Records())[0].__setitem__("a", lib.Metrics()),
    "a record that is missing": lambda lib: lib.Records()["a"],
    "a record of another kind that is asked for": lambda lib: views(lib, lib.Records({"a": lib.Metrics()}))[
        0
    ]["a"],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_text_begins_as_flowers(flower: Names, ours: Names, call: Callable[[Names], Any]) -> None:
    assert "torch" not in sys.modules
    theirs = text_of(lambda: call(flower)).replace("AssertionError", "TypeError")
    # 1.17 writes a union of types in another way
    theirs = re.sub(r"typing\.Union\[(.*)\]", lambda found: found[1].replace(",", " |"), theirs)
    mine = text_of(lambda: call(ours))
    assert mine.startswith(theirs), f"{mine}\n{theirs}"
