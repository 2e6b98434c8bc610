"""What is shown of a table: its first and last rows and columns, as text and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archive.display.markup import summary_html
from archive.display.summaries import Section, Summary, places, summary_text
from archive.display.texts import counted, middle_elided, value_text

__all__ = ["table_html", "table_text"]

_TEXT_ROWS = (5, 5)
_HTML_ROWS = (20, 20)
_HTML_COLUMNS = 40
_CELL = 32
"""Longest text of a cell."""
_NARROW = 20
"""The same, where a line has no room for all columns."""
_WIDTH = 100
"""Characters of a line of text."""

Columns = Mapping[str, Any]


def table_text(table: Columns) -> str:
    """Return the rows under the names of their columns; columns that do not fit are left out.

    Examples
    --------
    >>> losses = np.round(np.linspace(1, 0, 1000), 3)
    >>> print(table_text({"round": np.arange(1000), "loss": losses, "name": np.array(["a"] * 1000, object)}))
    Table: 1,000 rows, 3 columns
             round  loss   name
        0    0      1      a
        1    1      0.999  a
        2    2      0.998  a
        3    3      0.997  a
        4    4      0.996  a
        ... 990 more
        995  995    0.004  a
        996  996    0.003  a
        997  997    0.002  a
        998  998    0.001  a
        999  999    0      a
    """
    if not table:
        return _title(table)
    head, tail = _cells(table, _parts(table, _TEXT_ROWS), list(table))
    whole = [["", *table], *head, *tail]
    lines = [[middle_elided(cell, _CELL) for cell in row] for row in whole]
    kept = _fitting(_widths(lines))
    if None in kept:  # paths take most of the room, and other columns say whose a row is
        lines = [[middle_elided(cell, _NARROW) for cell in row] for row in whole]
        kept = _fitting(_widths(lines))
    shown = [["..." if place is None else row[place] for place in kept] for row in lines]
    split = 1 + len(head)
    rows = Section("", None, (), _length(table) + 1, shown[:split], shown[split:])
    return summary_text(Summary(_title(table), (), [rows], 1))


def _widths(lines: list[list[str]]) -> list[int]:
    return [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]


def table_html(table: Columns) -> str:
    """Return the HTML of a table."""
    first, last = places(len(table), _HTML_COLUMNS)
    names = list(table)
    kept = names[: first.stop] + names[last.start :]
    head, tail = _cells(table, _parts(table, _HTML_ROWS), kept)
    facts = [("left out", counted(len(names) - len(kept), "column"))] if len(kept) < len(names) else []
    shown = Section("rows", None, ["", *kept], _length(table), head, tail)
    return summary_html(Summary(_title(table), facts, [shown], 1))


def _title(table: Columns) -> str:
    return f"Table: {counted(_length(table), 'row')}, {counted(len(table), 'column')}"


def _length(table: Columns) -> int:
    return max(map(len, table.values()), default=0)


def _parts(table: Columns, rows: tuple[int, int]) -> tuple[range, range]:
    """Return which rows are shown: all of them where these are few."""
    count, (head, tail) = _length(table), rows
    return (range(count), range(0)) if count <= head + tail else (range(head), range(count - tail, count))


def _cells(
    table: Columns, parts: tuple[range, range], names: list[str]
) -> tuple[list[list[str]], list[list[str]]]:
    head, tail = [
        [[str(place), *(_cell(table[name], place) for name in names)] for place in part] for part in parts
    ]
    return head, tail


def _cell(column: Any, place: int) -> str:
    """Return the text of a value; the columns that a program adds may be shorter."""
    if place >= len(column):
        return ""
    value = column[place]
    if isinstance(value, np.datetime64):
        return "-" if np.isnat(value) else np.datetime_as_string(value, unit="s").replace("T", " ")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return f"{value:g}"
    return middle_elided(value, _CELL) if isinstance(value, str) else value_text(value, _CELL)


def _fitting(widths: list[int]) -> list[int | None]:
    """Return the places of the columns that a line has room for; None stands for what is left out.

    The first say whose a row is, the last have its metrics and configs; of the first there are more.

    Examples
    --------
    >>> _fitting([4, 40, 8, 40, 8, 8]), _fitting([4, 8])
    ([0, 1, 2, None, 4, 5], [0, 1])
    """
    if sum(widths) <= _WIDTH:
        return list(range(len(widths)))
    room = _WIDTH - widths[0] - widths[-1] - len("...  ")
    first, last = 1, len(widths) - 1
    while first < last:
        ends = [first, last - 1]
        if first > 2 * (len(widths) - last):
            ends.reverse()
        fitting = [end for end in ends if widths[end] <= room]
        if not fitting:
            break
        at = fitting[0]
        room -= widths[at]
        first, last = (first + 1, last) if at == first else (first, at)
    return [*range(first), None, *range(last, len(widths))]
