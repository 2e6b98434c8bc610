"""The command ``python -m benchmarks.pages RESULTS.json ...``: it writes measured times into tables of pages.

A table of times has a column a library, a row an operation, and rows of one shape after the other: the first
of a shape is labelled ``SHAPE: OPERATION``. tests/benchmarks/test_figures.py reads the pages on its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.goals import ratio
from benchmarks.runner import Result
from benchmarks.tables import OURS

__all__ = ["PAGES", "Results", "cell_words", "fill", "main", "read_results"]

Results = Mapping[str, Sequence[Result]]
"""Rows by the file that has them, paths from the root of the project."""

_ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": False, "docs/speed.md": True, "docs/comparison.md": False}
"""Pages, and whether their cells also have our time over the library's."""
SHAPES = {"292 arrays, 1.1 GB": "transformer", "20,000 arrays, 82 MB": "small", "20 arrays, 0.3 MB": "cnn"}
OPERATIONS = {"save": "save", "save, durable": "save-durable", "load": "load", "open + one": "open-one"}
PEERS = {"again": "fedarchive again", "torch.save": "torch"}
"""Headings that are not the name of a peer."""
_SOURCE = "measured in"
"""The column that names the results."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill every page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pages", description="Write measured times into the tables of the pages."
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="+",
        help="what `python -m benchmarks --out` wrote; of a cell that several have, the first is taken",
    )
    results = read_results(parser.parse_args(arguments).results)
    for page, ratios in PAGES.items():
        path = _ROOT / page
        lines = fill(path.read_text(encoding="utf-8").splitlines(), results, ratios=ratios)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def read_results(paths: Sequence[Path]) -> Results:
    """Return what was measured, by file."""
    return {
        path.resolve().relative_to(_ROOT).as_posix(): [
            Result(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        ]
        for path in paths
    }


def fill(lines: Sequence[str], results: Results, *, ratios: bool) -> list[str]:
    """Return a page's lines with the cells of its tables of times written anew."""
    filled: list[str] = []
    peers: list[str] = []
    shape = ""
    for line in lines:
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        if not line.startswith("|"):
            peers = []
        elif OURS in cells and not peers:
            peers = cells[1:]
        elif peers and "---" not in line:
            title, colon, operation = cells[0].partition(": ")
            shape = SHAPES.get(title, "") if colon else shape
            name = OPERATIONS.get(operation or title, "")
            if shape and name:
                times = _row_cells(results, shape, name, peers, ratios)
                line = f"| {' | '.join([cells[0], *times])} |"
        filled.append(line)
    return filled


def _row_cells(results: Results, shape: str, operation: str, peers: Sequence[str], ratios: bool) -> list[str]:
    """Return the cells of a row; the last column may name the files that have them."""
    words, sources = [], []
    for peer in peers:
        wanted = PEERS.get(peer, peer)
        for source, rows in results.items():
            measured = [
                row for row in rows if (row.shape, row.operation) == (shape, operation) and row.seconds
            ]
            found = {row.peer: row for row in measured}
            if wanted in found:
                words.append(cell_words(found[wanted], found.get(OURS) if ratios else None))
                sources.append(f"`{source}`")
                break
        else:
            words.append(", ".join(dict.fromkeys(sources)) if peer == _SOURCE else "")
    return words


def cell_words(row: Result, ours: Result | None) -> str:
    """Return milliseconds and, of another library where ``ours`` is given, our time over its in brackets."""
    text = _rounded(statistics.median(row.seconds) * 1000)
    if ours and not row.peer.startswith(OURS):
        text += f" ({_rounded(ratio(ours, row))})"
    return text


def _rounded(value: float) -> str:
    """Return two digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


if __name__ == "__main__":
    raise SystemExit(main())
