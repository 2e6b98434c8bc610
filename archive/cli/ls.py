"""``fedarchive ls``: one line an array, attribute of a record, metric and config."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import archive
from archive.cli.exits import OK
from archive.cli.options import define_archive, open_archive
from archive.cli.output import show
from archive.cli.text import columns, elided, json_value, name, printable, shape, type_name
from archive.errors import ArchiveError

__all__ = ["DESCRIPTION", "define", "list_arrays", "run"]

DESCRIPTION = """\
Print one line an array: record/key, dtype, shape, stype, bytes of its elements. Then one line an
attribute of a record of arrays, a metric or a config: record/key, which of the three, value. No array
is read. Of the folder of a run its newest round is listed.

JSON: path; arrays, a list of {record, key, dtype, shape, stype, nbytes, offset} (offset of the first
stored byte, null under --foreign); attributes, metrics and configs, lists of {record, key, type,
value}. Floats that JSON lacks are "nan", "inf" and "-inf"; bytes are hexadecimal: type is bytes.
CSV: one row for each of these, with path and kind: array, attribute, metric or config."""

_KINDS = {"attributes": "attribute", "metrics": "metric", "configs": "config"}
_FIELDS = ("path", "kind", "record", "key", "dtype", "shape", "stype", "nbytes", "offset", "type", "value")


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    define_archive(parser)
    parser.add_argument("--record", metavar="NAME", help="only the records of this name")
    parser.add_argument(
        "--long", action="store_true", help="values in full, and the file offset of every array"
    )


def run(arguments: argparse.Namespace) -> int:
    """List one archive."""
    with open_archive(arguments) as handle:
        path = handle.info.path
        listed: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("arrays", *_KINDS)}
        found = arguments.record is None
        for kind, record, content in _records(handle):
            if arguments.record in (None, record):
                found = True
                if kind == "arrays":
                    listed[kind] += list_arrays(record, content, offsets=not arguments.foreign)
                    listed["attributes"] += _list_values(record, content.attributes)
                else:
                    listed[kind] += _list_values(record, content)
    if not found:
        raise ArchiveError(
            f"no record {arguments.record!r}", path=path, remedy="`fedarchive info` lists the records"
        )

    def document() -> dict[str, Any]:
        values = {
            kind: [{**entry, "value": json_value(entry["value"])} for entry in listed[kind]]
            for kind in _KINDS
        }
        return {"path": path, **listed, **values}

    rows = (
        {"path": path, "kind": _KINDS.get(kind, "array"), **entry}
        for kind, of in listed.items()
        for entry in of
    )
    show(arguments, document, _lines(listed, arguments.long), rows=rows, fields=_FIELDS)
    return OK


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


def _records(handle: archive.Archive) -> Iterator[tuple[str, str, Any]]:
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


def _lines(listed: dict[str, list[dict[str, Any]]], long: bool) -> Iterator[str]:
    rows = []
    for entry in listed["arrays"]:
        row = [
            name(entry["record"], entry["key"]),
            printable(entry["dtype"]) or "-",
            shape(entry["shape"]),
            printable(entry["stype"]) or "-",
            str(entry["nbytes"]),
        ]
        if long and entry["offset"] is not None:
            row.append(f"@{entry['offset']}")
        rows.append(row)
    yield from columns(rows)
    rows = []
    for kind, word in _KINDS.items():
        for entry in listed[kind]:
            value = repr(entry["value"])  # repr escapes what a terminal would act on
            rows.append(
                [name(entry["record"], entry["key"]), word, value if long else elided(value)],
            )
    yield from columns(rows)
