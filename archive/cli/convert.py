"""``fedarchive convert``: other formats to archives, and archives to other formats."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archive.cli.bars import progress_of
from archive.cli.exits import LEFT_OUT, OK
from archive.cli.options import (
    add_option,
    byte_count,
    define_decoded,
    define_options,
    options_for,
    shown_path,
)
from archive.cli.text import print_json, printable, size
from archive.errors import ArchiveError

if TYPE_CHECKING:
    from archive.tools.converting import ConvertReport

__all__ = ["DESCRIPTION", "converted", "define", "define_target", "print_report", "run", "target_options"]

FORMATS = ("archive", "safetensors", "npz", "npy", "pt", "keras", "hdf5", "rounds")

DESCRIPTION = """\
Convert .safetensors (.safetensors.index.json: a model in shards), .npz, .npy, .pt, Keras's .weights.h5 and
any HDF5 file to an archive, or an archive to one of these; and a folder of Flower's round-N-weights.npz to a
store of rounds. Elements stream, what was written is read back and compared, and it appears complete or not
at all. The same command goes on with a folder of rounds: those of equal arrays that are there are done.

Exit code 3: converted, but DST does not hold all that SRC has; what is missing is listed on stderr.

-o is for both URLs, --out-option for DST alone.

JSON: source, url, format, to, arrays, array_bytes, left_out (name and reason), verified, seconds."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("source", metavar="SRC", help="what is read: a path or URL, or a folder of rounds")
    parser.add_argument("out", metavar="DST", help="what is written: a path or URL")
    parser.add_argument("--format", choices=FORMATS, help="format of SRC, where its name does not say it")
    parser.add_argument("--to", choices=FORMATS, help="format of DST, where its name does not say it")
    parser.add_argument(
        "--key",
        metavar="KEY",
        dest="keys",
        action="append",
        help="only this array, or pattern; may be repeated",
    )
    parser.add_argument(
        "--names",
        metavar="FILE",
        help="names of arr_0, arr_1, ... of a .npz: a text file, one name a line, or an archive with them",
    )
    parser.add_argument(
        "--shard-size",
        metavar="N",
        type=byte_count,
        help="bytes of a shard of safetensors, such as 2G; default: 5G",
    )
    parser.add_argument(
        "--errors",
        choices=("raise", "skip"),
        default="raise",
        help="a bad file of a folder of rounds ends the command (the default), or is left out",
    )
    define_decoded(parser)
    define_target(parser)


def define_target(parser: argparse.ArgumentParser) -> None:
    """Add how a file is written that is no archive."""
    parser.add_argument(
        "--overwrite",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="replace what is at DST (the default), or refuse to",
    )
    parser.add_argument("--no-verify", action="store_true", help="do not read back what was written")
    parser.add_argument("--spool", metavar="DIR", help="folder for a local file, where one is needed")
    define_options(parser)
    add_option(parser, "--out-option", dest="out_options", text="of DST alone: as -o")


def target_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments that say how it is read and written."""
    return {
        "overwrite": arguments.overwrite,
        "verify": not arguments.no_verify,
        "spool": arguments.spool or True,
        "storage_options": options_for(arguments.options, arguments.source),
        "out_options": options_for([*arguments.options, *arguments.out_options], arguments.out),
    }


def converted(
    arguments: argparse.Namespace, call: Callable[..., ConvertReport], *keys: Any, **options: Any
) -> ConvertReport:
    """Return the report of a call; a key that is missing and the like is one line, as every error."""
    try:
        with progress_of(arguments, "converting") as bar:
            given = {**target_options(arguments), **options, "progress": bar.report}
            return call(arguments.source, arguments.out, *keys, **given)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ArchiveError):
            raise
        shown = shown_path(arguments.source)
        raise ArchiveError(str(error.args[0]), path=shown, remedy="nothing was written") from error


def run(arguments: argparse.Namespace) -> int:
    """Convert one file or folder."""
    from archive.tools import convert

    report = converted(
        arguments,
        convert,
        format=arguments.format,
        to=arguments.to,
        keys=arguments.keys,
        names=_names(arguments.names),
        shard_bytes=arguments.shard_size,
        decoded_bytes=arguments.decoded_bytes,
        errors=arguments.errors,
    )
    return print_report(report, json=arguments.json)


def print_report(report: ConvertReport, *, json: bool) -> int:
    """Print what was converted, and return the exit code."""
    if json:
        print_json(asdict(report))
    else:
        verified = ", read back and compared" if report.verified else ""
        print(
            f"{printable(report.url)}: {report.arrays} arrays, {size(report.array_bytes)} "
            f"from {report.format} to {report.to}{verified} in {report.seconds * 1000:.1f} ms"
        )
        for name, reason in report.left_out:
            print(f"left out: {printable(name)}: {printable(reason)}", file=sys.stderr)
    return LEFT_OUT if report.left_out else OK


def _names(path: str | None) -> Any:
    """Return the lines of a text file; an archive as it is."""
    if path is None or "://" in path or path.endswith((".h5", ".hdf5")):
        return path
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ArchiveError(
            f"no text in UTF-8: {error.reason}", path=path, remedy="give a file with one name a line"
        ) from error
