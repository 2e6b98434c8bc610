"""Arguments of several commands: the archive to read, ``-o key=value`` for a remote client, and ages."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import archive
from archive.storage.url import parse_url

__all__ = [
    "add_option",
    "age",
    "byte_count",
    "define_archive",
    "define_decoded",
    "define_options",
    "open_archive",
    "options_for",
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HELP = """\
of remote URLs: an option of the client, such as -o anon=true or -o endpoint_url=http://...; may be repeated.
Other users of the machine see it: secrets belong into the environment"""


def define_archive(parser: argparse.ArgumentParser) -> None:
    """Add the archive to read, ``--foreign`` and ``-o``."""
    parser.add_argument("path", metavar="PATH", help="the archive: a path or URL")
    parser.add_argument(
        "--foreign",
        action="store_true",
        help="read an HDF5 file that is not an archive through h5py, unverified",
    )
    define_decoded(parser)
    define_options(parser)


def define_decoded(parser: argparse.ArgumentParser) -> None:
    """Add ``--decoded-bytes``, for foreign files."""
    parser.add_argument(
        "--decoded-bytes",
        type=_count,
        metavar="N",
        help="bytes that may be decoded of a foreign file; default: 64 MiB or 20 times its length",
    )


def open_archive(arguments: argparse.Namespace) -> archive.Archive:
    """Open the archive that was named."""
    options = options_for(arguments.options, arguments.path)
    return archive.open(
        arguments.path,
        foreign=arguments.foreign,
        decoded_bytes=arguments.decoded_bytes,
        storage_options=options,
    )


def define_options(parser: argparse.ArgumentParser) -> None:
    """Add ``-o``, repeated as often as needed."""
    add_option(parser, "-o", "--option", dest="options", text=_HELP)


def add_option(parser: argparse.ArgumentParser, *names: str, dest: str, text: str) -> None:
    """Add an argument of ``KEY=VALUE``; values are JSON where they can be, else text."""
    parser.add_argument(
        *names, metavar="KEY=VALUE", dest=dest, type=_option, action="append", default=[], help=text
    )


def age(text: str) -> float:
    """Return the seconds of a number and a unit.

    Examples
    --------
    >>> age("90s"), age("1.5h")
    (90.0, 5400.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a number and s, m, h or d, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def byte_count(text: str) -> int:
    """Return a number of bytes, which may have a decimal unit.

    Examples
    --------
    >>> byte_count("512"), byte_count("1.5G")
    (512, 1500000000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]?)B?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"a number of bytes, or one with k, M, G or T, not {text!r}")
    return int(float(match[1]) * float(f"1e{3 * ' kMGT'.index(match[2] or ' ')}"))


def options_for(pairs: list[tuple[str, Any]], *paths: str) -> dict[str, Any] | None:
    """Return the options where one of the paths is remote; None for local paths."""
    return dict(pairs) if pairs and any(parse_url(path).remote for path in paths) else None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number, not {text!r}")
    return int(text)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"KEY=VALUE, not {text!r}")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        return key, value
