"""``fedarchive reindex``: an archive again, from a file that another HDF5 tool changed."""

from __future__ import annotations

import argparse

import archive
from archive.cli.exits import OK
from archive.cli.options import define_decoded
from archive.cli.output import show
from archive.cli.text import printable, save_facts, size

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Read the HDF5 tree of a file through h5py, unverified, and save what it holds as an archive: digests
hold from then on. Without OUT the file itself is replaced, at once and only when all is written.

JSON: path, arrays, array_bytes, file_bytes, seconds, digest."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", metavar="PATH", help="the HDF5 file")
    parser.add_argument("out", metavar="OUT", nargs="?", help="where the archive goes; default: PATH itself")
    define_decoded(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reindex one file."""
    report = archive.reindex(arguments.path, arguments.out, decoded_bytes=arguments.decoded_bytes)
    line = (
        f"{printable(report.url)}: {report.arrays} arrays, {size(report.array_bytes)}, "
        f"saved in {report.seconds * 1000:.1f} ms"
    )
    show(arguments, save_facts(report), [line])
    return OK
