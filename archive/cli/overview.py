"""Many archives at a glance, for ``info`` and ``ls``: one line each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import archive
from archive.cli.bars import progress_of
from archive.cli.exits import worst
from archive.cli.output import show
from archive.cli.style import dim
from archive.cli.text import columns, printable, size
from archive.cli.words import Target, TargetReader

if TYPE_CHECKING:
    from archive.engine.read.archiveinfo import Info

__all__ = ["FIELDS", "archive_facts", "list_records", "show_overview"]

FIELDS = (
    *("path", "container", "version", "writer", "created", "context", "records", "arrays", "array_bytes"),
    *("file_bytes", "access", "verified"),
)
"""Columns of CSV, and keys of JSON."""

_HEADER = ["path", "arrays", "bytes", "created", "container"]


def archive_facts(handle: archive.Archive) -> dict[str, Any]:
    """Return the facts about an open archive that `info` prints."""
    info = handle.info
    # the fields of a context are in the index, which a foreign file lacks
    known = info.container == "context" and info.access != "h5py"
    context = handle.context if known else None
    return {
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


def list_records(info: Info) -> list[dict[str, Any]]:
    """Return kind, name and number of arrays of every record."""
    return [{"kind": kind, "name": name, "arrays": count} for kind, name, count in info.records]


def show_overview(
    arguments: argparse.Namespace,
    targets: Sequence[Target],
    order: Callable[[dict[str, Any]], Any] | None = None,
    *,
    reverse: bool = False,
) -> int:
    """Print one line an archive, and return the exit code.

    Parameters
    ----------
    arguments : argparse.Namespace
    targets : sequence of Target
    order : callable, optional
        Returns of the facts about an archive what to sort by; as they were named if not given.
    reverse : bool, default False
        The other way round.
    """
    with progress_of(arguments, "reading", "archives") as bar:
        reader = TargetReader(arguments, bar)
        found = [{**facts, "path": path} for path, facts in reader.read(targets, archive_facts)]
    if order is not None:
        found.sort(key=order)
    if reverse:
        found.reverse()
    show(arguments, {"archives": found, "errors": reader.errors}, _lines(found), rows=found, fields=FIELDS)
    return worst(reader.codes)


def _lines(found: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        [
            dim(printable(facts["path"])),
            str(facts["arrays"]),
            size(facts["file_bytes"]),
            printable(facts["created"]) or "unknown",
            printable(facts["container"]),
        ]
        for facts in found
    ]
    return columns([_HEADER, *rows], header=True) if rows else []
