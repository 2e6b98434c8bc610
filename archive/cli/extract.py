"""``fedarchive extract``: arrays of an archive as .npy, CSV, .npz, .safetensors or .pt."""

from __future__ import annotations

import argparse

from archive.cli.convert import converted, define_target, print_report

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Write arrays of an archive as a file that other programs read; the suffix of OUT says the format. .npy and
.csv take one array, .npz, .safetensors, .pt and .weights.h5 any number. Only the bytes of these arrays are
read.

Exit code 3: written, but OUT does not hold all that was asked for; what is missing is listed on stderr.

JSON: source, url, format, to, arrays, array_bytes, left_out (name and reason), verified, seconds."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("source", metavar="PATH", help="the archive: a path or URL")
    parser.add_argument("out", metavar="OUT", help="what is written: a path or URL")
    parser.add_argument(
        "keys", metavar="KEY", nargs="*", help="keys or patterns; all arrays if there is none"
    )
    define_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write some arrays."""
    from archive.tools import extract

    report = converted(arguments, extract, arguments.keys or None)
    return print_report(report, json=arguments.json)
