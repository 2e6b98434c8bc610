"""Text for people: nothing that a terminal acts on, and never much."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.display.shortfields import ShortFields
from archive.display.texts import (
    elided,
    fields_text,
    lined_up,
    middle_elided,
    printable,
    shape,
    size,
    spelled,
    value_text,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.binary(max_size=40),
    lambda values: (
        st.lists(values, max_size=5)
        | st.tuples(values)
        | st.dictionaries(st.text(max_size=5), values, max_size=5)
    ),
    max_leaves=20,
)


@given(st.text(alphabet=st.characters()))
def test_printable_is_printable(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(alphabet=st.characters(categories=["L", "N", "P"])))
def test_what_can_be_shown_is_left_alone(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\n", "\r", "\u2028", "\u202e", "\ud800"])
def test_what_a_terminal_acts_on_is_escaped(char: str) -> None:
    assert char not in printable(f"a{char}b")
    assert printable(f"a{char}b").startswith("a\\")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_size(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


def test_lines_of_nothing() -> None:
    assert lined_up([]) == []


def test_a_shape_is_one_field() -> None:
    assert " " not in shape((1, 2, 3))


def test_elided_keeps_what_fits() -> None:
    assert elided("x" * 72) == "x" * 72
    assert len(elided("x" * 73)) == 72


@given(st.text(alphabet=st.characters()), st.integers(10, 80))
def test_the_middle_is_left_out_of_what_is_long(text: str, length: int) -> None:
    found = middle_elided(text, length)
    assert len(found) <= length
    assert found.isprintable()
    assert found == printable(text) or "..." in found


@given(PLAIN, st.integers(1, 300))
def test_what_is_short_is_spelled_as_python_does(value: Any, room: int) -> None:
    text = repr(value)
    assert spelled(value, room) == (text if len(text) <= room else None)


@given(PLAIN, st.integers(60, 300))
def test_what_is_long_begins_as_python_spells_it(value: Any, room: int) -> None:
    text = value_text(value, room)
    assert len(text) <= room + 240, "one item more than there is room for, of 200 characters"
    assert text.isprintable()
    assert text == repr(value) or text[0] == repr(value)[0]


@pytest.mark.parametrize(
    "value", ["x" * 10**7, b"x" * 10**7, [0.5] * 10**7, 1 << 10**7, np.float64(0.1)], ids=type
)
def test_texts_of_anything_are_short(value: Any) -> None:
    assert len(value_text(value, 60)) <= 60
    assert len(value_text([value, value], 60)) <= 300


def test_classes_of_others_spell_themselves() -> None:
    ordered = OrderedDict(a=1)
    assert value_text(ordered) == spelled(ordered) == repr(ordered)
    assert value_text(np.float64(0.5)) == repr(np.float64(0.5))


@dataclass(frozen=True, repr=False)
class Found(ShortFields):
    name: str
    failures: tuple[str, ...]


class Pair(NamedTuple):
    first: list[str]
    second: int

    def __repr__(self) -> str:
        return fields_text(self)


def test_fields_are_cut_each() -> None:
    assert repr(Found("a", ("b",))) == "Found(name='a', failures=('b',))"
    assert repr(Pair(["a"], 1)) == "Pair(first=['a'], second=1)"
    text = repr(Found("\u202e" * 10**5, ("<b>",) * 20_000))
    assert len(text) < 2_500
    assert text.isprintable()
    assert text.count("<b>") > 50
    assert text.endswith("more))")


def test_one_long_name_does_not_widen_all_lines() -> None:
    lines = lined_up([["x" * 100_000, "1"], ["y" * 20, "2"], ["z", "3"]])
    assert [len(line) for line in lines] == [100_003, 23, 23]
