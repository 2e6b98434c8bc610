"""The container that was saved, built again from an index: records, their values, a Context.

Metrics, configs, attributes and the fields of a Context are decoded here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from archive.engine.read.reader import Reader
from archive.format.constants import (
    CONTAINERS,
    CONTEXT_NUMBERS,
    KIND_ARRAYS,
    KIND_CONFIGS,
    KIND_METRICS,
    MODE_DATA,
)
from archive.format.document import TooLargeError
from archive.format.index import RecordName
from archive.format.values import (
    STORED_ITEMSIZE,
    VALUE_TYPES,
    Value,
    decode_stored,
    decode_value,
    validate_value,
)
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
Datasets = Literal["read", "check", "skip"]
"""What becomes of a value that is a dataset: it is returned, decoded and dropped, or not read."""


def build_records(
    reader: Reader,
    arrays: Callable[[list[int]], list[Array]],
    only: set[int] | None = None,
    *,
    datasets: Datasets = "read",
) -> Records:
    """Return the container that was saved, its arrays made by ``arrays`` from row numbers.

    ``only`` leaves out all other rows.

    Raises
    ------
    DigestError
        A value that is a dataset is damaged.
    HostileFileError, VersionError
        The index breaks a rule of the format, or a later version of the format wrote it.
    """
    index = reader.index
    container = _container_of(reader)
    document_text(reader, "created")
    values = record_values(reader, "values", datasets=datasets) | record_values(reader, "attributes")
    array_kind = ParametersRecord if container == "recordset" else ArrayRecord
    made: list[tuple[RecordName, Any]] = []
    rows_by_record = np.argsort(index.record, kind="stable")
    ends = np.cumsum(index.record_rows["arrays"].astype(np.intp)).tolist()
    begin = 0
    for number, (record, end) in enumerate(zip(index.records, ends, strict=True)):
        found: Any = values.get(number, {})
        if record.kind == KIND_ARRAYS:
            rows = rows_by_record[begin:end].tolist()
            made.append((record, _array_record(reader, record, rows, only, arrays, array_kind, found)))
        else:
            made.append((record, MetricRecord(found) if record.kind == KIND_METRICS else ConfigRecord(found)))
        begin = end
    if container == "recorddict":
        by_name = {record.name: value for record, value in made}
        if len(by_name) != len(made):
            raise index.origin.invalid("two records of a RecordDict share a name")
        return RecordDict(by_name)
    kinds: list[dict[str, Any]] = [
        {record.name: value for record, value in made if record.kind == kind}
        for kind in (KIND_ARRAYS, KIND_METRICS, KIND_CONFIGS)
    ]
    return RecordSet(*kinds)


def _array_record(
    reader: Reader,
    record: RecordName,
    rows: list[int],
    only: set[int] | None,
    arrays: Callable[[list[int]], list[Array]],
    kind: type[ArrayRecord],
    attributes: dict[str, Value],
) -> ArrayRecord:
    if only is not None:
        rows = [row for row in rows if row in only]
    named = dict(zip(reader.index.keys(rows), arrays(rows), strict=True))
    if len(named) != len(rows):
        raise reader.index.origin.invalid("two arrays of one record share a key", key=record.name)
    made = kind.from_checked(named)
    if attributes:
        made.attributes.update(attributes)
    return made


def record_values(reader: Reader, member: str, *, datasets: Datasets = "read") -> dict[int, dict[str, Value]]:
    """Return metrics and configs, or the attributes of array records, by record number.

    Parameters
    ----------
    reader : Reader
    member : {"values", "attributes"}
    datasets : {"read", "check", "skip"}
        Values that are datasets may have gigabytes: only "read" returns them.

    Raises
    ------
    DigestError
        A value that is a dataset is damaged.
    HostileFileError
        The values break a rule of the format; the error names record and key.
    VersionError
        A type of value that only a later version knows.
    """
    listed = reader.index.document.get(member, [])
    if not isinstance(listed, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in listed):
        raise reader.index.origin.invalid(f"the {member} in the index are malformed")
    found: dict[int, dict[str, Value]] = {}
    rows: list[int] = []
    for number, entries in listed:
        name = _record_of(reader, member, number)
        if number in found:
            raise reader.index.origin.invalid(f"two lists of {member} of one record", key=name.name)
        values = found[number] = {}
        metrics = name.kind == KIND_METRICS
        for key, encoded in _entries(reader, name.name, entries):
            if member == "attributes" or not _is_stored(encoded):
                values[key] = _inline(reader, f"{name.name}/{key}", encoded, metrics)
                continue
            rows.append(_row_of(reader, number, key, encoded))
            if datasets == "read":
                values[key] = _stored(reader, rows[-1], encoded[0], metrics)
            elif datasets == "check":
                _stored(reader, rows[-1], encoded[0], metrics)
    if member == "values":
        _require_all_referred(reader, rows)
    return found


def _record_of(reader: Reader, member: str, number: Any) -> RecordName:
    """Return the record that values belong to."""
    records = reader.index.records
    if (
        type(number) is not int
        or not 0 <= number < len(records)
        or (records[number].kind == KIND_ARRAYS) != (member == "attributes")
    ):
        raise reader.index.origin.invalid(f"{member} that belong to no record of their kind")
    return records[number]


def _entries(reader: Reader, record: str, entries: Any) -> list[tuple[str, Any]]:
    """Return the keys and encoded values of a record."""
    if (
        not isinstance(entries, list)
        or not all(isinstance(entry, list) and len(entry) == 2 for entry in entries)
        or not all(isinstance(key, str) for key, _ in entries)
    ):
        raise reader.index.origin.invalid("the values in the index are malformed", key=record)
    if len({key for key, _ in entries}) != len(entries):
        raise reader.index.origin.invalid("two values of one record share a key", key=record)
    return [(key, encoded) for key, encoded in entries]


def _is_stored(encoded: Any) -> bool:
    """Return whether a value refers to a dataset."""
    return isinstance(encoded, list) and len(encoded) == 2 and isinstance(encoded[1], dict)


def _inline(reader: Reader, place: str, encoded: Any, metrics: bool) -> Value:
    """Return a value that the index spells; ``place`` is its record and key."""
    _require_known_type(reader, place, encoded)
    try:
        return _of_type(decode_value(encoded), encoded[0], metrics)
    except (TypeError, ValueError) as error:
        raise reader.index.origin.invalid(f"an invalid value in the index: {error}", key=place) from error


def _row_of(reader: Reader, record: int, key: str, encoded: list[Any]) -> int:
    """Return the row of the dataset that a value refers to."""
    index = reader.index
    place = f"{index.records[record].name}/{key}"
    _require_known_type(reader, place, encoded)
    row = encoded[1].get("row")
    if type(row) is not int or not 0 <= row < index.arrays or int(index.record[row]) != record:
        raise index.origin.invalid("a value that refers to no dataset of its record", key=place)
    kind, shape, nbytes = index.types[int(index.type[row])], index.shape(row), int(index.stored_nbytes[row])
    itemsize = STORED_ITEMSIZE.get(kind.description, 0)
    if index.key(row) != key or kind.mode != MODE_DATA or len(shape) != 1 or shape[0] * itemsize != nbytes:
        raise index.origin.invalid("a value that is not the dataset it refers to", key=place)
    return row


def _stored(reader: Reader, row: int, type_name: str, metrics: bool) -> Value:
    """Return a value that is a dataset."""
    description, stored = reader.index.types[int(reader.index.type[row])].description, reader.stored(row)
    try:
        return _of_type(decode_stored(type_name, description, stored), type_name, metrics)
    except TooLargeError as error:
        raise reader.index.origin.too_large(error, reader.index.full_name(row)) from error
    except (TypeError, ValueError) as error:
        raise reader.invalid(row, error) from error


def _require_known_type(reader: Reader, place: str, encoded: Any) -> None:
    if not isinstance(encoded, list) or len(encoded) != 2 or not isinstance(encoded[0], str):
        raise reader.index.origin.invalid("a value that is not its type and payload", key=place)
    if encoded[0] not in VALUE_TYPES:
        raise reader.index.origin.unknown(f"the value type {encoded[0][:80]!r} is unknown", key=place)


def _of_type(value: Value, type_name: str, metrics: bool) -> Value:
    """Return a value after checking that its record may hold it, and that it is of its type."""
    if validate_value(value, metric=metrics) != type_name:
        raise ValueError(f"not a value of type {type_name}")
    return value


def _require_all_referred(reader: Reader, rows: list[int]) -> None:
    """Raise where a dataset of a record of values belongs to no value, or to two."""
    index = reader.index
    owned = np.flatnonzero(index.record_rows["kind"][index.record] != KIND_ARRAYS).tolist()
    if sorted(rows) != owned:
        odd = min(set(rows) ^ set(owned), default=rows[0] if rows else 0)
        raise index.origin.invalid(
            "a dataset of a record of values that not exactly one value names", key=index.full_name(odd)
        )


def document_text(reader: Reader, name: str) -> str:
    """Return a text member of the JSON part of the index."""
    value = reader.index.document.get(name)
    if not isinstance(value, str):
        raise reader.index.origin.invalid(f"the index has no {name}")
    return value


def _container_of(reader: Reader) -> str:
    """Return the container of the records: recordset or recorddict."""
    container: Any = document_text(reader, "container")
    if container == "context":
        container = _context_of(reader).get("state")
    if not isinstance(container, str):
        raise reader.index.origin.invalid("the context does not name the container of its records")
    if container not in CONTAINERS[:2]:
        raise reader.index.origin.unknown(f"unknown container {container[:80]!r}")
    return container


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
    configs: dict[str, Any] = {
        field: {
            key: _inline(reader, f"{field}/{key}", encoded, False)
            for key, encoded in _entries(reader, field, context.get(field))
        }
        for field in ("node_config", "run_config")
    }
    numbers = {
        field: _inline(reader, f"context/{field}", context[field], False)
        for field in CONTEXT_NUMBERS
        if field in context
    }
    for field, number in numbers.items():
        if type(number) is not int:
            raise reader.index.origin.invalid("a number of the context is not an int", key=f"context/{field}")
    missing = set(CONTEXT_NUMBERS) - {"series_id"} - set(numbers)
    if missing:
        raise reader.index.origin.invalid("a number of the context is missing", key=f"context/{min(missing)}")
    whole: dict[str, Any] = {"series_id": 0, **numbers, **configs}
    return Context(state=records, **whole)


def _context_of(reader: Reader) -> dict[str, Any]:
    """Return the fields of a Context as the index spells them."""
    context = reader.index.document.get("context")
    if not isinstance(context, dict):
        raise reader.index.origin.invalid("the index has no context")
    return context
