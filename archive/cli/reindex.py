"""``fedarchive reindex``: an archive again, from a file that another tool changed; or a run's catalogue."""

from __future__ import annotations

import argparse

import archive
from archive.cli.exits import OK
from archive.cli.options import define_decoded, define_options, options_for, require_one, runs_at, shown_path
from archive.cli.output import show
from archive.cli.text import printable, save_facts, size
from archive.errors import ArchiveError

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Read the HDF5 tree of a file through h5py, unverified, and save what it holds as an archive: digests
hold from then on. Without OUT the file itself is replaced, at once and only when all is written.

Of a folder of a run: read what its files say, and write its catalogue anew, which spares `runs history`
most of them. A save of a round does so too, for some files at a time.

JSON: path, arrays, array_bytes, file_bytes, seconds, digest. Of a run: path, rounds, file_bytes."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", metavar="PATH", help="the HDF5 file, or the folder of a run")
    parser.add_argument("out", metavar="OUT", nargs="?", help="where the archive goes; default: PATH itself")
    define_decoded(parser)
    define_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Reindex one file, or the files of one run."""
    if runs := runs_at(arguments, arguments.path):
        require_one(arguments, arguments.path, runs)
        return _reindex_run(arguments)
    report = archive.reindex(
        arguments.path,
        arguments.out,
        decoded_bytes=arguments.decoded_bytes,
        storage_options=options_for(arguments.options, arguments.out or arguments.path),
    )
    line = (
        f"{printable(report.url)}: {report.arrays} arrays, {size(report.array_bytes)}, "
        f"saved in {report.seconds * 1000:.1f} ms"
    )
    show(arguments, save_facts(report), [line])
    return OK


def _reindex_run(arguments: argparse.Namespace) -> int:
    if arguments.out is not None or arguments.decoded_bytes is not None:
        raise ArchiveError(
            "a run takes no OUT and no --decoded-bytes",
            path=shown_path(arguments.path),
            remedy="name the folder of the run alone",
        )
    store = archive.CheckpointStore(
        arguments.path, storage_options=options_for(arguments.options, arguments.path)
    )
    report = store.reindex()
    line = f"{printable(report.url)}: {report.rounds} rounds, {size(report.file_bytes)}"
    show(arguments, {"path": report.url, "rounds": report.rounds, "file_bytes": report.file_bytes}, [line])
    return OK
