"""``fedarchive ls``: one line an array, attribute of a record, metric and config."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import archive
from archive.cli.bars import progress_of
from archive.cli.exits import OK, worst
from archive.cli.keytree import tree_lines
from archive.cli.options import define_archives, open_archive
from archive.cli.output import show
from archive.cli.overview import show_overview
from archive.cli.style import bold, red
from archive.cli.text import columns, elided, json_value, name, printable, shape, size, type_name
from archive.cli.words import TargetReader, find_targets, is_one
from archive.errors import ArchiveError

__all__ = ["DESCRIPTION", "define", "each_record", "list_arrays", "run"]

DESCRIPTION = """\
Print one line an array: record/key, dtype, shape, stype, bytes of its elements. Then one line an
attribute of a record of arrays, a metric or a config: record/key, which of the three, value. No array
is read. Of the folder of a run its newest round is listed, or --round.

Of several archives, a pattern or a folder: one line an archive, unless --keys, --record, --tree or --long ask
for what is in each. What cannot be read is reported, and the rest is listed.

JSON: path; arrays, a list of {record, key, dtype, shape, stype, nbytes, offset} (offset of the first
stored byte, null under --foreign); attributes, metrics and configs, lists of {record, key, type,
value}. Floats that JSON lacks are "nan", "inf" and "-inf"; bytes are hexadecimal: type is bytes. Of several:
archives, a list of these, or of what `fedarchive info` prints; and errors, a list of {path, kind, message}.
CSV: a row for each of these, with path and kind: array, attribute, metric or config; else as info."""

_KINDS = {"attributes": "attribute", "metrics": "metric", "configs": "config"}
_FIELDS = ("path", "kind", "record", "key", "dtype", "shape", "stype", "nbytes", "offset", "type", "value")
_IN_EACH = ("keys", "record", "tree", "long")
"""Options that ask for what is in each of several archives."""

Listed = dict[str, list[dict[str, Any]]]
"""Entries by kind: arrays, attributes, metrics, configs."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    define_archives(parser)
    parser.add_argument("--record", metavar="NAME", help="only the records of this name")
    parser.add_argument(
        "--keys",
        metavar="PATTERN",
        action="append",
        default=[],
        help="only what has such a KEY or RECORD/KEY, such as 'encoder.*' or 'model/*'; may be repeated",
    )
    parser.add_argument(
        "--long", action="store_true", help="values in full, and the file offset of every array"
    )
    parser.add_argument("--tree", action="store_true", help="names as a tree, with sizes and counts")
    parser.add_argument("--human", action="store_true", help="sizes such as 12.1 KiB")
    parser.add_argument(
        "--sort",
        choices=sorted(_ORDERS),
        help="arrays or archives by size (the largest first), name or dtype; default: as saved",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")


def run(arguments: argparse.Namespace) -> int:
    """List one archive or several."""
    targets = find_targets(arguments, arguments.paths)
    if is_one(arguments.paths, targets):
        with open_archive(arguments, arguments.paths[0]) as handle:
            path, listed = handle.info.path, list_archive(handle, arguments)
        rows, lines = _rows(path, listed), _lines(listed, arguments)
        show(arguments, lambda: _document(path, listed), lines, rows=rows, fields=_FIELDS)
        return OK
    if not any(getattr(arguments, option) for option in _IN_EACH):
        order = {"size": lambda facts: -facts["file_bytes"]}.get(arguments.sort, lambda facts: facts["path"])
        return show_overview(arguments, targets, order if arguments.sort else None, reverse=arguments.reverse)
    with progress_of(arguments, "reading", "archives") as bar:
        reader = TargetReader(arguments, bar)
        found = reader.read(targets, lambda handle: list_archive(handle, arguments))
        show(
            arguments,
            lambda: {"archives": [_document(*one) for one in found], "errors": reader.errors},
            (line for path, listed in found for line in _section(path, listed, arguments)),
            rows=(row for one in found for row in _rows(*one)),
            fields=_FIELDS,
            say=bar.say,
        )
    return worst(reader.codes)


def list_archive(handle: archive.Archive, arguments: argparse.Namespace) -> Listed:
    """Return what of an archive was asked for, in the order that was.

    Raises
    ------
    ArchiveError
        Nothing has such a name.
    """
    path, wanted = handle.info.path, arguments.record
    listed: Listed = {kind: [] for kind in ("arrays", *_KINDS)}
    there = wanted is None
    for kind, record, content in each_record(handle):
        if wanted in (None, record):
            there = True
            if kind == "arrays":
                listed[kind] += list_arrays(record, content, offsets=not arguments.foreign)
                listed["attributes"] += _list_values(record, content.attributes)
            else:
                listed[kind] += _list_values(record, content)
    if not there:
        raise ArchiveError(f"no record {wanted!r}", path=path, remedy="`fedarchive info` lists the records")
    if arguments.keys:
        listed = _matching(listed, arguments.keys, path)
    for kind, entries in listed.items():
        if arguments.sort == "name" or (arguments.sort and kind == "arrays"):
            entries.sort(key=_ORDERS[arguments.sort])
        if arguments.reverse:
            entries.reverse()
    return listed


def list_arrays(record: str, arrays: Any, *, offsets: bool) -> list[dict[str, Any]]:
    """Return the listed facts of every array of a record, read from the index alone."""
    return [
        {
            "record": record,
            "key": key,
            "dtype": array.dtype,
            "shape": list(array.shape),
            "stype": array.stype,
            "nbytes": array.nbytes,
            "offset": array.payload.where[1] if offsets else None,
        }
        for key, array in arrays.items()
    ]


def _by_name(entry: Mapping[str, Any]) -> Any:
    return entry["record"], entry["key"]


_ORDERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "dtype": lambda entry: (entry["dtype"], *_by_name(entry)),
    "name": _by_name,
    "size": lambda entry: (-entry["nbytes"], *_by_name(entry)),
}


