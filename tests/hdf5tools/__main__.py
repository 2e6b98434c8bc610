"""``python -m tests.hdf5tools``: every HDF5 tool over archives of every kind. `poe hdf5-tools`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.hdf5tools.kinds import KINDS, Kind, MissingError
from tests.hdf5tools.page import page
from tests.hdf5tools.running import Cell, environment, judged, make, said_by
from tests.hdf5tools.tools import APT, ROOT, TOOLS, MissingToolError, Tool, find

PAGE = ROOT / "docs/hdf5-tools.md"
WORKERS = 2 * (os.cpu_count() or 1)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    default = os.environ.get("FEDARCHIVE_HDF5_TOOLS") or Path.home() / ".cache/fedarchive/hdf5-tools"
    parser = argparse.ArgumentParser(prog="python -m tests.hdf5tools", description=__doc__)
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(default),
        help="folder of the environments; remove it to get newer versions",
    )
    parser.add_argument("--tool", action="append", help="only tools whose name holds this; writes no page")
    parser.add_argument("--kind", action="append", help="only kinds whose name holds this; writes no page")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    return parser.parse_args(words)


def chosen(things: Sequence[Any], words: Sequence[str] | None) -> list[Any]:
    return [thing for thing in things if not words or any(word in thing.name for word in words)]


def installed(
    tools: Sequence[Tool], cache: Path, variables: Mapping[str, str]
) -> dict[Tool, list[str] | None]:
    """Return the command of each tool, None where it is missing."""
    found: dict[Tool, list[str] | None] = {}
    for tool in tools:
        try:
            found[tool] = find(tool, cache)
        except MissingToolError as error:
            sys.stderr.write(f"{tool.name} is missing: {error}\n")
            found[tool] = None
    if None in found.values():
        sys.stderr.write(f"of Debian: apt install {APT}\n")
    return found


def versions_of(tool: Tool, command: list[str] | None, variables: Mapping[str, str]) -> dict[str, str]:
    said = "missing" if command is None else said_by(command, variables)
    return {"tool": said, "hdf5": "-"} if isinstance(said, str) else said


def row(
    kind: Kind, folder: Path, commands: Mapping[Tool, list[str] | None], variables: Mapping[str, str]
) -> dict[str, Cell]:
    """Return the cells of one kind, by tool."""
    try:
        files = make(kind, folder)
    except MissingError as error:
        sys.stderr.write(f"{kind.name}: {error} is not here\n")
        return {tool.name: Cell("missing") for tool in commands}
    cells = {}
    for tool, command in commands.items():
        cell = Cell("missing") if command is None else judged(command, files, tool.loose, variables)
        cells[tool.name] = cell
        if cell.verdict == "wrong":
            report(kind, tool, cell)
    shutil.rmtree(folder)
    sys.stderr.write(f"{kind.name}: {' '.join(cell.verdict for cell in cells.values())}\n")
    return cells


def report(kind: Kind, tool: Tool, cell: Cell) -> None:
    sys.stderr.write(f"WRONG: {tool.name}, {kind.name}: {cell.ours.failure}\n")
    for difference in cell.ours.differences[:5]:
        sys.stderr.write(f"  {difference.place!a}: saved {difference.saved!a}, said {difference.said!a}\n")


def main(words: Sequence[str]) -> int:
    """Run, write the page, and return 1 where a cell is wrong."""
    options = arguments(words)
    options.cache.mkdir(parents=True, exist_ok=True)
    tools, kinds = chosen(TOOLS, options.tool), chosen(KINDS, options.kind)
    variables = environment(options.cache)
    commands = installed(tools, options.cache, variables)
    versions = {tool.name: versions_of(tool, command, variables) for tool, command in commands.items()}
    with (
        tempfile.TemporaryDirectory(prefix="fedarchive-hdf5-tools-") as folder,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        places = [Path(folder, str(number)) for number in range(len(kinds))]
        pairs = sorted(zip(kinds, places, strict=True), key=lambda pair: not pair[0].is_slow)
        rows = {kind: pool.submit(row, kind, place, commands, variables) for kind, place in pairs}
        table = {kind.name: rows[kind].result() for kind in kinds}
    before = PAGE.read_text(encoding="utf-8")
    text = page(before, table, versions, datetime.now(timezone.utc).date())
    if len(tools) == len(TOOLS) and len(kinds) == len(KINDS):
        options.page.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return int(any(cell.verdict == "wrong" for cells in table.values() for cell in cells.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
