"""``fedarchive gc``: remove what killed writers left behind."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from archive.cli.exits import OK
from archive.cli.options import age, define_options, options_for, shown_path
from archive.cli.output import show
from archive.cli.text import moment, printable

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Of a remote URL: end every unfinished upload in parts, of this object or below this folder, that began longer
ago than --older-than. A store does not say who began an upload: those of other programs are ended too, and
so is a save that takes longer than that. Of objects only sums are removed that a mean left behind.

Of a local folder and those below it: remove .NAME.N.tmp files of saves that no process holds any more and
that begin as an archive does, .NAME.N.fedarchive.tmp files of other formats, and sums that a mean left behind
when it was killed. Links below the folder are not followed. A NAME.partial is never touched: `fedarchive
recover` opens it.

JSON: path, dry_run; and removed, a list of {path, upload, started} (upload is "" for a file). CSV: a row for
each that was removed, or would be."""

_DAY = 86400


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", metavar="URL", help="a folder, local or remote, or one remote object")
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=age,
        default=_DAY,
        help="a number and s, m, h or d; default: 1d",
    )
    parser.add_argument("--dry-run", action="store_true", help="report only, remove nothing")
    define_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Collect garbage in one folder."""
    from archive.tools.collection import collect_garbage

    removed = collect_garbage(
        arguments.path,
        older_than=arguments.older_than,
        dry_run=arguments.dry_run,
        storage_options=options_for(arguments.options, arguments.path),
    )
    path = shown_path(arguments.path)
    found = [asdict(left) for left in removed]
    done = "would remove" if arguments.dry_run else "removed"
    lines = []
    for left in removed:
        began = moment(left.started)
        what = f"an upload begun {began}" if left.upload else f"a temporary file of {began}"
        lines.append(f"{done} {what}: {printable(left.path)}")
    lines.append(f"{printable(path)}: {done} {len(removed)}")
    document = {"path": path, "dry_run": arguments.dry_run, "removed": found}
    show(arguments, document, lines, rows=found, fields=["path", "upload", "started"])
    return OK
