"""Every address before the first byte: names, specs and places of a whole archive.

Nothing is read or written here. Planning 20,000 arrays takes about as long as hashing them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archive.engine.storagespec import StorageSpec, stored_value_spec
from archive.engine.write.attributes import EncodedValue, encode_attributes, encode_inline, encode_values
from archive.engine.write.inputs import Inputs, RecordInput, ndarray_specs, source_of
from archive.engine.write.schema import Rows, Schema, schema_of
from archive.engine.write.tree import encode_tree
from archive.errors import ArchiveError
from archive.format.constants import (
    CONTEXT_NUMBERS,
    FOOTER_BYTES,
    KIND_ARRAYS,
    KIND_CONFIGS,
)
from archive.format.index import RecordName
from archive.format.indexwriter import IndexWriter
from archive.hdf5.encoder import Metadata
from archive.version import __version__

__all__ = ["Plan", "add_values", "head_of", "make_plan", "place", "timestamp"]


@dataclass(slots=True)
class Plan:
    """An archive that could be written front to back."""

    table: Rows
    """The rows as they were given."""
    records: list[RecordName]
    """Names of the records."""
    schema: Schema
    """What the arrays alone decided."""
    index: IndexWriter
    """The index, its digests still zero."""
    metadata: Metadata
    """Superblock and HDF5 metadata."""

    index_at: int
    """Where the index begins."""
    file_bytes: int
    """Length of the file."""

    def spec(self, row: int) -> StorageSpec:
        """Return the storage spec of a row."""
        return self.schema.specs[int(self.schema.spec_of[row])]

    def name(self, row: int) -> tuple[str, str]:
        """Return record and key of a row, for errors."""
        return self.records[self.table.record[row]].name, self.table.keys[row]


def make_plan(inputs: Inputs, created: str) -> Plan:
    """Check all inputs, and decide every address.

    Raises
    ------
    TypeError, ValueError
        Something no archive holds; the message names record and key. Nothing was written.
    """
    rows = Rows()
    values: dict[int, list[EncodedValue]] = {}
    attributes: dict[int, list[EncodedValue]] = {}
    for number, record in enumerate(inputs.records):
        if record.kind == KIND_ARRAYS:
            _add_arrays(rows, number, record)
            if record.attributes:
                attributes[number] = encode_attributes(record.name, record.attributes)
        else:
            values[number] = encode_values(record.kind, record.name, record.values)
    names = [RecordName(record.kind, record.name) for record in inputs.records]
    document = add_values(rows, values, attributes, head_of(inputs, created))
    return place(rows, names, values | attributes, document)


def head_of(inputs: Inputs, created: str) -> dict[str, Any]:
    """Return what the index says of the archive as a whole, as JSON."""
    head: dict[str, Any] = {"container": inputs.container, "created": created}
    if inputs.context is None:
        return head
    context = dict(inputs.context)
    for field in ("node_config", "run_config"):
        context[field] = encode_inline(RecordName(KIND_CONFIGS, field), context[field])
    numbers = {field: context.pop(field) for field in CONTEXT_NUMBERS}
    if not numbers["series_id"]:
        del numbers["series_id"]
    context |= dict(encode_inline(RecordName(KIND_CONFIGS, "context"), numbers))
    return head | {"context": context}


def add_values(
    rows: Rows,
    values: Mapping[int, list[EncodedValue]],
    attributes: Mapping[int, list[EncodedValue]],
    head: Mapping[str, Any],
) -> dict[str, Any]:
    """Add the values that are datasets as rows, and return the JSON part of the index."""
    listed = []
    for number in sorted(values):
        entries: list[list[Any]] = []
        for value in values[number]:
            inline = value.inline
            if value.stored is not None:
                spec = stored_value_spec(value.type_name, value.stored)
                row = rows.append(number, value.key, spec, value.stored, None)
                inline = [value.type_name, {"row": row}]
            entries.append([value.key, inline])
        listed.append([number, entries])
    document = {**head, "writer": f"fedarchive {__version__}", "values": listed}
    if attributes:
        document["attributes"] = [
            [number, [[value.key, value.inline] for value in found]]
            for number, found in sorted(attributes.items())
        ]
    return document


def timestamp(created: datetime.datetime | str | None) -> str:
    """Return a creation time as ISO 8601 in UTC, to the second.

    Raises
    ------
    TypeError, ValueError
        No time, or one without time zone.
    """
    if created is None:
        created = datetime.datetime.now(datetime.timezone.utc)
    if isinstance(created, str):
        created = datetime.datetime.fromisoformat(created.replace("Z", "+00:00"))
    if not isinstance(created, datetime.datetime):
        raise TypeError(f"created must be a datetime or ISO 8601 text, not {type(created).__name__}")
    if created.tzinfo is None:
        raise ValueError("created needs a time zone: datetime.now(datetime.timezone.utc)")
    return created.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _add_arrays(rows: Rows, number: int, record: RecordInput) -> None:
    entries = list(record.arrays)
    keys, arrays = [key for key, _ in entries], [array for _, array in entries]
    specs = ndarray_specs(arrays)
    # a call an array is most of what 20,000 of them cost: 22 ms, 9 this way
    if (
        specs is not None
        and set(map(type, keys)) == {str}
        and len(set(keys)) == len(keys)
        and rows.extend(number, keys, specs, arrays)
    ):
        rows.given += map(id, arrays)
        return
    seen: set[str] = set()
    for key, array in entries:
        if not isinstance(key, str):
            raise TypeError(f"record {record.name!r}: a key is a str, not {type(key).__name__}")
        if key in seen:
            raise ValueError(f"record {record.name!r}: two arrays with the key {key!r}")
        seen.add(key)
        try:
            spec, source, identity = source_of(array)
        except ArchiveError as error:
            error.key = f"{record.name}/{key}"
            raise
        except TypeError as error:
            raise TypeError(f"{record.name}/{key}: {error}") from error
        rows.append(number, key, spec, source, identity)
        rows.given.append(id(array))


def place(
    rows: Rows, records: list[RecordName], values: dict[int, list[EncodedValue]], document: dict[str, Any]
) -> Plan:
    """Decide every address of rows that are complete; the same rows get the same addresses again."""
    schema = schema_of(rows, records)
    index = schema.index.write(document)
    index_bytes = len(index) + FOOTER_BYTES
    metadata = encode_tree(tuple(records), values, document, schema.datasets, schema.links, index_bytes)
    index_at = schema.data_end + metadata.nbytes
    return Plan(rows, records, schema, index, metadata, index_at, index_at + index_bytes)
