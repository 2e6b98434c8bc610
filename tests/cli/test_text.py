"""What reaches the terminal."""

from __future__ import annotations

import json

import pytest

from archive.cli.text import json_value, print_json, type_name


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
