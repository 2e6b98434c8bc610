"""Every address before the first byte: names, forms and places of a whole archive.

Nothing is read or written here. Planning 20,000 arrays takes about as long as hashing them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.engine.forms import Form, stored_value_form
from archive.engine.inputs import Inputs, RecordInput, Source, source_of
from archive.engine.rows import Rows
from archive.engine.tree import encode_tree
from archive.engine.values import EncodedValue, encode_attributes, encode_inline, encode_values
from archive.errors import ArchiveError, ValueRangeError
from archive.format.constants import (
    CONTEXT_NUMBERS,
    FOOTER_BYTES,
    KIND_ARRAYS,
    KIND_CONFIGS,
    MAX_ARRAYS,
    MAX_RECORDS,
    NO_ALIAS,
    SEGMENT_BYTES,
)
from archive.format.elements import ArrayType
from archive.format.index import RecordName
from archive.format.indexwriter import ArrayColumns, IndexWriter
from archive.format.layout import place_arrays, segment_counts
from archive.format.names import escape_name
from archive.hdf5.encoder import Metadata
from archive.version import __version__

__all__ = ["Plan", "add_values", "head_of", "make_plan", "place", "timestamp"]

NDArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(slots=True)
class Plan:
    """An archive that could be written front to back."""

    table: Rows
    """The rows as they were given."""
    forms: list[Form]
    """Distinct forms."""
    form_of: NDArray
    """Form of each row."""
    rows: NDArray
    """Rows that have bytes of their own, in file order."""
    offset: NDArray
    """File offset of each row's bytes."""
    data_end: int
    """Where the HDF5 metadata begins."""
    index: IndexWriter
    """The index, its digests still zero."""
    segment_at: NDArray
    """First digest of each row."""
    metadata: Metadata
    """Superblock and HDF5 metadata."""
    names: list[tuple[str, str]]
    """Record and key of each row, for errors."""

    @property
    def arrays(self) -> int:
        """Arrays in it, tied ones counted each."""
        return len(self.table.keys)

    @property
    def sources(self) -> list[Source | None]:
        """Where the bytes of each row come from; None once they were consumed."""
        return self.table.sources

    @property
    def index_at(self) -> int:
        """Where the index begins."""
        return self.data_end + self.metadata.nbytes

    @property
    def file_bytes(self) -> int:
        """Length of the file."""
        return self.index_at + len(self.index) + FOOTER_BYTES


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
                form = stored_value_form(value.type_name, value.stored)
                row = rows.append(number, value.key, form, value.stored, None)
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
    seen: set[str] = set()
    for key, array in record.arrays:
        if not isinstance(key, str):
            raise TypeError(f"record {record.name!r}: a key is a str, not {type(key).__name__}")
        if key in seen:
            raise ValueError(f"record {record.name!r}: two arrays with the key {key!r}")
        seen.add(key)
        try:
            form, source, identity = source_of(array)
        except ArchiveError as error:
            error.key = f"{record.name}/{key}"
            raise
        except TypeError as error:
            raise TypeError(f"{record.name}/{key}: {error}") from error
        rows.append(number, key, form, source, identity)
        rows.given.append(id(array))


def place(
    rows: Rows, records: list[RecordName], values: dict[int, list[EncodedValue]], document: dict[str, Any]
) -> Plan:
    """Decide every address of rows that are complete; the same rows get the same addresses again."""
    n = len(rows.keys)
    if n > MAX_ARRAYS or len(records) > MAX_RECORDS:
        raise ValueRangeError(
            f"{n} arrays in {len(records)} records: the format allows {MAX_ARRAYS}, {MAX_RECORDS}"
        )
    form_of = np.array(rows.form, np.intp)
    alias_of = np.array(rows.alias, np.uint32)
    owners = alias_of == NO_ALIAS
    targets = np.where(owners, np.arange(n), alias_of).astype(np.intp)
    nbytes = (
        np.array([form.nbytes for form in rows.forms], np.uint64)[form_of] if n else np.empty(0, np.uint64)
    )
    offset, data_end = place_arrays(np.where(owners, nbytes, 0).astype(np.uint64))
    counts = np.where(owners, segment_counts(nbytes, SEGMENT_BYTES), 0).astype(np.uint64)
    segment_ends = np.cumsum(counts, dtype=np.uint64)
    segment_at = (segment_ends - counts)[targets]
    offset = np.where(nbytes > 0, offset[targets], 0).astype(np.uint64)

    types: dict[ArrayType, int] = {}
    type_of_form = np.array([types.setdefault(form.type, len(types)) for form in rows.forms], np.uint32)
    dims, dims_end = _dims(rows.forms, form_of)
    keys = [key.encode("utf-8", "surrogatepass") for key in rows.keys]
    record = np.array(rows.record, np.uint32)
    columns = ArrayColumns(
        keys=keys,
        record=record,
        type=type_of_form[form_of] if n else np.empty(0, np.uint32),
        dims=dims,
        dims_end=dims_end,
        offset=offset,
        nbytes=nbytes,
        alias_of=alias_of,
        flags=np.array([form.flags for form in rows.forms], np.uint32)[form_of]
        if n
        else np.empty(0, np.uint32),
        segment_at=segment_at,
    )
    index = IndexWriter(columns, list(types), records, document, int(segment_ends[-1]) if n else 0)
    try:
        metadata = encode_tree(
            records=records,
            values=values,
            document=document,
            forms=rows.forms,
            form_of=form_of,
            keys=rows.keys,
            record_of=record,
            target_of=targets,
            offset=offset,
            nbytes=nbytes,
            start=data_end,
            index_bytes=len(index) + FOOTER_BYTES,
        )
    except ValueRangeError as error:
        error.key = _bad_name(rows, records) or error.key
        raise
    return Plan(
        table=rows,
        forms=rows.forms,
        form_of=form_of,
        rows=np.flatnonzero(owners & (nbytes > 0)),
        offset=offset,
        data_end=data_end,
        index=index,
        segment_at=segment_at,
        metadata=metadata,
        names=[(records[number].name, key) for number, key in zip(rows.record, rows.keys, strict=True)],
    )


def _bad_name(rows: Rows, records: list[RecordName]) -> str | None:
    """Return record and key of the first name that HDF5 cannot hold; names are checked all at once."""
    for number, key in zip(rows.record, rows.keys, strict=True):
        try:
            escape_name(key)
        except ValueRangeError as error:
            return f"{records[number].name}/{error.key}"
    return None


def _dims(forms: list[Form], form_of: NDArray) -> tuple[NDArray, NDArray]:
    """Return the axes of all rows one after the other, and where each row's end."""
    ranks = np.array([len(form.shape) for form in forms], np.int64)
    if not len(form_of):
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    table = np.zeros((len(forms), int(ranks.max(initial=0))), np.uint64)
    for row, form in zip(table, forms, strict=True):
        row[: len(form.shape)] = form.shape
    used = np.arange(table.shape[1]) < ranks[form_of][:, None]
    return table[form_of][used], np.cumsum(ranks[form_of]).astype(np.uint64)
