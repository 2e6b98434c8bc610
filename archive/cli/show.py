"""``fedarchive show``: one array with its statistics and a histogram, or one metric or config."""

from __future__ import annotations

import argparse
import math
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import archive
from archive.cli.exits import OK
from archive.cli.ls import each_record
from archive.cli.options import define_archive, open_archive
from archive.cli.output import show
from archive.cli.stats import NUMBERS, moment_facts, number
from archive.cli.style import bold
from archive.cli.text import columns, elided, json_value, name, printable, shape, size, type_name
from archive.errors import ArchiveError

if TYPE_CHECKING:
    from archive.tools.histogram import Histogram

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Print one array: dtype, shape, stype, statistics as of `fedarchive stats`, a histogram, and its elements as
numpy prints them; or one metric, config or attribute of a record, in full. Every byte that is read is
compared with its digest. Of the folder of a run its newest round, or --round.

JSON of an array: path, kind, record, key, dtype, shape, stype, nbytes, slice, count, min, max, mean, std,
norm, zeros, nan, inf, histogram (null, or edges and counts), elements (nested lists; null without --slice);
of a value: path, kind, record, key, type, value. CSV: one row of these."""

_KINDS = {"arrays": "array", "metrics": "metric", "configs": "config"}
_SLICE = re.compile(r"\.\.\.|(-?\d+)|(-?\d*):(-?\d*)(?::(-?\d+))?")
_WHOLE = 1000
"""Elements that are printed, as by numpy; of more the first and last three of each axis."""
_EDGE = 3
_MOST_CORNERS = 1 << 16
_BAR = 40
_EIGHTHS = "▏▎▍▌▋▊▉"


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    define_archive(parser)
    parser.add_argument(
        "key", metavar="KEY", help="KEY or RECORD/KEY of an array, metric, config or attribute"
    )
    parser.add_argument("--record", metavar="NAME", help="the record, where several have the key")
    parser.add_argument(
        "--slice",
        metavar="INDEX",
        type=_index,
        help="this part of the array alone, such as '0:5,:' or --slice=-3:, and all its elements",
    )


def run(arguments: argparse.Namespace) -> int:
    """Show one array or value."""
    with open_archive(arguments) as handle:
        kind, record, key, found = _find(handle, arguments)
        facts: dict[str, Any] = {"path": handle.info.path, "kind": kind, "record": record, "key": key}
        if not isinstance(found, archive.Array):
            facts |= {"type": type_name(found), "value": found}
            lines = [bold(f"{kind} {name(record, key)}  {type_name(found)}"), *_value_lines(found)]
            show(arguments, lambda: {**facts, "value": json_value(found)}, lines, rows=[facts])
            return OK
        facts |= {
            "dtype": found.dtype,
            "shape": list(found.shape),
            "stype": found.stype,
            "nbytes": found.nbytes,
            "slice": arguments.slice and arguments.slice[0],
        }
        part = None if arguments.slice is None else _take(found, arguments.slice, facts)
        moments, histogram = _measure(found, part)
        facts["count"] = math.prod(found.shape) if part is None else part.size
        facts |= moment_facts(moments)
        bins = histogram and {"edges": list(histogram.edges), "counts": list(histogram.counts)}
        whole = {**facts, "histogram": bins, "elements": None if part is None else _plain(part.tolist())}
        lines = [*_fact_lines(facts), *_bars(histogram), *_element_lines(found, part)]
    show(arguments, lambda: {key: json_value(value) for key, value in whole.items()}, lines, rows=[facts])
    return OK


def _find(handle: archive.Archive, arguments: argparse.Namespace) -> tuple[str, str, str, Any]:
    """Return kind, record, key and what has that name.

    Raises
    ------
    ArchiveError
        Nothing has it, or more than one does.
    """
    wanted, only = arguments.key, arguments.record
    found = []
    for kind, record, content in each_record(handle):
        if only not in (None, record):
            continue
        keys = [wanted]
        if wanted.startswith(f"{record}/"):
            keys.append(wanted[len(record) + 1 :])
        found += [(_KINDS[kind], record, key, content[key]) for key in keys if key in content]
        attributes = content.attributes if kind == "arrays" else {}
        found += [("attribute", record, key, attributes[key]) for key in keys if key in attributes]
    if len(found) == 1:
        return found[0]
    if not found:
        remedy = "`fedarchive ls` lists arrays, metrics and configs"
        raise ArchiveError(f"nothing is called {wanted!r}", path=handle.info.path, remedy=remedy)
    names = elided(", ".join(f"{kind} {record}/{key}" for kind, record, key, _ in found), 300)
    raise ArchiveError(
        f"{wanted!r} is the name of several: {names}",
        path=handle.info.path,
        remedy="name one as RECORD/KEY, or give --record",
    )


def _index(text: str) -> tuple[str, tuple[Any, ...]]:
    """Return an index and its text.

    Examples
    --------
    >>> _index("0:5,:,-1,...")[1]
    (slice(0, 5, None), slice(None, None, None), -1, Ellipsis)
    """
    index: list[Any] = []
    for part in text.replace(" ", "").split(","):
        match = _SLICE.fullmatch(part)
        if match is None or match[4] in ("0", "-0"):
            raise argparse.ArgumentTypeError(f"an index of numpy, such as '0:5,:', not {text!r}")
        ends = [int(match[n]) if match[n] not in (None, "", "-") else None for n in (2, 3, 4)]
        if part == "...":
            index.append(...)
        elif match[1] is not None:
            index.append(int(match[1]))
        else:
            index.append(slice(*ends))
    return text, tuple(index)


def _take(array: archive.Array, index: tuple[str, tuple[Any, ...]], facts: dict[str, Any]) -> Any:
    """Return the elements of an index."""
    try:
        return np.asarray(array[index[1]])
    except IndexError as error:
        key = f"{facts['record']}/{facts['key']}"
        raise ArchiveError(
            f"--slice {index[0]!r} is no index of shape {array.shape}: {error}",
            path=facts["path"],
            key=key,
            remedy="give fewer or smaller numbers",
        ) from error
    except TypeError as error:
        raise ArchiveError(f"it has no elements: {error}", path=facts["path"], remedy="no --slice") from error


def _measure(array: archive.Array, part: Any) -> tuple[Any, Histogram | None]:
    """Return moments and histogram of an array, or of a part of it; None of what are no numbers."""
    from archive.tools.arraystats import measure
    from archive.tools.histogram import histogram_of, histogram_of_row
    from archive.tools.moments import is_number, moments_of

    if part is not None:
        if not is_number(part.dtype):
            return None, None
        flat = np.ascontiguousarray(part).reshape(-1)
        moments = moments_of(flat)
        return moments, histogram_of([flat], moments)
    payload: Any = array.payload
    reader, row = payload.place
    (found,) = measure(reader, [row])
    return found, None if found is None else histogram_of_row(reader, row, found)


def _fact_lines(facts: dict[str, Any]) -> list[str]:
    rows = [
        ["dtype", printable(facts["dtype"]) or "-"],
        ["shape", shape(facts["shape"])],
        ["stype", printable(facts["stype"]) or "-"],
        ["bytes", f"{facts['nbytes']} ({size(facts['nbytes'])})"],
        *([["slice", facts["slice"]]] if facts["slice"] is not None else []),
        ["count", str(facts["count"])],
        *([field, number(facts[field])] for field in NUMBERS if facts[field] is not None),
    ]
    return [bold(f"array {name(facts['record'], facts['key'])}"), *columns(rows, "  ")]


def _bars(histogram: Histogram | None) -> list[str]:
    if histogram is None or not histogram.counts:
        return []
    most = max(histogram.counts)
    rows = [
        [f"{low:.4g}", str(count), _bar(count / most)]
        for low, count in zip(histogram.edges[:-1], histogram.counts, strict=True)
    ]
    return ["", bold("from, elements"), *columns(rows, "  ")]


def _bar(share: float) -> str:
    """Return a bar, in eighths of a character where the terminal has these."""
    try:
        _EIGHTHS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "#" * max(round(share * _BAR), share > 0)
    eighths = max(round(share * _BAR * 8), share > 0)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def _element_lines(array: archive.Array, part: Any) -> Iterator[str]:
    """Yield elements as numpy prints them; of a large array its corners are read."""
    threshold = sys.maxsize
    if part is None:
        try:
            part, threshold = _corners(array)
        except TypeError:
            return  # what it means is up to somebody else
    if part is None:
        return
    width = max(shutil.get_terminal_size().columns, 40)
    yield ""
    text = np.array2string(part, max_line_width=width, threshold=threshold, edgeitems=_EDGE, separator=", ")
    yield from map(printable, text.splitlines())


def _corners(array: archive.Array) -> tuple[Any, int]:
    """Return all elements, or the first and last of each axis, and how many are printed without dots."""
    if math.prod(array.shape) <= _WHOLE:
        return np.asarray(array[...]), _WHOLE
    most = 2 * _EDGE + 1
    if math.prod(min(axis, most) for axis in array.shape) > _MOST_CORNERS:
        return None, 0
    axes: list[Sequence[int]] = []
    for axis in array.shape:
        ends = [*range(_EDGE + 1), *range(axis - _EDGE, axis)]
        axes.append(ends if axis > most else range(axis))
    return np.asarray(array[np.ix_(*axes)]), 0


def _value_lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [f"  {item!r}" for item in value] or ["  []"]
    return [f"  {value!r}"]


def _plain(value: Any) -> Any:
    """Return elements for JSON."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return json_value(value)
    return str(value)
