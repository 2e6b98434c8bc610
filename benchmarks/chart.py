"""Results as one picture: a panel for every operation and shape, and one for what an array costs."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.runner import Result
from benchmarks.shapes import GROWTH, SHAPES

__all__ = ["draw"]

_COLUMNS = 3


def draw(results: Sequence[Result], path: Path, title: str) -> None:
    """Draw medians as bars, with a whisker from the fastest run to the slowest; time as a logarithm."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    panels: dict[tuple[str, str], list[Result]] = {}
    growth: dict[str, list[Result]] = {}
    for row in results:
        if row.shape in GROWTH:
            growth.setdefault(row.operation, []).append(row)
        elif row.seconds and row.shape in SHAPES:
            panels.setdefault((row.shape, row.operation), []).append(row)
    count = len(panels) + bool(growth)
    lines = -(-count // _COLUMNS) or 1
    figure, axes = pyplot.subplots(lines, _COLUMNS, figsize=(16, 2.8 * lines), squeeze=False)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis, ((shape, operation), rows) in zip(axes.flat, panels.items(), strict=False):
        _bars(axis, rows)
        axis.set_title(f"{operation}, {shape} (ms)", fontsize=9)
    if growth:
        _growth(axes.flat[len(panels)], growth)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path)
    pyplot.close(figure)


def _bars(axis: Any, rows: list[Result]) -> None:
    rows.sort(key=lambda row: -statistics.median(row.seconds))
    middles = [statistics.median(row.seconds) * 1e3 for row in rows]
    below = [m - min(row.seconds) * 1e3 for m, row in zip(middles, rows, strict=True)]
    above = [max(row.seconds) * 1e3 - m for m, row in zip(middles, rows, strict=True)]
    colors = [_color(row.peer) for row in rows]
    names = [row.peer for row in rows]
    bars = axis.barh(names, middles, xerr=[below, above], color=colors, ecolor="#555555")
    axis.set_xscale("log")
    axis.bar_label(bars, fmt="%.3g", fontsize=7, padding=3)
    axis.margins(x=0.15)
    axis.tick_params(labelsize=7)
    axis.tick_params(which="minor", labelbottom=False)


def _growth(axis: Any, growth: dict[str, list[Result]]) -> None:
    for operation, rows in growth.items():
        measured = [row for row in rows if row.seconds]
        each = [statistics.median(row.seconds) / row.arrays * 1e6 for row in measured]
        axis.loglog([row.arrays for row in measured], each, marker="o", label=operation)
    axis.set_title("microseconds an array, by their number", fontsize=9)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7)


def _color(peer: str) -> str:
    if peer.startswith("fedarchive"):
        return "#1b7837"
    return "#bbbbbb" if PEERS[peer].ceiling else "#7b9fc7"
