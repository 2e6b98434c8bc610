"""Chooses a command, and turns every error into one line on stderr and an exit code."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Container, Sequence
from typing import NoReturn

from archive.cli.exits import BROKEN_PIPE, INTERRUPTED, USAGE, exit_code
from archive.cli.output import complain, define_output
from archive.errors import ArchiveError
from archive.version import __version__

__all__ = ["full_parser", "main"]

_COMMANDS = {
    "info": ("info", "facts about an archive, and what was verified at open"),
    "ls": ("ls", "one line an array, metric and config"),
    "show": ("show", "one array, its statistics and histogram; or one metric or config"),
    "stats": ("stats", "count, range, mean, spread, NaN and infinities of every array"),
    "diff": ("diff", "how two archives differ, array by array; exit codes as of diff"),
    "report": ("page", "one HTML file about a run, two runs or an archive: curves, heat maps, arrays"),
    "verify": ("verify", "read every byte and compare it with its digest"),
    "demo": ("demo", "train a small model, save it, read it, damage a copy and see it found"),
    "reindex": ("reindex", "make an archive of an HDF5 file that another tool repacked, edited or wrote"),
    "recover": ("recover", "complete what a failed save left behind (NAME.partial)"),
    "mean": ("mean", "average archives into a new one"),
    "edit": ("edit", "rename, delete, replace or cast arrays, and set metrics and configs"),
    "runs": ("runs", "runs in a folder: list, show, their metrics, remove rounds, rewind"),
    "cp": ("copy", "copy an archive between any two paths or URLs, verified on the way"),
    "convert": ("convert", "convert safetensors, .npz, .pt, Keras's and HDF5 files to archives, and back"),
    "extract": ("extract", "write arrays as .npy, CSV, .npz, .safetensors or .pt"),
    "gc": ("gc", "remove what killed writers left behind: unfinished uploads, temporary files"),
    "completion": ("completion", "print a script by which bash, zsh or fish completes the command"),
    "cache": ("cache", "what archive.open(url, cache=...) keeps of remote archives: list it, or remove it"),
}
"""Module and line of help of every command; a module is loaded when its command is chosen."""

_EXIT_CODES = """\
exit codes:
  0    done; for verify: every byte matches
  1    damage: an archive whose bytes are not what was saved; for diff: the archives differ
  2    usage: wrong arguments, no archive there, or the system refused; for diff damage too
  3    converted, but the target does not hold all that the source has
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process if not given.

    Returns
    -------
    int
        0 done, 1 damage, 2 usage or not an archive, 3 something was left out, 130 interrupted, 141 output
        closed by its reader.

    Examples
    --------
    >>> main(["--version"])
    fedarchive ...
    0
    """
    _never_fail_to_encode()
    arguments = argparse.Namespace(debug=os.environ.get("FEDARCHIVE_DEBUG", "0") not in ("", "0"))
    try:
        code = _run(argv, arguments)
        print(end="", flush=True)  # a full disk or closed pipe fails here, not at exit
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except (ArchiveError, OSError) as error:
        complain(error, debug=arguments.debug)
        return exit_code(error)
    return code


class _Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message}; try: {self.prog} --help")
        self.exit(USAGE)


def _run(argv: Sequence[str] | None, arguments: argparse.Namespace) -> int:
    # a folder is given as --cache=DIR: the word after --cache is an archive, such as the OUT of mean
    words = ["--cache=" if word == "--cache" else word for word in (sys.argv[1:] if argv is None else argv)]
    try:
        _, unknown = _parser(words).parse_known_args(words, arguments)
    except SystemExit as stop:  # --help, --version and wrong arguments
        return stop.code if isinstance(stop.code, int) else USAGE
    if unknown:
        # argparse would name the help of all commands, which lists no argument of this one
        complain(f"unrecognized arguments: {' '.join(unknown)}; try: fedarchive {_command(words)} --help")
        return USAGE
    code: int = arguments.run(arguments)
    return code


def full_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, each with its arguments."""
    return _parser_of(_COMMANDS)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of a command line; only the chosen command defines its arguments."""
    return _parser_of([_command(argv)])


def _command(argv: Sequence[str]) -> str:
    """Return the command of a command line; empty where there is none."""
    # no option before the command takes a value: the first argument that is not an option is the command
    return next((word for word in argv if not word.startswith("-")), "")


def _parser_of(chosen: Container[str]) -> argparse.ArgumentParser:
    """Return a parser in which the chosen commands define their arguments."""
    parser = _Parser(
        prog="fedarchive",
        description="Federated-learning records saved as archives that are ordinary HDF5 files.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fedarchive {__version__}")
    _add_debug(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module_name, text) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name in chosen:
            module = importlib.import_module(f"archive.cli.{module_name}")
            command.description = module.DESCRIPTION
            module.define(command)
            define_output(command)
            _add_debug(command)
            command.set_defaults(run=module.run)
    return parser


def _add_debug(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug``, taken before and after the command; main sets its default, which neither may reset."""
    text = "print the traceback of an error on stderr, as FEDARCHIVE_DEBUG=1 does"
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)


def _never_fail_to_encode() -> None:
    """Escape characters that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Drop buffered output: Python would try to write it at exit, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
