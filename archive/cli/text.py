"""Text for terminals and programs: names, moments, types, JSON that any parser takes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from archive.cli.style import bold, width
from archive.display.texts import elided, lined_up, printable, shape, size

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


def name(record: str, key: str) -> str:
    """Return ``record/key``, safe to print."""
    return printable(f"{record}/{key}")


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


def columns(rows: Sequence[Sequence[str]], indent: str = "", *, header: bool = False) -> list[str]:
    """Return rows as lines whose fields stand under one another; the first is a header, bold on a terminal.

    Examples
    --------
    >>> columns([["a", "float32", "4"], ["bias", "int8"]])
    ['a     float32  4', 'bias  int8']
    """
    lines = lined_up(rows, indent, width)
    return [bold(lines[0]), *lines[1:]] if header and lines else lines


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
