"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.chart import draw
from benchmarks.machine import machine_facts, versions
from benchmarks.operations import OPERATIONS
from benchmarks.peers import PEERS, missing
from benchmarks.report import as_json, goal_lines, heading, table
from benchmarks.runner import Result, run_shape
from benchmarks.shapes import SHAPES

_USUAL_SHAPES = ["cnn", "small", "transformer"]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    peers = [name for name in PEERS if name in options.peers]
    operations = [name for name in OPERATIONS if name in options.operations]
    facts = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(options.folder),
        "versions": versions(),
        "runs": options.runs,
        "cold": options.cold,
    }
    for name in ("machine", "versions"):
        print(f"{name}:", ", ".join(f"{key} {value}" for key, value in facts[name].items()))
    for peer in peers:
        if missing(PEERS[peer]):
            print(f"{peer}: left out, {missing(PEERS[peer])} is not installed")
    peers = [peer for peer in peers if not missing(PEERS[peer])]
    results: list[Result] = []
    for shape in (SHAPES[name] for name in options.shapes):
        print(f"\n{heading(shape)}{'; COLD page cache' if options.cold else ''}", flush=True)
        for rows in run_shape(
            shape,
            operations,
            peers,
            runs=options.runs,
            patience=options.patience,
            folder=options.folder,
            cold=options.cold,
        ):
            results += rows
            if rows:
                print(f"{table(rows, shape.array_bytes)}\n    load {os.getloadavg()[0]:.2f}", flush=True)
            _write_json(options.json, results, facts)
    print("\ngoals", *goal_lines(results), sep="\n")
    if options.chart:
        draw(results, options.chart, f"{facts['created']}, {options.runs} runs")
    return 0


def _write_json(path: Path | None, results: list[Result], facts: dict[str, object]) -> None:
    """Write after every operation: a long run that is stopped has lost nothing."""
    if path:
        path.write_text(json.dumps(as_json(results, facts), indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time fedarchive and its peers side by side; ours/it below 1 means that we are faster.",
    )
    _choice(parser, "--shapes", SHAPES, _USUAL_SHAPES)
    _choice(parser, "--operations", OPERATIONS, list(OPERATIONS))
    _choice(parser, "--peers", PEERS, list(PEERS))
    parser.add_argument("--runs", type=int, default=7, help="rounds of each operation (7)")
    parser.add_argument("--patience", type=float, default=60, help="seconds for the rounds of one cell (60)")
    parser.add_argument("--cold", action="store_true", help="drop the file's pages before every read")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where files are written"
    )
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--chart", type=Path, help="draw them here (needs matplotlib)")
    return parser


def _choice(parser: argparse.ArgumentParser, flag: str, known: Iterable[str], default: list[str]) -> None:
    parser.add_argument(
        flag,
        nargs="+",
        choices=list(known),
        default=default,
        metavar="NAME",
        help=f"of: {', '.join(known)} (default: {', '.join(default) if len(default) < 5 else 'all'})",
    )


if __name__ == "__main__":
    raise SystemExit(main())
