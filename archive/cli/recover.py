"""``fedarchive recover``: make an archive of what a failed or killed save left behind."""

from __future__ import annotations

import argparse
from typing import Any

import archive
from archive.cli.exits import OK
from archive.cli.info import record_line
from archive.cli.output import show
from archive.cli.overview import list_records
from archive.cli.text import printable, save_facts, size

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Complete NAME.partial, which a save with keep_input=False leaves where it failed or was killed, from the
journal beside it, and verify it. From then on it is an archive of the arrays that had arrived. With OUT
they are saved there too. The partial file stays until you remove it. Links are not followed, and a complete
file is not changed.

JSON: path, container, arrays, array_bytes, file_bytes; records, a list of {kind, name, arrays}; and
saved, null or {path, arrays, array_bytes, file_bytes, seconds, digest} of OUT."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", metavar="PARTIAL", help="the NAME.partial that the error named")
    parser.add_argument("out", metavar="OUT", nargs="?", help="where to save the records; default: nowhere")


def run(arguments: argparse.Namespace) -> int:
    """Recover one partial file."""
    archive.recover(arguments.path)
    with archive.open(arguments.path) as handle:
        info = handle.info
        saved = None
        if arguments.out is not None:
            records: Any = handle.context if info.container == "context" else handle.records
            saved = archive.save(records, arguments.out, created=info.created)
    facts = {
        "path": info.path,
        "container": info.container,
        "arrays": info.arrays,
        "array_bytes": info.array_bytes,
        "file_bytes": info.file_bytes,
        "records": list_records(info),
        "saved": saved and save_facts(saved),
    }
    lines = [f"{printable(info.path)}: {info.arrays} arrays, {size(info.array_bytes)}, all verified"]
    lines += [f"  {record_line(**record)}" for record in list_records(info)]
    if saved is not None:
        lines.append(f"{printable(saved.url)}: {saved.arrays} arrays, saved in {saved.seconds * 1000:.1f} ms")
    show(arguments, facts, lines)
    return OK
