"""Arguments of several commands: the archive to read, ``-o key=value`` and a cache for remote ones, ages."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

import archive
from archive.errors import ArchiveError, StorageError, UnsupportedURLError
from archive.storage.redaction import redact_url
from archive.storage.url import Location, parse_cache, parse_url

__all__ = [
    "add_option",
    "age",
    "byte_count",
    "define_archive",
    "define_archives",
    "define_decoded",
    "define_opening",
    "define_options",
    "define_reading",
    "folder",
    "open_archive",
    "open_file",
    "open_round",
    "open_run",
    "options_for",
    "reading_options",
    "require_one",
    "round_number",
    "runs_at",
    "shown_path",
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HELP = """\
of remote URLs: an option of the client, such as -o anon=true or -o endpoint_url=http://...; may be repeated.
Other users of the machine see it: secrets belong into the environment"""


def define_archive(parser: argparse.ArgumentParser) -> None:
    """Add the archive to read, ``--foreign``, the round of a run, and how it is read."""
    parser.add_argument("path", metavar="PATH", help="the archive, or the folder of a run: a path or URL")
    define_opening(parser)


def define_archives(parser: argparse.ArgumentParser) -> None:
    """Add the archives to read, ``--foreign``, the round of a run, and how they are read."""
    text = "archives, patterns in quotes, folders, or folders of runs: paths or URLs"
    parser.add_argument("paths", metavar="PATH", nargs="+", help=text)
    define_opening(parser)


def define_opening(parser: argparse.ArgumentParser) -> None:
    """Add ``--foreign``, ``--round``, ``--client``, and how archives are read."""
    parser.add_argument(
        "--round",
        metavar="N",
        type=round_number,
        help="of the folder of a run: this round, or best; default: the newest",
    )
    parser.add_argument(
        "--client", metavar="NAME", help="of the folder of a run: what this client sent in the round"
    )
    parser.add_argument(
        "--foreign",
        action="store_true",
        help="read an HDF5 file that is not an archive through h5py, unverified",
    )
    define_decoded(parser)
    define_reading(parser)


def define_decoded(parser: argparse.ArgumentParser) -> None:
    """Add ``--decoded-bytes``, for foreign files."""
    parser.add_argument(
        "--decoded-bytes",
        type=_count,
        metavar="N",
        help="bytes that may be decoded of a foreign file; default: 64 MiB or 20 times its length",
    )


def open_archive(arguments: argparse.Namespace, path: str | None = None) -> archive.Archive:
    """Open the archive that was named; of a folder of a run the round that was, or the newest.

    Parameters
    ----------
    arguments : argparse.Namespace
    path : str, optional
        The archive, for commands that take several; ``arguments.path`` if not given.
    """
    path = arguments.path if path is None else path
    run = open_run(arguments, path)
    if run is not None:
        return open_round(arguments, run)
    return open_file(arguments, path)


def open_file(arguments: argparse.Namespace, path: str | Location) -> archive.Archive:
    """Open an archive that is no run."""
    shown = path.display if isinstance(path, Location) else shown_path(path)
    for option in ("round", "client"):
        if getattr(arguments, option) is not None:
            remedy = f"name the folder of a run, or leave --{option} out"
            raise ArchiveError(f"--{option} is for runs, and no run is here", path=shown, remedy=remedy)
    return archive.open(
        path,
        foreign=arguments.foreign,
        decoded_bytes=arguments.decoded_bytes,
        **({} if isinstance(path, Location) else reading_options(arguments, path)),
    )


def open_round(arguments: argparse.Namespace, run: archive.CheckpointStore) -> archive.Archive:
    """Open the round of a run that was named, or the newest; with ``--client`` the client's file."""
    number = arguments.round
    if number is None:
        rounds = run.rounds()
        number = rounds[-1] if rounds else "latest"
    return run.open(number, arguments.client, verify="first")  # what is read is checked, the rest is not read


def open_run(arguments: argparse.Namespace, path: str) -> archive.CheckpointStore | None:
    """Return the run in a folder; None where a file is named, or no folder with runs is there.

    Raises
    ------
    MissingError
        There are several.
    """
    runs = runs_at(arguments, path)
    if not runs:
        return None
    require_one(arguments, path, runs)
    return archive.CheckpointStore(path, **reading_options(arguments, path))


