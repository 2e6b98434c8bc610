"""``fedarchive info``: facts about an archive, without reading an array."""

from __future__ import annotations

import argparse
from typing import Any

from archive.cli.exits import OK
from archive.cli.options import define_archives, open_archive, open_run
from archive.cli.output import show
from archive.cli.overview import archive_facts, show_overview
from archive.cli.runs import show_run
from archive.cli.text import columns, printable, size
from archive.cli.words import find_targets, is_one

__all__ = ["DESCRIPTION", "define", "record_line", "run"]

DESCRIPTION = """\
Print facts about an archive without reading an array; of several, a pattern or a folder one line an archive.
What cannot be read is reported, and the rest is listed.

JSON: path, container (recordset, recorddict or context), version, writer, created, arrays,
array_bytes, file_bytes, access, verified; records, a list of {kind, name, arrays}, kind is arrays,
metrics or configs; context, null or {run_id, node_id} (null under --foreign). Of the folder of a run
without --round and --client: as of `fedarchive runs show`. Of several: archives, a list of these, of a run
its newest round; and errors, a list of {path, kind, message}. CSV: a row for each archive."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    define_archives(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the facts about one archive or run, or a line for each of several."""
    targets = find_targets(arguments, arguments.paths)
    if not is_one(arguments.paths, targets):
        return show_overview(arguments, targets)
    store = open_run(arguments, arguments.paths[0])
    if store is not None and (arguments.round, arguments.client) == (None, None):
        return show_run(store, arguments)
    with open_archive(arguments, arguments.paths[0]) as handle:
        facts = archive_facts(handle)
    show(arguments, facts, _lines(facts))
    return OK


def record_line(kind: str, name: str, arrays: int) -> str:
    """Return the line of one record."""
    counted = f", {arrays} arrays" if kind == "arrays" else ""
    return f"{kind}/{printable(name)}{counted}"


def _lines(facts: dict[str, Any]) -> list[str]:
    shown = {
        **facts,
        "version": facts["version"] or "none",
        "records": len(facts["records"]),
        "array_bytes": f"{facts['array_bytes']} ({size(facts['array_bytes'])})",
        "file_bytes": f"{facts['file_bytes']} ({size(facts['file_bytes'])})",
    }
    rows: list[list[str]] = []
    for fact, value in shown.items():
        if fact == "context":
            if value is not None:
                rows.append([fact, f"run {value['run_id']}, node {value['node_id']}"])
            continue
        rows.append([fact.replace("_", " "), printable(str(value)) or "unknown"])
        if fact == "records":
            rows += [["", record_line(**record)] for record in facts["records"]]
    return columns(rows)
