"""Results as one picture: a panel for every operation and shape, bars of the peers, time as a logarithm."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.runner import Result

__all__ = ["draw"]

_COLUMNS = 3


def draw(results: Sequence[Result], path: Path, title: str) -> None:
    """Draw medians, with a whisker from the fastest run to the slowest."""
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    panels: dict[tuple[str, str], list[Result]] = {}
    for row in results:
        if row.seconds:
            panels.setdefault((row.shape, row.operation), []).append(row)
    lines = -(-len(panels) // _COLUMNS) or 1
    figure, axes = pyplot.subplots(lines, _COLUMNS, figsize=(16, 2.8 * lines), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, ((shape, operation), rows) in zip(axes.flat, panels.items(), strict=False):
        rows.sort(key=lambda row: -statistics.median(row.seconds))
        middles = [statistics.median(row.seconds) * 1e3 for row in rows]
        below = [m - min(row.seconds) * 1e3 for m, row in zip(middles, rows, strict=True)]
        above = [max(row.seconds) * 1e3 - m for m, row in zip(middles, rows, strict=True)]
        colors = [_color(row.peer) for row in rows]
        axis.barh([row.peer for row in rows], middles, xerr=[below, above], color=colors, ecolor="#555555")
        axis.set_xscale("log")
        axis.set_title(f"{operation}, {shape} (ms)", fontsize=9)
        axis.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _color(peer: str) -> str:
    if peer.startswith("fedarchive"):
        return "#1b7837"
    return "#bbbbbb" if PEERS[peer].ceiling else "#7b9fc7"
