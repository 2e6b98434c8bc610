"""Results as rows of words: the terminal and the Markdown page show the same ones."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.commands import COMMANDS
from benchmarks.edits import EDITS
from benchmarks.goals import Outcome, ratio
from benchmarks.looks import LOOKS
from benchmarks.operations import OPERATIONS
from benchmarks.peers import PEERS
from benchmarks.peers.ways import BEST
from benchmarks.runner import Result
from benchmarks.shapes import GROWTH, SHAPES, Shape

__all__ = [
    "OURS",
    "Rows",
    "aligned",
    "command_rows",
    "edit_rows",
    "goal_rows",
    "growth_rows",
    "heading",
    "look_rows",
    "markdown",
    "size_words",
    "summary_rows",
    "time_words",
    "way_rows",
    "wide_rows",
]

Rows = list[list[str]]

OURS = "fedarchive"
_AGAIN = "fedarchive again"
_UNVERIFIED = "fedarchive verify=off"


def aligned(rows: Rows) -> list[str]:
    """Return lines of columns: the first and the last flush left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("    " + "  ".join([first.ljust(widths[0]), *cells[:-1], cells[-1].strip()]).rstrip())
    return lines


def markdown(rows: Rows) -> list[str]:
    """Return the lines of a table whose header is the first row; ``a[b][c]`` in a cell is no link."""
    lines = [f"| {' | '.join(row)} |".replace("][", "]\\[") for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def goal_rows(outcomes: Sequence[Outcome]) -> Rows:
    """Return figure, bound and verdict of every goal, misses plainly."""
    return [["goal", "figure", "at most", "verdict"], *map(_goal, outcomes)]


def growth_rows(results: Sequence[Result]) -> Rows:
    """Return microseconds an array, for each operation and count."""
    rows = [["microseconds an array", *(SHAPES[name].title for name in GROWTH), "last to first"]]
    for operation in OPERATIONS:
        found = {row.shape: row for row in results if row.operation == operation and row.seconds}
        if all(name in found for name in GROWTH):
            several = [found[name] for name in GROWTH]
            each = [statistics.median(row.seconds) / row.arrays * 1e6 for row in several]
            rows.append([operation, *(f"{value:.3g}" for value in each), f"{each[-1] / each[0]:.2f}"])
    return rows


def command_rows(results: Sequence[Result]) -> Rows:
    """Return what each command takes, and its ratio to the first."""
    found = {(row.operation, row.peer): row for row in results}
    rows = [["process of Python", "processor", "wall", "processor, ratio", "wall, ratio"]]
    for name in COMMANDS if found else ():
        clocks = [found[clock, name] for clock in ("cpu", "wall")]
        firsts = [found[clock, COMMANDS[0]] for clock in ("cpu", "wall")]
        rows.append(
            [
                name,
                *(time_words(statistics.median(row.seconds)) for row in clocks),
                *(f"{ratio(row, first):.2f}" for row, first in zip(clocks, firsts, strict=True)),
            ]
        )
    return rows


def edit_rows(results: Sequence[Result]) -> Rows:
    """Return what changing one layer takes, and its ratio to a copy of the file."""
    found = {row.peer: row for row in results}
    rows = [["one layer of 2 GB, on the disk", "median", "min", "ratio"]]
    for number, name in enumerate(EDITS if found else ()):
        row, other = found[name], found[EDITS[number - number % 2]]
        times = [time_words(statistics.median(row.seconds)), time_words(min(row.seconds))]
        rows.append([name, *times, f"{ratio(row, other):.2f}"])
    return rows


def look_rows(results: Sequence[Result]) -> Rows:
    """Return what looking into two archives takes, and its ratio to loading both."""
    found = {row.peer: row for row in results}
    rows = [["two archives of 1.1 GB", "median", "min", "ratio", "ratio of min", "memory"]]
    for name in LOOKS if found else ():
        row, load = found[name], found[LOOKS[0]]
        times = [time_words(statistics.median(row.seconds)), time_words(min(row.seconds))]
        ratios = f"{ratio(row, load):.2f}", f"{min(row.seconds) / min(load.seconds):.2f}"
        rows.append([name, *times, *ratios, size_words(row.peak_bytes) if row.peak_bytes else ""])
    return rows


def summary_rows(results: Sequence[Result]) -> Rows:
    """Return one row for every shape and operation: we, the best other library, the ceiling.

    ``again`` is a schema that the process has met; ``unverified`` is ``verify="off"``.
    """
    rows = [["", OURS, "again", "unverified", "best peer", "ours/its", "ceiling", "ours/its", "our memory"]]
    for (shape, operation), found in _groups(results).items():
        ours = found.get(OURS)
        if not ours:
            continue
        ways = (ours, found.get(_AGAIN), found.get(_UNVERIFIED))
        times = [time_words(statistics.median(way.seconds)) if way else "" for way in ways]
        row = [f"{_short(SHAPES[shape])}: {operation}", *times]
        libraries = [other for other in found.values() if not other.peer.startswith(OURS)]
        for ceiling in (False, True):
            rivals = [other for other in libraries if PEERS[other.peer].ceiling == ceiling]
            best = min(rivals, key=lambda other: statistics.median(other.seconds), default=None)
            row.append(f"{best.peer}, {time_words(statistics.median(best.seconds))}" if best else "")
            row.append(f"{ratio(ours, best):.2f}" if best else "")
        rows.append([*row, size_words(ours.peak_bytes)])
    return rows


def wide_rows(results: Sequence[Result]) -> Rows:
    """Return a row for every operation and a column for every peer: median, and our time over theirs."""
    groups = _groups(results)
    peers = [name for name in PEERS if any(name in found for found in groups.values())]
    rows = [["", *peers]]
    for (_, operation), found in groups.items():
        ours = found.get(OURS)
        cells = []
        for name in peers:
            row = found.get(name)
            text = time_words(statistics.median(row.seconds)) if row else ""
            cells.append(f"{text} ({ratio(ours, row):.2f})" if row and ours and row is not ours else text)
        rows.append([operation, *cells])
    return rows


def way_rows(results: Sequence[Result]) -> Rows:
    """Return each public way, its median and memory, and its time over that of the best way."""
    rows = [["20,000 arrays", "median", "to the best way", "memory"]]
    for (_, operation), found in _groups(results).items():
        best = found.get(BEST[operation])
        for name, row in found.items():
            compared = f"{ratio(row, best):.2f}" if best and row is not best else ""
            title = f"{operation.removeprefix('ways-')}: {name}"
            rows.append(
                [title, time_words(statistics.median(row.seconds)), compared, size_words(row.peak_bytes)]
            )
    return rows


def heading(shape: Shape) -> str:
    return f"{shape.name}: {shape.title}; {_short(shape)}"


def time_words(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.2f} ms"


def size_words(count: float) -> str:
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def _groups(results: Sequence[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    groups: dict[tuple[str, str], dict[str, Result]] = {}
    for row in results:
        if row.seconds:
            groups.setdefault((row.shape, row.operation), {})[row.peer] = row
    return groups


def _short(shape: Shape) -> str:
    count = len(shape.entries)
    return f"{count:,} array{'s' if count > 1 else ''}, {size_words(shape.array_bytes)}"


def _goal(outcome: Outcome) -> list[str]:
    goal, figure = outcome.goal, outcome.figure
    words = {"times": "{:.2f}".format, "growth": "{:.2f}".format, "seconds": time_words, "bytes": size_words}
    against = outcome.against or " or ".join(goal.peers) or {"growth": GROWTH[0]}.get(goal.figure, "")
    what = {"growth": ", time an array", "bytes": ", anonymous memory"}.get(goal.figure, "")
    name = f"{goal.operation} {goal.shape}: {goal.subject}{what}{f' / {against}' if against else ''}"
    says = words[goal.figure]
    if figure is None:
        return [name, "", says(goal.most), "not measured"]
    verdict = "met" if outcome.met else f"MISSED by {figure / goal.most - 1:.0%}"
    return [name, says(figure), says(goal.most), verdict]
