"""Metrics, configs and attributes as the values section spells them; decoded here and nowhere else.

The section names its records itself. Only values that are datasets need the index: who has the index passes
a function that finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from archive.engine.read.reader import Reader
from archive.format.constants import KIND_ARRAYS, KIND_METRICS, KINDS, MODE_DATA
from archive.format.document import TooLargeError
from archive.format.index import RecordName
from archive.format.values import (
    METRIC_TYPES,
    STORED_ITEMSIZE,
    VALUE_TYPES,
    Value,
    decode_stored,
    decode_value,
    is_plain,
    validate_value,
)
from archive.format.valuesection import ValueSection

__all__ = [
    "Datasets",
    "Values",
    "decode_entries",
    "decode_inline",
    "inline_values",
    "record_values",
    "stored_types",
]

Datasets = Literal["read", "check", "skip"]
"""What becomes of a value that is a dataset: it is returned, decoded and dropped, or not read."""
Values = dict[RecordName, dict[str, Value]]
"""Values of each record that the section lists, in its order."""
Stored = Callable[[RecordName, str, list[Any]], list[Value]]
"""Returns the value of a record and key that is a dataset; no item where it is left out."""


def inline_values(section: ValueSection, member: Literal["values", "attributes"]) -> Values:
    """Return metrics and configs, or attributes of array records, without those that are datasets.

    Raises
    ------
    HostileFileError
        The values break a rule of the format; the error names record and key.
    VersionError
        A type of value that only a later version knows.
    """
    return _decode(section, member, lambda record, key, encoded: [])


def record_values(
    reader: Reader, member: Literal["values", "attributes"], *, datasets: Datasets = "read"
) -> Values:
    """Return metrics and configs, or the attributes of array records, checked against the index.

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
    index, section = reader.index, reader.values
    numbers = {record: number for number, record in enumerate(index.records)}
    rows: list[int] = []

    def stored(record: RecordName, key: str, encoded: list[Any]) -> list[Value]:
        number = numbers.get(record)
        if number is None:
            raise _unknown_record(section, member, record)
        rows.append(_row_of(reader, number, key, encoded))
        if datasets == "skip":
            return []
        value = _stored(reader, rows[-1], encoded[0], record.kind == KIND_METRICS)
        return [value] if datasets == "read" else []

    found = _decode(section, member, stored)
    for record in found.keys() - numbers.keys():
        raise _unknown_record(section, member, record)
    if member == "values":
        _require_all_referred(reader, rows)
    return found


def _unknown_record(section: ValueSection, member: str, record: RecordName) -> Exception:
    return section.origin.invalid(f"{member} of a record that the index does not have", key=record.name)


def _decode(section: ValueSection, member: str, stored: Stored) -> Values:
    listed = section.document.get(member, [])
    width = 3 if member == "values" else 2
    if not isinstance(listed, list) or not all(
        isinstance(item, list) and len(item) == width for item in listed
    ):
        raise section.origin.invalid(f"the {member} are malformed")
    found: Values = {}
    for *named, entries in listed:
        record = _record_of(section, member, named)
        if record in found:
            raise section.origin.invalid(f"two lists of {member} of one record", key=record.name)
        values = found[record] = {}
        metrics = record.kind == KIND_METRICS
        for key, encoded in decode_entries(section, record.name, entries):
            if is_plain(encoded, metrics):
                values[key] = encoded[1]
            elif member == "values" and _is_stored(encoded):
                _require_stored(section, f"{record.name}/{key}", encoded, metrics)
                for value in stored(record, key, encoded):
                    values[key] = value
            else:
                values[key] = decode_inline(section, f"{record.name}/{key}", encoded, metrics)
    return found


def _record_of(section: ValueSection, member: str, named: list[Any]) -> RecordName:
    """Return the record that values belong to: ``[kind, name]`` of values, ``[name]`` of attributes."""
    kinds, name = KINDS[1:] if member == "values" else KINDS[:1], named[-1]
    kind = named[0] if member == "values" else KINDS[KIND_ARRAYS]
    if kind not in kinds or not isinstance(name, str):
        raise section.origin.invalid(f"{member} that belong to no record of their kind")
    return RecordName(KINDS.index(kind), name)


def decode_entries(section: ValueSection, record: str, entries: Any) -> list[list[Any]]:
    """Return the pairs of key and encoded value of a record."""
    if not isinstance(entries, list):
        raise section.origin.invalid("the values are malformed", key=record)
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise section.origin.invalid("the values are malformed", key=record)
    if len(dict(entries)) != len(entries):
        raise section.origin.invalid("two values of one record share a key", key=record)
    return entries


def _is_stored(encoded: Any) -> bool:
    """Return whether a value refers to a dataset."""
    return isinstance(encoded, list) and len(encoded) == 2 and isinstance(encoded[1], dict)


def _require_stored(section: ValueSection, place: str, encoded: list[Any], metrics: bool) -> None:
    """Raise unless a value may be a dataset of its record: what is known without the index."""
    _require_known_type(section, place, encoded)
    row = encoded[1].get("row")
    if type(row) is not int or row < 0 or len(encoded[1]) != 1:
        raise section.origin.invalid("a value that refers to no dataset of its record", key=place)
    if metrics and encoded[0] not in METRIC_TYPES:
        raise section.origin.invalid(f"an invalid value: a metric is no {encoded[0]}", key=place)


def stored_types(section: ValueSection) -> dict[int, str]:
    """Return the type name of each value that is a dataset, by its row; the section was checked before."""
    listed = (entry for *_, entries in section.document.get("values", []) for entry in entries)
    return {encoded[1]["row"]: encoded[0] for _, encoded in listed if _is_stored(encoded)}


def decode_inline(section: ValueSection, place: str, encoded: Any, metrics: bool) -> Value:
    """Return a value that the section spells; ``place`` is its record and key."""
    _require_known_type(section, place, encoded)
    try:
        return _of_type(decode_value(encoded), encoded[0], metrics)
    except (TypeError, ValueError) as error:
        raise section.origin.invalid(f"an invalid value: {error}", key=place) from error


def _row_of(reader: Reader, record: int, key: str, encoded: list[Any]) -> int:
    """Return the row of the dataset that a value refers to."""
    index, origin = reader.index, reader.values.origin
    place = f"{index.records[record].name}/{key}"
    row: int = encoded[1]["row"]
    if row >= index.arrays or int(index.record[row]) != record:
        raise origin.invalid("a value that refers to no dataset of its record", key=place)
    kind, shape, nbytes = index.types[int(index.type[row])], index.shape(row), int(index.stored_nbytes[row])
    itemsize = STORED_ITEMSIZE.get(kind.description, 0)
    if index.key(row) != key or kind.mode != MODE_DATA or len(shape) != 1 or shape[0] * itemsize != nbytes:
        raise origin.invalid("a value that is not the dataset it refers to", key=place)
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


def _require_known_type(section: ValueSection, place: str, encoded: Any) -> None:
    if not isinstance(encoded, list) or len(encoded) != 2 or not isinstance(encoded[0], str):
        raise section.origin.invalid("a value that is not its type and payload", key=place)
    if encoded[0] not in VALUE_TYPES:
        raise section.origin.unknown(f"the value type {encoded[0][:80]!r} is unknown", key=place)


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
