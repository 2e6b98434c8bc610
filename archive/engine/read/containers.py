"""The container that was saved, built again from an index: records, their values, a Context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from archive.engine.read.reader import Reader
from archive.errors import ClosedError, DamagedError, HostileFileError, VersionError
from archive.format.constants import (
    CONTAINERS,
    CONTEXT_NUMBERS,
    KIND_ARRAYS,
    KIND_CONFIGS,
    KIND_METRICS,
    MODE_DATA,
)
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


def build_records(
    reader: Reader, arrays: Callable[[list[int]], list[Array]], only: set[int] | None = None
) -> Records:
    """Return the container that was saved, its arrays made by ``arrays`` from row numbers.

    ``only`` leaves out all rows but these.
    """
    index = reader.index
    container = _container_of(reader)
    document_text(reader, "created")
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


def _container_of(reader: Reader) -> str:
    """Return what the records are: recordset or recorddict."""
    container: Any = document_text(reader, "container")
    if container == "context":
        container = _context_of(reader).get("state")
    if not isinstance(container, str):
        raise HostileFileError("the context does not say what its records are", path=reader.path)
    if container not in CONTAINERS[:2]:
        raise reader.index.origin.unknown(f"unknown container {container[:80]!r}")
    return container


@contextmanager
def _judged(reader: Reader, problem: str) -> Iterator[None]:
    """Turn what malformed values raise into the error of the file; damage, say, stays what it is."""
    try:
        yield
    except (DamagedError, HostileFileError, VersionError) as error:
        error.path = error.path or reader.path
        raise
    except ClosedError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise HostileFileError(problem, path=reader.path) from error


def _config_of(reader: Reader, context: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a dictionary of a Context."""
    with _judged(reader, f"the {field} of the context is malformed"):
        entries = context[field]
        _require_entries(entries)
        return {key: _inline(reader, key, encoded) for key, encoded in entries}


def _number_of(reader: Reader, context: dict[str, Any], field: str) -> int:
    """Return a number of a Context."""
    with _judged(reader, f"the {field} of the context is no number"):
        number = _inline(reader, field, context[field])
        if type(number) is not int:
            raise TypeError(f"{field} is a {type(number).__name__}")
        return number


def record_values(reader: Reader, member: str) -> dict[int, dict[str, Value]]:
    """Return metrics and configs by record number; values that are datasets are read, and verified.

    Parameters
    ----------
    reader : Reader
    member : {"values", "attributes"}

    Raises
    ------
    DigestError
        A value that is a dataset is damaged.
    HostileFileError
        They break a rule of the format.
    VersionError
        A type of value that only a later version knows.
    """
    listed = reader.index.document.get(member, [])
    found: dict[int, dict[str, Value]] = {}
    referred: list[int] = []
    with _judged(reader, "the values in the index are malformed"):
        if not isinstance(listed, list) or len({number for number, _ in listed}) != len(listed):
            raise HostileFileError(f"two lists of {member} of one record")
        for number, entries in listed:
            _require_record(reader, member, number)
            _require_entries(entries)
            metric = reader.index.records[number].kind == KIND_METRICS
            found[number] = {
                key: _stored(reader, number, key, encoded, referred)
                if member == "values" and _is_stored(encoded)
                else _inline(reader, key, encoded, metric=metric)
                for key, encoded in entries
            }
    if member == "values":
        rows = np.flatnonzero(reader.index.record_rows["kind"][reader.index.record] != KIND_ARRAYS)
        if sorted(referred) != rows.tolist():
            raise HostileFileError("a dataset of a record of values that no value names", path=reader.path)
    return found


def _require_record(reader: Reader, member: str, number: Any) -> None:
    """Raise where values belong to no record of their kind."""
    records = reader.index.records
    if (
        type(number) is not int
        or not 0 <= number < len(records)
        or (records[number].kind == KIND_ARRAYS) != (member == "attributes")
    ):
        raise HostileFileError(f"{member} that belong to no record of their kind")


def _require_entries(entries: Any) -> None:
    """Raise where values are no list of key and value, or two share a key."""
    if (
        not isinstance(entries, list)
        or not all(isinstance(entry, list) and len(entry) == 2 for entry in entries)
        or not all(isinstance(key, str) for key, _ in entries)
    ):
        raise TypeError("values that are no list of key and value")
    if len({key for key, _ in entries}) != len(entries):
        raise HostileFileError("two values of one record share a key")


def _type_name(reader: Reader, encoded: Any) -> str:
    """Return the type name of ``[type, payload]``."""
    if not isinstance(encoded, list) or len(encoded) != 2 or not isinstance(encoded[0], str):
        raise ValueError("a value that is not its type and payload")
    if encoded[0] not in VALUE_TYPES:
        raise reader.index.origin.unknown(f"the value type {encoded[0][:80]!r} is unknown")
    return encoded[0]


def _is_stored(encoded: Any) -> bool:
    return isinstance(encoded, list) and len(encoded) == 2 and isinstance(encoded[1], dict)


def _inline(reader: Reader, key: str, encoded: Any, *, metric: bool = False) -> Value:
    """Return a value that the document spells."""
    name = _type_name(reader, encoded)
    return _judge(decode_value(encoded), name, key, metric=metric)


def _judge(value: Value, name: str, key: str, *, metric: bool) -> Value:
    """Return a value that is of its type, and may be in its record."""
    if validate_value(value, metric=metric, key=key) != name:
        raise HostileFileError(f"a value that is no {name}")
    return value


def _stored(reader: Reader, record: int, key: str, encoded: list[Any], referred: list[int]) -> Value:
    """Return a value that is a dataset, and note its row."""
    name, row, index = _type_name(reader, encoded), encoded[1].get("row"), reader.index
    if type(row) is not int or not 0 <= row < index.arrays or int(index.record[row]) != record:
        raise HostileFileError("a value that refers to no dataset of its record")
    kind, shape, nbytes = index.types[int(index.type[row])], index.shape(row), int(index.stored_nbytes[row])
    itemsize = STORED_ITEMSIZE.get(kind.description, 0)
    if index.key(row) != key or kind.mode != MODE_DATA or len(shape) != 1 or shape[0] * itemsize != nbytes:
        raise HostileFileError("a value that is not the dataset it refers to")
    referred.append(row)
    value = decode_stored(name, kind.description, reader.stored(row))
    return _judge(value, name, key, metric=index.records[record].kind == KIND_METRICS)


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
    listed = {field: _number_of(reader, context, field) for field in CONTEXT_NUMBERS if field in context}
    numbers = {"series_id": 0} | listed
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
