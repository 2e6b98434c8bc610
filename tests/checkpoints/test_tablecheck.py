"""Tables of files that strangers made are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archive.checkpoints.filetable import ARRAYS, FileTable, KnownFile, TableRow, make_table
from archive.checkpoints.tablecheck import parse_table
from archive.errors import HostileFileError
from archive.tools.archivefacts import Facts
from archive.tools.columns import Row

DIGEST = "0123456789abcdef" * 2


def table_of(*found: Row) -> FileTable:
    return make_table(
        [
            TableRow(
                number, f"c{number}", "", DIGEST, KnownFile(Facts(row, "2026", 9, number, DIGEST), 5, "t")
            )
            for number, row in enumerate(found)
        ]
    )


def change(name: str, place: int, value: Any) -> Any:
    def changed(arrays: dict[str, Any]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return changed


def replaced(name: str, made: Any) -> Any:
    def changed(arrays: dict[str, Any]) -> None:
        arrays[name] = made(arrays[name])

    return changed


HOSTILE = [
    *(lambda arrays, name=name: arrays.pop(name) for name in ARRAYS),
    *(replaced(name, lambda old: old[:-1]) for name in ARRAYS),
    *(replaced(name, lambda old: old.astype("f4")) for name in ARRAYS),
    *(change(name, 0, 99) for name in ("name", "write", "created", "schema")),
    *(change(name, 0, -1) for name in ("name", "schema", "round", "nbytes", "tail", "arrays", "ends")),
    change("round", 0, 7),
    change("round", -1, 10**9),
    change("kinds", 0, 9),
    change("kinds", 0, 2),  # a metric that is bool
    change("kinds", 0, 3),  # a number of a text that is none
    change("texts", 0, 0xFF),
    change("ends", 0, 10**12),
    replaced("values", lambda old: np.append(old, 0)),
    replaced("known", lambda old: old.view("u1")),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile(number: int) -> None:
    row: Row = {("metrics", "m", "loss"): 0.5, ("configs", "c", "name"): "x"}
    arrays = table_of(row, row).arrays()
    assert len(parse_table(arrays, "x")) == 2
    HOSTILE[number](arrays)
    with pytest.raises(HostileFileError, match="not a table of files"):
        parse_table(arrays, "x")


SCHEMAS = (
    "",
    "7",
    "[",
    '[["metrics","m"],["configs","c","name"]]',
    '[["x","m","loss"],["configs","c","name"]]',
    '[["metrics","m","l"],["metrics","m","l"]]',
    '[["metrics","m","l"]]',
    '[["metrics",1,"l"],["configs","c","n"]]',
    "[" * 5000,
)


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_hostile_schemas(number: int) -> None:
    row: Row = {("metrics", "m", "loss"): 0.5, ("configs", "c", "name"): "x"}
    table = table_of(row)
    place = int(table.columns["schema"][0])
    texts = (*table.texts[:place], SCHEMAS[number], *table.texts[place + 1 :])
    with pytest.raises(HostileFileError):
        parse_table(FileTable(table.columns, texts).arrays(), "x")


def test_a_metric_that_is_text() -> None:
    table = table_of({("configs", "m", "loss"): "x"})
    texts = tuple(text.replace("configs", "metrics") for text in table.texts)
    with pytest.raises(HostileFileError, match="a metric that is no number"):
        parse_table(FileTable(table.columns, texts).arrays(), "x")
