"""The container that was saved, built again from an index: records, their values, a Context."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from archive.dtypes import npy_dtype
from archive.engine.reader import Reader
from archive.engine.values import decode_stored
from archive.errors import HostileFileError
from archive.format.constants import (
    CONTAINERS,
    CONTEXT_NUMBERS,
    KIND_ARRAYS,
    KIND_CONFIGS,
    KIND_METRICS,
)
from archive.format.elements import parse_description
from archive.format.index import RecordName
from archive.format.values import Value, decode_value, validate_value
from archive.records import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    MetricRecord,
    ParametersRecord,
    RecordDict,
    RecordSet,
)

__all__ = ["Records", "build_context", "build_records", "document_text", "record_values"]

Records = RecordSet | RecordDict


def build_records(
    reader: Reader, arrays: Callable[[list[int]], list[Array]], only: set[int] | None = None
) -> Records:
    """Return the container that was saved, its arrays made by ``arrays`` from row numbers.

    ``only`` leaves out all rows but these.
    """
    index = reader.index
    container = document_text(reader, "container")
    document_text(reader, "created")
    if container == "context":
        state = _context_of(reader).get("state")
        container = state if isinstance(state, str) else ""
    if container not in CONTAINERS:
        raise HostileFileError(f"unknown container {container[:80]!r}", path=reader.path)
    values = record_values(reader, "values")
    attributes = record_values(reader, "attributes")
    made: list[tuple[RecordName, Any]] = []
    rows_by_record = np.argsort(index.record, kind="stable")
    ends = np.cumsum(index.record_rows["arrays"].astype(np.intp))
    begin = 0
    for number, record in enumerate(index.records):
        rows = rows_by_record[begin : int(ends[number])].tolist()
        begin = int(ends[number])
        if record.kind == KIND_ARRAYS:
            if only is not None:
                rows = [row for row in rows if row in only]
            kind = ParametersRecord if container == "recordset" else ArrayRecord
            named = dict(zip(index.keys(rows), arrays(rows), strict=True))
            if len(named) != len(rows):
                raise HostileFileError("two arrays of one record share a key", path=reader.path)
            made.append((record, kind.from_checked(named)))
            if number in attributes:
                made[-1][1].attributes.update(attributes[number])
        elif record.kind == KIND_METRICS:
            made.append((record, MetricRecord(values.get(number, {}))))  # type: ignore[arg-type]
        else:
            made.append((record, ConfigRecord(values.get(number, {}))))
    if container == "recorddict":
        if len({record.name for record, _ in made}) != len(made):
            raise HostileFileError("two records of a RecordDict share a name", path=reader.path)
        return RecordDict({record.name: value for record, value in made})
    kinds: list[dict[str, Any]] = [
        {record.name: value for record, value in made if record.kind == kind}
        for kind in (KIND_ARRAYS, KIND_METRICS, KIND_CONFIGS)
    ]
    return RecordSet(*kinds)


def _context_of(reader: Reader) -> dict[str, Any]:
    """Return the fields of a Context as the index has them."""
    context = reader.index.document.get("context")
    if not isinstance(context, dict):
        raise HostileFileError("the index has no context", path=reader.path)
    return context


def _config_of(reader: Reader, context: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a dictionary of a Context."""
    try:
        return {key: decode_value(encoded) for key, encoded in context[field]}
    except (KeyError, TypeError, ValueError) as error:
        raise HostileFileError(f"the {field} of the context is malformed", path=reader.path) from error


def record_values(reader: Reader, member: str) -> dict[int, dict[str, Value]]:
    """Return metrics and configs by record number; values that are datasets are read, and verified."""
    listed = reader.index.document.get(member, [])
    found: dict[int, dict[str, Value]] = {}
    try:
        if len({number for number, _ in listed}) != len(listed):
            raise HostileFileError("two lists of values of one record", path=reader.path)
        for number, entries in listed:
            _requirerecord_values(reader, member, number, entries)
            metric = reader.index.records[number].kind == KIND_METRICS
            found[number] = {key: _value(reader, number, metric, key, encoded) for key, encoded in entries}
            if len(found[number]) != len(entries):
                raise HostileFileError("two values of one record share a key", path=reader.path)
    except (TypeError, ValueError) as error:
        if isinstance(error, HostileFileError):
            raise
        raise HostileFileError("the values in the index are malformed", path=reader.path) from error
    return found


def _requirerecord_values(reader: Reader, member: str, number: Any, entries: Any) -> None:
    """Raise where a list of values is no list, or belongs to no record of values."""
    records = reader.index.records
    if (
        type(number) is not int
        or not 0 <= number < len(records)
        or (records[number].kind == KIND_ARRAYS) != (member == "attributes")
        or not isinstance(entries, list)
        or not all(isinstance(entry, list) and len(entry) == 2 for entry in entries)
        or not all(isinstance(key, str) for key, _ in entries)
    ):
        raise HostileFileError(f"{member} that belong to no record of their kind", path=reader.path)


def _value(reader: Reader, record: int, metric: bool, key: str, encoded: Any) -> Value:
    value = _decoded(reader, record, key, encoded)
    validate_value(value, metric=metric, key=key)
    return value


def _decoded(reader: Reader, record: int, key: str, encoded: Any) -> Value:
    if not (isinstance(encoded, list) and len(encoded) == 2 and isinstance(encoded[1], dict)):
        return decode_value(encoded)
    index, row = reader.index, encoded[1].get("row")
    if type(row) is not int or not 0 <= row < index.arrays or int(index.record[row]) != record:
        raise HostileFileError("a value that refers to no dataset of its record", path=reader.path)
    description = index.types[int(index.type[row])].description
    dtype = npy_dtype(parse_description(description))
    if index.key(row) != key or math.prod(index.shape(row)) * dtype.itemsize != int(index.stored_nbytes[row]):
        raise HostileFileError("a value that is not the dataset it refers to", path=reader.path)
    return decode_stored(encoded[0], dtype, reader.stored(row))


def document_text(reader: Reader, name: str) -> str:
    """Return a member of the JSON part of the index that is text."""
    value = reader.index.document.get(name)
    if not isinstance(value, str):
        raise HostileFileError(f"the index has no {name}", path=reader.path)
    return value


def build_context(reader: Reader, records: Records) -> Context:
    """Return the Context that was saved, over its records.

    Raises
    ------
    TypeError
        Something else was saved.
    HostileFileError
        The index holds no such Context.
    """
    if document_text(reader, "container") != "context":
        raise TypeError("no Context was saved here; see .records")
    context = _context_of(reader)
    listed = [[field, context[field]] for field in CONTEXT_NUMBERS if field in context]
    numbers = {"series_id": 0} | _config_of(reader, {"numbers": listed}, "numbers")
    if numbers.keys() != set(CONTEXT_NUMBERS):
        raise HostileFileError("a number of the context is missing", path=reader.path)
    return Context(
        run_id=numbers["run_id"],
        node_id=numbers["node_id"],
        node_config=_config_of(reader, context, "node_config"),
        state=records,
        run_config=_config_of(reader, context, "run_config"),
        series_id=numbers["series_id"],
    )
