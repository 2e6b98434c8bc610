"""Results as text, Markdown and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.goals import Outcome, outcomes, ratio
from benchmarks.operations import OPERATIONS, WAYS
from benchmarks.peers import PEERS
from benchmarks.runner import Result
from benchmarks.shapes import GROWTH, SHAPES
from benchmarks.tables import (
    OURS,
    aligned,
    command_rows,
    edit_rows,
    goal_rows,
    growth_rows,
    heading,
    look_rows,
    markdown,
    size_words,
    summary_rows,
    time_words,
    way_rows,
    wide_rows,
)

__all__ = ["as_json", "as_markdown", "closing_lines", "facts_lines", "table"]

_READING = (
    "In brackets and under ours/its our time over theirs: below 1 we are faster. "
    "Memory: peak of RssAnon over that before, in runs of their own."
)


def table(results: Sequence[Result], nbytes: int) -> list[str]:
    """Return one operation's rows, fastest first, ceilings last.

    ``ours/it`` is our time over that row's, the median of the runs that followed one another: below 1 we
    are faster; a library that is faster is marked.
    """
    measured = sorted((row for row in results if row.seconds), key=_order)
    ours = next((row for row in measured if row.peer == OURS), None)
    rows = [["", "median", "min", "spread", "runs", "ours/it", "GB/s", "memory", ""]]
    for row in measured:
        middle = statistics.median(row.seconds)
        ours_to_it = ratio(ours, row) if ours else None
        rows.append(
            [
                row.peer,
                time_words(middle),
                time_words(min(row.seconds)),
                f"{(max(row.seconds) - min(row.seconds)) / middle:.0%}",
                str(len(row.seconds)),
                f"{ours_to_it:.2f}" if ours_to_it and row is not ours else "",
                f"{nbytes / middle / 1e9:.2f}" if _moves_all(row.operation) else "",
                size_words(row.peak_bytes),
                _mark(row, ours_to_it),
            ]
        )
    operation = OPERATIONS[results[0].operation] if results else None
    title = f"  {operation.name}: {operation.title}" if operation else ""
    return [title, *aligned(rows), *(f"    {row.peer}: {row.skipped}" for row in results if row.skipped)]


def closing_lines(results: Sequence[Result], facts: dict[str, Any]) -> list[str]:
    """Return the tables of everything together."""
    cells, growth, commands, ways, edits, looks = _parts(results)
    parts = (
        ("ours beside the best peer and the ceiling", summary_rows(cells)),
        ("growth", growth_rows(growth)),
        ("every public way beside the best", way_rows(ways)),
        ("starting", command_rows(commands)),
        ("editing", edit_rows(edits)),
        ("stats and diff", look_rows(looks)),
        ("goals", goal_rows(_outcomes(results, facts))),
    )
    return [line for title, rows in parts if len(rows) > 1 for line in (f"\n{title}", *aligned(rows))]


def facts_lines(facts: dict[str, Any]) -> list[str]:
    """Return machine and versions, a line each."""
    return [
        f"{name}: {', '.join(f'{key} {value}' for key, value in facts[name].items())}"
        for name in ("machine", "versions")
    ]


def as_markdown(results: Sequence[Result], facts: dict[str, Any]) -> str:
    """Return a page: what the README shows first, then every peer."""
    cells, growth, commands, ways, edits, looks = _parts(results)
    cache = "cold" if facts["cold"] else "warm"
    lines = [
        f"# fedarchive beside its peers, {facts['created'][:10]}, {cache} page cache",
        "",
        *(f"{line}  " for line in facts_lines(facts)),
        f"Medians of {facts['runs']} interleaved runs, one process a cell. {_READING}",
    ]
    shapes = dict.fromkeys(row.shape for row in cells)
    parts = [
        ("Goals", goal_rows(_outcomes(results, facts))),
        ("Ours beside the best peer and the ceiling", summary_rows(cells)),
        ("What an array costs", growth_rows(growth)),
        ("Every public way beside the best", way_rows(ways)),
        ("What starting costs", command_rows(commands)),
        ("What an edit costs", edit_rows(edits)),
        ("What stats and diff cost", look_rows(looks)),
        *((heading(SHAPES[name]), wide_rows([row for row in cells if row.shape == name])) for name in shapes),
    ]
    for title, rows in parts:
        if len(rows) > 1:
            lines += ["", f"## {title}", "", *markdown(rows)]
    reasons = dict.fromkeys(f"- {row.shape}, {row.peer}: {row.skipped}" for row in cells if row.skipped)
    lines += ["", "Left out:", "", *reasons] if reasons else []
    return "\n".join(lines) + "\n"


def as_json(results: Sequence[Result], facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **facts,
        "goals": [
            {**asdict(o.goal), "against": o.against, "found": o.figure, "met": o.met}
            for o in _outcomes(results, facts)
            if o.figure is not None
        ],
        "cells": [
            {**asdict(row), "seconds": [float(f"{value:.6g}") for value in row.seconds]} for row in results
        ],
    }


def _outcomes(results: Sequence[Result], facts: dict[str, Any]) -> list[Outcome]:
    return [] if facts["cold"] else outcomes(results)  # promised of a warm page cache


def _parts(results: Sequence[Result]) -> tuple[list[Result], ...]:
    """Return what was measured of shapes, of growth, of commands, of ways, of edits and of looks."""
    ways = [row for row in results if row.operation in WAYS]
    cells = [row for row in results if row.shape in SHAPES and row.shape not in GROWTH and row not in ways]
    growth = [row for row in results if row.shape in GROWTH]
    commands, edits, looks = (
        [row for row in results if row.shape == name] for name in ("commands", "edits", "looks")
    )
    return cells, growth, commands, ways, edits, looks


def _moves_all(operation: str) -> bool:
    return operation in ("save", "save-durable", "load", "verify", "drain")


def _order(row: Result) -> tuple[bool, float]:
    return PEERS[row.peer].ceiling, statistics.median(row.seconds)


def _mark(row: Result, ours_to_it: float | None) -> str:
    if PEERS[row.peer].ceiling:
        return "ceiling"
    if row.peer.startswith(OURS):
        return "(we)"
    return "faster than we are" if ours_to_it and ours_to_it > 1 else ""
