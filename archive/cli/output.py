"""What a command found, said as text, JSON or CSV; and what went wrong, said on stderr."""

from __future__ import annotations

import argparse
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from archive.cli.style import is_terminal
from archive.cli.text import json_value, print_json, printable

__all__ = ["complain", "csv_field", "define_output", "is_text", "print_csv", "show"]

Row = Mapping[str, Any]
_QUOTED = re.compile(r'[",\r\n]')
"""What a field has that must be quoted."""

_CSV_HELP = "print CSV (RFC 4180): a line of column names, then a line for each row; values in full"


def define_output(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` and ``--csv``, of which a command line has one at most."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print one JSON document")
    forms.add_argument("--csv", action="store_true", help=_CSV_HELP)


def is_text(arguments: argparse.Namespace) -> bool:
    """Return whether the output is for people."""
    return not (arguments.json or arguments.csv)


def show(
    arguments: argparse.Namespace,
    document: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    lines: Iterable[str],
    *,
    rows: Iterable[Row] | None = None,
    fields: Sequence[str] = (),
    say: Callable[[str], object] = print,
) -> None:
    """Print what a command found in the form that was asked for; what the other forms need is not evaluated.

    Parameters
    ----------
    arguments : argparse.Namespace
    document : mapping or callable
        The JSON document, or what returns it.
    lines : iterable of str
        Text for people, which is printable already.
    rows : iterable of mapping, optional
        The rows of CSV; the document alone if not given.
    fields : sequence of str
        Their columns, in order; those of the first row if not given.
    say : callable
        Prints a line for people.
    """
    if arguments.json:
        print_json(document() if callable(document) else document)
    elif arguments.csv:
        if rows is None:
            rows = [document() if callable(document) else document]
        print_csv(rows, fields)
    else:
        for line in lines:
            say(line)


def print_csv(rows: Iterable[Row], fields: Sequence[str] = ()) -> None:
    """Print rows as CSV by RFC 4180, each as soon as it is there.

    Text stands as it is, quoted where the RFC wants that: a program reads back the name that a file has. On a
    terminal everything is escaped that the terminal would act on.

    Parameters
    ----------
    rows : iterable of mapping
    fields : sequence of str
        The columns, in order; those of the first row if not given.
    """
    rows = iter(rows)
    if not fields:
        first = next(rows, {})
        fields, rows = list(first), chain([first], rows)
    seen = is_terminal(sys.stdout)
    safe = printable if seen else str
    end = "\n" if seen else "\r\n"
    print(_csv_line(map(safe, fields)), end=end)
    for row in rows:
        print(_csv_line(safe(csv_field(row.get(field))) for field in fields), end=end)


def _csv_line(fields: Iterable[str]) -> str:
    """Return a row: ``csv.writer`` of Python 3.10 takes no zero byte, and no closed standard output."""
    line = ",".join(
        '"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field for field in fields
    )
    return line or '""'  # an empty line would be no row


def csv_field(value: Any) -> str:
    r"""Return a value for CSV.

    Floats are spelled so that they read back equal. None is empty, bytes are hexadecimal, lists and mappings
    are JSON on one line.

    Examples
    --------
    >>> csv_field(0.1), csv_field(float("nan")), csv_field(True), csv_field(None), csv_field(b"\x00\xff")
    ('0.1', 'nan', 'true', '', '00ff')
    >>> csv_field([1, 2.5, "a"])
    '[1, 2.5, "a"]'
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, (list, tuple, Mapping)):
        return json.dumps(_json(value), allow_nan=False)
    return str(value)


def complain(problem: object, *, debug: bool = False) -> None:
    """Print one line about a problem on stderr; before it the traceback of an exception if debugging."""
    if debug and isinstance(problem, BaseException):
        for line in "".join(traceback.format_exception(problem)).splitlines():
            print(printable(line), file=sys.stderr)
    print(f"fedarchive: {printable(str(problem))}", file=sys.stderr)


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return json_value(value)
