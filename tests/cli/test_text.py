"""What reaches the terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.cli.text import columns, elided, json_value, print_json, printable, shape, size, type_name


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


def test_columns_of_nothing() -> None:
    assert columns([]) == []


def test_one_long_name_does_not_widen_all_lines() -> None:
    lines = columns([["x" * 100_000, "1"], ["y" * 20, "2"], ["z", "3"]])
    assert [len(line) for line in lines] == [100_003, 23, 23]


def test_a_shape_is_one_field() -> None:
    assert " " not in shape((1, 2, 3))


def test_elided_keeps_what_fits() -> None:
    assert elided("x" * 72) == "x" * 72
    assert len(elided("x" * 73)) == 72


@pytest.mark.parametrize(
    ("value", "name", "encoded"),
    [
        (1.5, "float", 1.5),
        (float("nan"), "float", "nan"),
        ([float("inf"), -float("inf")], "list[float]", ["inf", "-inf"]),
        (True, "bool", True),
        (2**63, "int", 2**63),
        (b"\x00\xff", "bytes", "00ff"),
        ([b"a"], "list[bytes]", ["61"]),
        ([], "list", []),
        ("nan", "str", "nan"),
    ],
)
def test_json_of_values(value: object, name: str, encoded: object) -> None:
    assert type_name(value) == name
    assert json_value(value) == encoded


def test_json_is_ascii_without_controls(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"k": "\x1b\x7f\u202eü"})
    told = capsys.readouterr().out
    assert told.replace("\n", "").isascii()
    assert told.replace("\n", "").isprintable()
    assert json.loads(told) == {"k": "\x1b\x7f\u202eü"}
