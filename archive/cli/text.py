"""Text for terminals and programs: safe names, sizes, columns, JSON that any parser takes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from archive.cli.style import bold, width

if TYPE_CHECKING:
    from archive.engine.report import SaveReport

__all__ = [
    "columns",
    "elided",
    "json_value",
    "moment",
    "name",
    "print_json",
    "printable",
    "save_facts",
    "shape",
    "size",
    "type_name",
]


WIDEST = 200
"""Characters of a field that others are lined up with: one name of a megabyte must not widen every line."""


def printable(text: str) -> str:
    r"""Return text with everything escaped that a terminal would act on rather than show.

    Names come from files that somebody else may have made: control characters, direction marks, line
    separators and lone surrogates are escaped as in a Python str.

    Examples
    --------
    >>> print(printable("layer\x1b[2J\n"), printable("größe"))
    layer\x1b[2J\n größe
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def name(record: str, key: str) -> str:
    """Return ``record/key``, safe to print."""
    return printable(f"{record}/{key}")


def size(nbytes: int) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> size(812), size(12360), size(5 << 30)
    ('812 bytes', '12.1 KiB', '5.0 GiB')
    """
    if nbytes < 1024:
        return f"{nbytes} bytes"
    value, unit = nbytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


def moment(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC; one outside of the years 1 to 9999 in seconds.

    Examples
    --------
    >>> moment(0.5), moment(1e12), moment(-1e12)
    ('1970-01-01T00:00:00+00:00', '1970 + 1000000000000 s', '1970 - 1000000000000 s')
    """
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # which of them depends on the system
        return f"1970 {'-' if seconds < 0 else '+'} {abs(seconds):.0f} s"


def shape(lengths: Sequence[int]) -> str:
    """Return a shape without spaces, so that a listing can be cut into fields.

    Examples
    --------
    >>> shape((32, 64)), shape((7,)), shape(())
    ('(32,64)', '(7,)', '()')
    """
    return repr(tuple(lengths)).replace(" ", "")


def columns(rows: Sequence[Sequence[str]], indent: str = "", *, header: bool = False) -> list[str]:
    """Return rows as lines whose fields stand under one another; the first is a header, bold on a terminal.

    Examples
    --------
    >>> columns([["a", "float32", "4"], ["bias", "int8"]])
    ['a     float32  4', 'bias  int8']
    """
    widths: dict[int, int] = {}
    for row in rows:
        for place, field in enumerate(row):
            widths[place] = max(widths.get(place, 0), length if (length := width(field)) <= WIDEST else 0)
    lines = [
        indent
        + "  ".join(field + " " * (widths[place] - width(field)) for place, field in enumerate(row)).rstrip()
        for row in rows
    ]
    return [bold(lines[0]), *lines[1:]] if header and lines else lines


def elided(text: str, length: int = 72) -> str:
    """Return text cut to a length, with dots at the end.

    Examples
    --------
    >>> elided("x" * 100, 10)
    'xxxxxxx...'
    """
    return text if len(text) <= length else text[: length - 3] + "..."


def type_name(value: object) -> str:
    """Return the type of a metric or config: ``float``, ``list[str]``, ``list`` where it is empty.

    Examples
    --------
    >>> type_name(0.5), type_name([1, 2]), type_name([])
    ('float', 'list[int]', 'list')
    """
    if isinstance(value, list) and value:
        return f"list[{type(value[0]).__name__}]"
    return type(value).__name__


def json_value(value: Any) -> Any:
    r"""Return a metric or config for JSON: bytes as hexadecimal, NaN and infinities as ``str``.

    ``float("nan")`` and ``bytes.fromhex`` read them back; the type stands beside the value in our output.

    Examples
    --------
    >>> json_value([1.5, math.nan, -math.inf]), json_value(b"\x00\xff")
    ([1.5, 'nan', '-inf'], '00ff')
    """
    if isinstance(value, list):
        return [json_value(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def save_facts(report: SaveReport, **more: Any) -> dict[str, Any]:
    """Return what a save wrote for JSON, the path first and then what the command adds."""
    facts = asdict(report)
    return {"path": facts.pop("url"), **more, **facts}


def print_json(value: Any) -> None:
    """Print one JSON document, ASCII only."""
    # ensure_ascii escapes all but DEL, which can only stand inside a string
    print(json.dumps(value, indent=2, allow_nan=False).replace("\x7f", "\\u007f"))
