"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.chart import draw
from benchmarks.commands import run_commands
from benchmarks.edits import run_edits
from benchmarks.goals import GROWING
from benchmarks.looks import run_looks
from benchmarks.machine import machine_facts, memory_bytes, versions
from benchmarks.operations import OPERATIONS, WAYS
from benchmarks.peers import PEERS, missing
from benchmarks.report import as_json, as_markdown, closing_lines, facts_lines, table
from benchmarks.runner import Result, run_shapes
from benchmarks.shapes import GROWTH, SHAPES
from benchmarks.tables import heading

_PARTS = ["shapes", "growth", "ways", "commands", "edits", "looks"]
_USUAL_SHAPES = ["cnn", "small", "transformer"]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    out: Path | None = options.out
    facts = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(options.folder),
        "versions": versions(),
        "runs": options.runs,
        "cold": options.cold,
    }
    print(*facts_lines(facts), sep="\n")
    results: list[Result] = []
    earlier = _earlier(out, options.cold) if out and options.add else []
    for rows in _measure(options):
        results += rows
        if out:
            _write(out, _together(earlier, results), facts)
    results = _together(earlier, results)
    print(*closing_lines(results, facts), sep="\n")
    if out and find_spec("matplotlib"):
        draw(results, out.with_suffix(".png"), f"{facts['created']}, {options.runs} runs")
    return 0


def _measure(options: argparse.Namespace) -> Iterator[list[Result]]:
    """Print and yield results as they come."""
    run = partial(
        run_shapes, runs=options.runs, patience=options.patience, folder=options.folder, cold=options.cold
    )
    for peer in options.peers:
        if missing(PEERS[peer]):
            print(f"{peer}: left out, {missing(PEERS[peer])} is not installed")
    peers = [name for name in PEERS if name in options.peers and not missing(PEERS[name])]
    operations = [name for name in OPERATIONS if name in options.operations]
    if options.cold:  # saving reads nothing
        operations = [name for name in operations if not OPERATIONS[name].writes]
    ways = [operations.pop(operations.index(name)) for name in WAYS if name in operations]
    for name in options.shapes if "shapes" in options.parts else ():
        shape = SHAPES[name]
        print(f"\n{heading(shape)}{'; COLD page cache' if options.cold else ''}", flush=True)
        if (1 + len({PEERS[peer].writes for peer in peers})) * shape.array_bytes > memory_bytes():
            print(
                "  input and files together exceed memory: some reads come from the disk; name fewer --peers"
            )
        for rows in run([shape], operations, peers):
            if rows:
                print(
                    *table(rows, shape.array_bytes),
                    f"    load {os.getloadavg()[0]:.2f}",
                    sep="\n",
                    flush=True,
                )
            yield rows
    if "growth" in options.parts and not options.cold:
        print("\ngrowth ...", flush=True)
        growing = [name for name in operations if name in GROWING]
        yield from run([SHAPES[name] for name in GROWTH], growing, ["fedarchive"])
    if "ways" in options.parts and not options.cold:
        print("\nways ...", flush=True)
        yield from run([SHAPES["small"]], ways, peers)
    if "commands" in options.parts and not options.cold:
        yield run_commands(3 * options.runs, options.folder)
    if "edits" in options.parts and not options.cold:
        print("\nedits ...", flush=True)
        yield run_edits(options.runs, options.folder)
    if "looks" in options.parts and not options.cold:
        print("\nlooks ...", flush=True)
        yield run_looks(options.runs, options.folder)


def _earlier(out: Path, cold: bool) -> list[Result]:
    found = json.loads(out.with_suffix(".json").read_text())
    if found["cold"] != cold:
        raise SystemExit(f"{out}.json is of a {'cold' if found['cold'] else 'warm'} page cache")
    return [Result(**cell) for cell in found["cells"]]


def _together(earlier: list[Result], results: list[Result]) -> list[Result]:
    """Return results, and the earlier ones of cells that were not measured again."""
    again = {(row.shape, row.operation) for row in results}
    return [*(row for row in earlier if (row.shape, row.operation) not in again), *results]


def _write(out: Path, results: list[Result], facts: dict[str, Any]) -> None:
    """Write after every operation: a long run that is stopped has lost nothing."""
    out.with_suffix(".json").write_text(json.dumps(as_json(results, facts), indent=1) + "\n")
    out.with_suffix(".md").write_text(as_markdown(results, facts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time fedarchive and its peers side by side; ours/it below 1 means that we are faster.",
    )
    _choice(parser, "--parts", _PARTS, _PARTS)
    _choice(parser, "--shapes", SHAPES, _USUAL_SHAPES)
    _choice(parser, "--operations", OPERATIONS, list(OPERATIONS))
    _choice(parser, "--peers", PEERS, list(PEERS))
    parser.add_argument("--runs", type=int, default=7, help="rounds of each operation (7)")
    parser.add_argument("--patience", type=float, default=60, help="seconds for the rounds of one cell (60)")
    parser.add_argument("--cold", action="store_true", help="drop the file's pages before every read")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where files are written"
    )
    parser.add_argument("--out", type=Path, help="write OUT.json, OUT.md and, with matplotlib, OUT.png")
    parser.add_argument("--add", action="store_true", help="keep what OUT.json holds of other operations")
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
