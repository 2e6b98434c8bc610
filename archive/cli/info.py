"""``fedarchive info``: facts about an archive, without reading an array."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from archive.cli.exits import OK
from archive.cli.options import define_archive, open_archive, open_run
from archive.cli.output import show
from archive.cli.runs import show_run
from archive.cli.text import columns, printable, size

if TYPE_CHECKING:
    from archive.engine.read.handle import Info

__all__ = ["DESCRIPTION", "define", "list_records", "record_line", "run"]

DESCRIPTION = """\
Print facts about an archive without reading an array.

JSON: path, container (recordset, recorddict or context), version, writer, created, arrays,
array_bytes, file_bytes, access, verified; records, a list of {kind, name, arrays}, kind is arrays,
metrics or configs; context, null or {run_id, node_id} (null under --foreign). Of the folder of a run: as of
`fedarchive runs show`."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    define_archive(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the facts about one archive, or about one run."""
    store = open_run(arguments, arguments.path)
    if store is not None and (arguments.round, arguments.client) == (None, None):
        return show_run(store, arguments)
    with open_archive(arguments) as handle:
        info = handle.info
        # the fields of a context are in the index, which a foreign file lacks
        known = info.container == "context" and not arguments.foreign
        context = handle.context if known else None
    facts = {
        "path": info.path,
        "container": info.container,
        "version": info.version,
        "writer": info.writer,
        "created": info.created,
        "context": context and {"run_id": context.run_id, "node_id": context.node_id},
        "records": list_records(info),
        "arrays": info.arrays,
        "array_bytes": info.array_bytes,
        "file_bytes": info.file_bytes,
        "access": info.access,
        "verified": info.verified,
    }
    show(arguments, facts, _lines(facts))
    return OK


def list_records(info: Info) -> list[dict[str, Any]]:
    """Return kind, name and number of arrays of every record."""
    return [{"kind": kind, "name": name, "arrays": count} for kind, name, count in info.records]


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