def _matching(listed: Listed, patterns: Sequence[str], path: str) -> Listed:
    """Return the entries that one of the patterns matches, in their order."""
    from archive.engine.read.keypatterns import match_names

    entries = [(kind, entry) for kind, of_kind in listed.items() for entry in of_kind]
    names = [(entry["record"], entry["key"]) for _, entry in entries]
    places: set[int] = set()
    for pattern in patterns:
        matched = match_names(names, pattern)
        if not matched:
            remedy = "`fedarchive ls` without --keys lists all"
            raise ArchiveError(f"nothing matches {pattern!r}", path=path, remedy=remedy)
        places.update(matched)
    found: Listed = {kind: [] for kind in listed}
    for place in sorted(places):
        kind, entry = entries[place]
        found[kind].append(entry)
    return found


def each_record(handle: archive.Archive) -> Iterator[tuple[str, str, Any]]:
    """Yield kind, name and record in the order of the file."""
    records = handle.records
    for kind, record, _ in handle.info.records:
        if isinstance(records, archive.RecordSet):
            spaces = {
                "arrays": records.parameters_records,
                "metrics": records.metrics_records,
                "configs": records.configs_records,
            }
            space: Any = spaces[kind]
        else:
            space = records
        if record in space:  # a store keeps its own records of a round to itself
            yield kind, record, space[record]


def _list_values(record: str, values: Any) -> list[dict[str, Any]]:
    return [
        {"record": record, "key": key, "type": type_name(value), "value": value}
        for key, value in values.items()
    ]


def _document(path: str, listed: Listed) -> dict[str, Any]:
    values = {
        kind: [{**entry, "value": json_value(entry["value"])} for entry in listed[kind]] for kind in _KINDS
    }
    return {"path": path, **listed, **values}


def _rows(path: str, listed: Listed) -> Iterator[dict[str, Any]]:
    for kind, entries in listed.items():
        for entry in entries:
            yield {"path": path, "kind": _KINDS.get(kind, "array"), **entry}


def _section(path: str, listed: Listed, arguments: argparse.Namespace) -> Iterator[str]:
    yield bold(f"{printable(path)}:")
    yield from _lines(listed, arguments)


def _lines(listed: Listed, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.tree:
        yield from tree_lines([entry for entries in listed.values() for entry in entries])
        return
    rows = []
    for entry in listed["arrays"]:
        row = [
            name(entry["record"], entry["key"]),
            printable(entry["dtype"]) or "-",
            shape(entry["shape"]),
            printable(entry["stype"]) or "-",
            size(entry["nbytes"]) if arguments.human else str(entry["nbytes"]),
        ]
        if arguments.long and entry["offset"] is not None:
            row.append(f"@{entry['offset']}")
        rows.append(row)
    yield from columns(rows)
    rows = []
    for kind, word in _KINDS.items():
        for entry in listed[kind]:
            value = repr(entry["value"])  # repr escapes what a terminal would act on
            rows.append(
                [
                    name(entry["record"], entry["key"]),
                    word,
                    _marked(entry["value"], value if arguments.long else elided(value)),
                ],
            )
    yield from columns(rows)


def _marked(value: object, text: str) -> str:
    """Return a value for people; NaN is red."""
    values = value if isinstance(value, list) else [value]
    return red(text) if any(isinstance(one, float) and one != one for one in values) else text
