"""``fedarchive cp``: copy an archive between any two places, verified on the way."""

from __future__ import annotations

import argparse

from archive.cli.bars import progress_of
from archive.cli.exits import OK
from archive.cli.options import add_option, define_reading, options_for, reading_options, shown_path
from archive.cli.output import show
from archive.cli.text import printable, save_facts, size

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Copy an archive byte for byte. Every array, the padding between, metadata, index, values and footer are
compared with their digests on the way. The copy appears complete, or not at all where a byte does not match
or the command fails or is interrupted.

-o is for both URLs, --out-option for DST alone. A store without uploads in parts is sent a local file,
written first under $TMPDIR, or in the folder that --spool names.

JSON: path, source, arrays, array_bytes, file_bytes, seconds, digest."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("source", metavar="SRC", help="the archive: a path or URL")
    parser.add_argument("out", metavar="DST", help="where the copy goes: a path or URL")
    parser.add_argument(
        "--overwrite",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replace what is at DST (the default), or refuse to",
    )
    parser.add_argument("--spool", metavar="DIR", help="folder for a local file, where one is needed")
    define_reading(parser)
    add_option(parser, "--out-option", dest="out_options", text="of DST alone: as -o")


def run(arguments: argparse.Namespace) -> int:
    """Copy one archive."""
    from archive.tools import copy

    with progress_of(arguments, "copying") as bar:
        report = copy(
            arguments.source,
            arguments.out,
            overwrite=arguments.overwrite,
            spool=arguments.spool or True,
            **reading_options(arguments, arguments.source),
            out_options=options_for([*arguments.options, *arguments.out_options], arguments.out),
            progress=bar.report,
        )
    line = (
        f"{printable(report.url)}: {report.arrays} arrays, {size(report.file_bytes)}, "
        f"copied and verified in {report.seconds * 1000:.1f} ms"
    )
    show(arguments, save_facts(report, source=shown_path(arguments.source)), [line])
    return OK