def require_one(arguments: argparse.Namespace, path: str, runs: Sequence[str]) -> None:
    """Raise MissingError where a folder has several runs; its remedy is an argument of the command."""
    if len(runs) < 2:
        return
    from archive.checkpoints.roundreader import several_runs

    shown = parse_url(path, options_for(arguments.options, path)).display
    by_option = "experiment" in arguments
    word = shlex.quote(runs[0] if by_option else f"{shown.rstrip('/')}/{runs[0]}")
    raise several_runs(shown, runs, f"--experiment {word}" if by_option else word)


def runs_at(arguments: argparse.Namespace, path: str) -> list[str]:
    """Return the names of the runs in a folder: ``""`` for the folder itself; none where a file is named."""
    location = parse_url(path, options_for(arguments.options, path))
    if location.remote:
        if location.name.endswith((".h5", ".hdf5")):
            return []  # asked for at once
    elif not os.path.isdir(location.path):  # noqa: PTH112 Path raises for a name that is too long
        return []
    from archive.checkpoints.runfacts import find_experiments

    with contextlib.suppress(UnsupportedURLError, StorageError):  # it cannot be listed: it may be a file
        return find_experiments(location)
    return []


def define_reading(parser: argparse.ArgumentParser, *, short: bool = True) -> None:
    """Add how remote archives are read: ``--option``, ``-o`` if ``short``, ``--cache``, ``--cache-bytes``."""
    define_options(parser, short=short)
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=lambda text: folder(text) if text else True,
        nargs="?",
        help="--cache=DIR: keep what is read of remote archives in this folder, and map it; without DIR "
        "in $FEDARCHIVE_CACHE, or the user's own",
    )
    parser.add_argument(
        "--cache-bytes",
        metavar="N",
        type=byte_count,
        help="with --cache: the most that the folder keeps: a number, or one with k, M, G or T, such as 20G",
    )


def reading_options(arguments: argparse.Namespace, *paths: str) -> dict[str, Any]:
    """Return the keyword arguments that say how these paths are read."""
    if arguments.cache_bytes is not None and not arguments.cache:
        raise ArchiveError(
            "--cache-bytes limits a cache", path=shown_path(paths[0]), remedy="give --cache too"
        )
    return {
        "cache": arguments.cache,
        "cache_bytes": arguments.cache_bytes,
        "storage_options": options_for(arguments.options, *paths),
    }


def define_options(parser: argparse.ArgumentParser, *, short: bool = True) -> None:
    """Add ``--option`` and its short name ``-o``, repeated as often as needed."""
    names = ("-o", "--option") if short else ("--option",)
    text = _HELP if short else _HELP.replace("-o ", "--option ")
    add_option(parser, *names, dest="options", text=text)


def add_option(
    parser: argparse.ArgumentParser, *names: str, dest: str, text: str, metavar: str = "KEY=VALUE"
) -> None:
    """Add an argument of ``KEY=VALUE``; values are JSON where they can be, else text."""
    parser.add_argument(
        *names, metavar=metavar, dest=dest, type=_option, action="append", default=[], help=text
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


def folder(text: str) -> str:
    """Return the local folder of a cache."""
    try:
        return parse_cache(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a local folder, not {text!r}") from None


def shown_path(path: str) -> str:
    """Return a path or URL for messages: without its secrets, as standard error is often kept.

    Examples
    --------
    >>> shown_path("https://user:pass@host/a.h5?X-Amz-Signature=5ign"), shown_path("runs/a?.h5")
    ('https://host/a.h5', 'runs/a?.h5')
    """
    return redact_url(path).address


def options_for(pairs: list[tuple[str, Any]], *paths: str) -> dict[str, Any] | None:
    """Return the options where one of the paths is remote; None for local paths."""
    return dict(pairs) if pairs and any(parse_url(path).remote for path in paths) else None


def round_number(text: str) -> int | str:
    """Return the number of a round, or ``best``."""
    if text == "best":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number, or best, not {text!r}")
    return int(text)


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
