"""Differences of archives as the JSON of the page, what changed most first."""

from __future__ import annotations

from typing import Any

from archive.display.texts import counted, value_text
from archive.report.excerpts import number, shown_name
from archive.report.runfigures import Difference
from archive.tools.differences import ArrayDiff, ValueDiff

__all__ = ["difference_rows"]

CHANGES = 200
"""Rows of a list."""


def difference_rows(one: Difference, run: str) -> dict[str, Any]:
    """Return a difference, which is listed among those of a run."""
    found = one.found
    changed = sorted(found.changed, key=lambda change: -change.relative_norm)
    rows = [
        [
            shown_name(f"{change.record}/{change.key}", 120),
            shown_name(", ".join(change.differs), 60),
            *_distances(change),
        ]
        for change in changed[:CHANGES]
    ]
    return {
        "run": "" if one.across else shown_name(run),
        "first": shown_name(one.first),
        "second": shown_name(one.second),
        "same": found.same,
        "changed": len(found.changed),
        "rows": rows,
        "only": [
            [side, shown_name("/".join(name), 120)]
            for side, names in (("first", found.only_a), ("second", found.only_b))
            for name in names[:CHANGES]
        ],
        "only_total": [len(found.only_a), len(found.only_b)],
        "values": [
            [_value_name(change), _side(change.a), _side(change.b)] for change in found.values[:CHANGES]
        ],
        "values_total": counted(len(found.values), "value"),
    }


def _distances(change: ArrayDiff) -> list[Any]:
    """Return how far an array went; None of each where elements were not compared."""
    if not change.compared:
        return [None] * 6
    figures = change.max_abs, change.norm, change.relative_norm, change.cosine
    return [change.elements, change.different, *map(number, figures)]


def _value_name(change: ValueDiff) -> str:
    return shown_name("/".join(filter(None, (change.kind, change.record, change.key))), 120)


def _side(value: object) -> str:
    return "nothing" if value is None else value_text(value, 80)
