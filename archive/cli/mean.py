"""``fedarchive mean``: the weighted mean of archives of one schema."""

from __future__ import annotations

import argparse

import archive
from archive.cli.bars import progress_of
from archive.cli.exits import OK
from archive.cli.options import define_reading, reading_options
from archive.cli.output import show
from archive.cli.text import printable, save_facts, size
from archive.errors import ExistsError

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Average archives whose arrays have equal names, types and shapes, in a few megabytes of memory, and save
the mean at OUT, at once and only when all is written. Metrics and configs are not taken over.

JSON: path, inputs, weights (null without --weights), arrays, array_bytes, file_bytes, seconds, digest."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("out", metavar="OUT", help="where the mean goes; named first, before the archives")
    parser.add_argument("paths", metavar="IN", nargs="+", help="archives to average")
    parser.add_argument(
        "--weights", metavar="W1,W2,...", type=_weights, help="one number for each IN; default: equal"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an archive that is at OUT")
    define_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """Average files."""
    try:
        with progress_of(arguments, "averaging") as bar:
            report = archive.mean(
                arguments.paths,
                arguments.weights,
                out=arguments.out,
                overwrite=arguments.overwrite,  # "mean *.h5" without OUT would replace the first of them
                progress=bar.report,
                **reading_options(arguments, arguments.out, *arguments.paths),
            )
    except ExistsError as error:
        error.remedy = "name OUT first, before the archives; --overwrite replaces an archive that is there"
        raise
    line = (
        f"{printable(report.url)}: mean of {len(arguments.paths)} archives, {report.arrays} arrays, "
        f"{size(report.array_bytes)}, saved in {report.seconds * 1000:.1f} ms"
    )
    show(arguments, save_facts(report, inputs=arguments.paths, weights=arguments.weights), [line])
    return OK


def _weights(text: str) -> list[float]:
    try:
        return [float(weight) for weight in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers with commas between them, not {text!r}") from None
