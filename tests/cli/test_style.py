"""Colours for people alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archive.cli.style import bold, red
from archive.cli.text import columns
from tests.cli.terminal import on_terminal


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_on_a_terminal(
    variables: dict[str, str], coloured: bool, flipped: Path, command: list[str], environment: dict[str, str]
) -> None:
    code, shown = on_terminal([*command, "verify", flipped], environment | variables)
    assert code == 1
    assert ("\x1b[31mDAMAGED\x1b[0m in 1 places" in shown) == coloured
    assert coloured or "\x1b" not in shown


def test_not_in_pipes(flipped: Path, fedarchive: Any, environment: dict[str, str]) -> None:
    environment = {
        name: text for name, text in environment.items() if name not in ("NO_COLOR", "FORCE_COLOR")
    }
    assert "\x1b" not in fedarchive("verify", flipped, env=environment).stdout
    forced = fedarchive("verify", flipped, env=environment | {"FORCE_COLOR": "1"})
    assert "\x1b[31mDAMAGED" in forced.stdout
    both = fedarchive("verify", flipped, env=environment | {"FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b" not in both.stdout


def test_styled_fields_stand_under_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert columns([["name", "ok"], [red("no"), "x"]], header=True) == [bold("name  ok"), f"{red('no')}    x"]
