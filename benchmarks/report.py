"""Results as text and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.goals import Outcome, outcomes, ratio
from benchmarks.operations import OPERATIONS
from benchmarks.peers import PEERS
from benchmarks.runner import Result
from benchmarks.shapes import Shape

__all__ = ["as_json", "goal_lines", "heading", "table"]

_OURS = "fedarchive"


def heading(shape: Shape) -> str:
    size = shape.array_bytes
    return f"{shape.name}: {shape.title}; {len(shape.entries):,} arrays, {_bytes(size)}"


def table(results: Sequence[Result], nbytes: int) -> str:
    """Return one operation's rows, fastest first, ceilings last.

    ``ours/it`` is our time over that row's, the median of the runs that followed one another: below 1 we
    are faster; a library that is faster is marked.
    """
    measured = sorted((row for row in results if row.seconds), key=_order)
    ours = next((row for row in measured if row.peer == _OURS), None)
    rows = [("", "median", "min", "spread", "runs", "ours/it", "GB/s", "memory", "")]
    for row in measured:
        middle = statistics.median(row.seconds)
        ours_to_it = ratio(ours, row) if ours else None
        rows.append(
            (
                row.peer,
                _time(middle),
                _time(min(row.seconds)),
                f"{(max(row.seconds) - min(row.seconds)) / middle:.0%}",
                str(len(row.seconds)),
                f"{ours_to_it:.2f}" if ours_to_it and row is not ours else "",
                f"{nbytes / middle / 1e9:.2f}"
                if row.operation in ("save", "save-durable", "load", "verify")
                else "",
                _bytes(row.peak_bytes),
                _mark(row, ours_to_it),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    operation = OPERATIONS[results[0].operation] if results else None
    lines = [f"  {operation.name}: {operation.title}" if operation else ""]
    for cells in rows:
        first, *rest = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("    " + "  ".join([first, *rest[:-1], rest[-1].strip()]).rstrip())
    lines += [f"    {row.peer}: {row.skipped}" for row in results if row.skipped]
    return "\n".join(lines)


def goal_lines(results: Iterable[Result]) -> list[str]:
    """Return what came of every goal, misses plainly."""
    return [_goal(outcome) for outcome in outcomes(results)]


def as_json(results: Sequence[Result], facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **facts,
        "goals": [
            {**asdict(o.goal), "peer": o.peer, "ratio": round(o.ratio, 4), "met": o.met}
            for o in outcomes(results)
        ],
        "cells": [
            {**asdict(row), "seconds": [float(f"{value:.6g}") for value in row.seconds]} for row in results
        ],
    }


def _goal(outcome: Outcome) -> str:
    goal = outcome.goal
    verdict = "met" if outcome.met else f"MISSED by {outcome.ratio / goal.most - 1:.0%}"
    return (
        f"  {goal.issue}  {goal.operation} {goal.shape}: {goal.subject} / {outcome.peer} = "
        f"{outcome.ratio:.2f}, goal at most {goal.most:.2f}: {verdict}"
    )


def _order(row: Result) -> tuple[bool, float]:
    return PEERS[row.peer].ceiling, statistics.median(row.seconds)


def _mark(row: Result, ours_to_it: float | None) -> str:
    if PEERS[row.peer].ceiling:
        return "ceiling"
    if row.peer.startswith(_OURS):
        return "(we)"
    return "faster than we are" if ours_to_it and ours_to_it > 1 else ""


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.2f} ms"


def _bytes(count: int) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
