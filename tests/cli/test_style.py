"""Colours for people alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from archive.cli import main
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
    assert ("\x1b[31mDAMAGED\x1b[0m in 1 place" in shown) == coloured
    assert coloured or "\x1b" not in shown


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_in_pipes(
    variables: dict[str, str],
    coloured: bool,
    flipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert main(["verify", str(flipped)]) == 1
    told = capsys.readouterr().out
    assert ("\x1b[31mDAMAGED" in told, "\x1b" in told) == (coloured, coloured)


def test_styled_fields_stand_under_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert columns([["name", "ok"], [red("no"), "x"]], header=True) == [bold("name  ok"), f"{red('no')}    x"]
