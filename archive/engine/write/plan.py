"""Every address before the first byte: names, specs and places of a whole archive.

Nothing is read or written here. Planning 20,000 arrays takes about as long as hashing them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.attributes import EncodedContext, EncodedValue
from archive.engine.storagespec import NUMPY_STYPE, StorageSpec, plain_spec, stored_value_spec
from archive.engine.tree import encode_tree
from archive.engine.write.inputs import Inputs, RecordInput, source_of
from archive.engine.write.schema import Rows, Schema, schema_of
from archive.errors import ValueRangeError
from archive.format.constants import FOOTER_BYTES, KIND_ARRAYS, KINDS
from archive.format.document import RAISE, TooLargeError, encode_json
from archive.format.index import RecordName
from archive.format.indexwriter import IndexWriter, encode_section
from archive.hdf5.encoder import Metadata
from archive.records import Array
from archive.records.payload import NdarrayPayload
from archive.records.tensors import is_tensor, plain_elements
from archive.version import __version__

__all__ = ["Plan", "Preamble", "make_plan", "place", "require_readable", "timestamp"]

_PLAIN_KINDS = frozenset("biufcmM")


@dataclass(frozen=True, slots=True)
class Preamble:
    """What an archive says of itself as a whole, encoded."""

    container: str
    """Type of the container: recordset, recorddict or context."""
    created: str
    """Creation time."""
    context: EncodedContext | None = None
    """Fields of a Context; None for other containers."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """Members that belong to somebody else, who gave them a prefix; in ``context`` those of the context."""

    def document(self) -> dict[str, Any]:
        """Return its members of the document of the values section."""
        members: dict[str, Any] = {"container": self.container, "created": self.created}
        if self.context is not None:
            members["context"] = self.context.document() | self.members.get("context", {})
        return {**self.members, **members} if self.members else members


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
    values: bytes
    """The values section."""
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


def make_plan(inputs: Inputs, preamble: Preamble, values: Mapping[RecordName, list[EncodedValue]]) -> Plan:
    """Check all arrays, and decide every address.

    Parameters
    ----------
    inputs : Inputs
    preamble : Preamble
    values : mapping
        Encoded metrics and configs by record, and the attributes of array records.

    Raises
    ------
    TypeError, ValueError
        Something no archive holds; the message names record and key. Nothing was written.
    """
    rows = Rows()
    for number, record in enumerate(inputs.records):
        if record.kind == KIND_ARRAYS:
            _add_arrays(rows, number, record)
    names = [RecordName(record.kind, record.name) for record in inputs.records]
    return place(
        rows, names, {number: values[name] for number, name in enumerate(names) if name in values}, preamble
    )


def require_readable(
    records: list[RecordName], values: Mapping[int, list[EncodedValue]], preamble: Preamble
) -> None:
    """Raise ValueRangeError where no reader would take the values: before arrays are asked for."""
    try:
        encode_json(_add_values(Rows(), records, values, preamble))
    except TooLargeError as error:
        raise _too_large(error, records, values) from error


def _too_large(
    error: TooLargeError, records: list[RecordName], values: Mapping[int, list[EncodedValue]]
) -> ValueRangeError:
    """Return the error for values that no reader would take; it names the record with most of them."""
    most = max(values, key=lambda number: len(values[number]), default=0)
    return ValueRangeError(
        f"metrics, configs and attributes: {error}",
        key=records[most].name if records else None,
        remedy=f"put values together into lists or arrays, or {RAISE}",
    )


def _add_values(
    rows: Rows, records: list[RecordName], values: Mapping[int, list[EncodedValue]], preamble: Preamble
) -> dict[str, Any]:
    """Add the values that are datasets as rows, and return the document of the values section."""
    listed: list[list[Any]] = []
    attributes: list[list[Any]] = []
    for number in sorted(values):
        entries: list[list[Any]] = []
        for value in values[number]:
            inline = value.inline
            if value.stored is not None:
                spec = stored_value_spec(value.type_name, value.stored)
                row = rows.append(number, value.key, spec, value.stored, None)
                inline = [value.type_name, {"row": row}]
            entries.append([value.key, inline])
        kind, name = records[number].kind, records[number].name
        if kind == KIND_ARRAYS:
            attributes.append([name, entries])
        else:
            listed.append([KINDS[kind], name, entries])
    document = {**preamble.document(), "writer": f"fedarchive {__version__}", "values": listed}
    return document | {"attributes": attributes} if attributes else document


def timestamp(created: datetime.datetime | str | None) -> str:
    """Return a creation time as ISO 8601 in UTC, to the second.

    Raises
    ------
    TypeError, ValueError
        No time, one without time zone, or none that has a year of four digits in UTC.
    """
    if created is None:
        created = datetime.datetime.now(datetime.timezone.utc)
    if isinstance(created, str):
        created = datetime.datetime.fromisoformat(created.replace("Z", "+00:00"))
    if not isinstance(created, datetime.datetime):
        raise TypeError(f"created must be a datetime or ISO 8601 text, not {type(created).__name__}")
    if created.tzinfo is None:
        raise ValueError("created needs a time zone: datetime.now(datetime.timezone.utc)")
    try:
        created = created.astimezone(datetime.timezone.utc)
    except OverflowError:
        raise ValueError(f"created is not within the years 1 to 9999 in UTC: {created.isoformat()}") from None
    return created.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _add_arrays(rows: Rows, number: int, record: RecordInput) -> None:
    entries = list(record.arrays)
    keys, arrays = [key for key, _ in entries], [array for _, array in entries]
    plain = _plain_sources(arrays)
    # a call an array is most of what 20,000 of them cost: 22 ms, 9 this way
    if (
        plain is not None
        and set(map(type, keys)) == {str}
        and len(set(keys)) == len(keys)
        and rows.extend(number, keys, *plain)
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
        spec, source, identity = source_of(array, (record.name, key))
        rows.append(number, key, spec, source, identity)
        rows.given.append(id(array))


def _plain_sources(arrays: list[Any]) -> tuple[list[StorageSpec], list[NDArray], list[object]] | None:
    """Return storage specs, elements and identities of ndarrays, Arrays of ndarrays, or plain tensors.

    None where any array is something else, or has a type whose storage spec depends on more than type, shape
    and order: `source_of` takes those one by one, and names record and key of what cannot be stored.
    """
    kinds, tensors = set(map(type, arrays)), False
    if kinds == {np.ndarray}:
        sources: list[NDArray] | None = arrays
    elif kinds == {Array}:
        sources = _elements(arrays)
    else:
        tensors = any(map(is_tensor, arrays[:1]))
        sources = plain_elements(arrays) if tensors else None
    if sources is None:
        return None
    known: dict[object, StorageSpec] = {}
    specs = []
    for array in sources:
        flags = array.flags
        key = array.dtype, array.shape, flags.f_contiguous and not flags.c_contiguous
        spec = known.get(key)
        if spec is None:
            if array.dtype.kind not in _PLAIN_KINDS:
                return None
            try:
                spec = known[key] = plain_spec(*key, None, b"")  # as `elements_spec` asks: one object
            except ValueError:
                return None
        specs.append(spec)
    if tensors:  # as in `archive.engine.write.inputs`: a plain tensor is where its elements are
        places = zip([tensor.data_ptr() for tensor in arrays], sources, strict=True)
        return specs, sources, [(address, elements.strides) for address, elements in places]
    return specs, sources, list(map(id, sources))


def _elements(arrays: list[Array]) -> list[NDArray] | None:
    """Return the elements of Arrays in memory; None where one has serialised bytes or a header of its own."""
    payloads = [array.payload for array in arrays]
    if not all(isinstance(payload, NdarrayPayload) and not payload.given_header for payload in payloads):
        return None
    sources: list[NDArray] = [payload.array for payload in payloads]  # type: ignore[attr-defined]
    names = {dtype: str(dtype) for dtype in {source.dtype for source in sources}}
    given = zip(arrays, sources, strict=True)
    named = all(array.stype == NUMPY_STYPE and array.dtype == names[source.dtype] for array, source in given)
    return sources if named and all(type(source) is np.ndarray for source in sources) else None


def place(
    rows: Rows, records: list[RecordName], values: Mapping[int, list[EncodedValue]], preamble: Preamble
) -> Plan:
    """Decide every address of an archive whose arrays are all in its rows.

    Parameters
    ----------
    rows : Rows
        The arrays; values that are datasets are added.
    records : list of RecordName
    values : mapping
        Encoded metrics, configs and attributes by number of the record.
    preamble : Preamble

    Raises
    ------
    ValueRangeError
        No reader would take the values.
    """
    document = _add_values(rows, records, values, preamble)
    schema = schema_of(rows, records)
    try:
        section = encode_section(document)
    except TooLargeError as error:
        raise _too_large(error, records, values) from error
    index = schema.index.write()
    tail_bytes = len(index.buffer) + len(section) + FOOTER_BYTES
    metadata = encode_tree(
        tuple(records), values, document, preamble.context, schema.datasets, schema.links, tail_bytes
    )
    index_at = schema.data_end + metadata.nbytes
    return Plan(rows, records, schema, index, section, metadata, index_at, index_at + tail_bytes)
