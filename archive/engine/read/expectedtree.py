"""The HDF5 tree that an index asks for, encoded by the functions that writers use."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.attributes import EncodedContext, EncodedValue, encode_context, encode_inline
from archive.engine.read.containers import build_context
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import record_values, stored_types
from archive.engine.storagespec import StorageSpec, row_spec, shown_type, stored_value_spec
from archive.engine.tree import encode_arrays, encode_groups
from archive.format.constants import KIND_ARRAYS, MAX_ATTRIBUTE_BYTES, NO_ALIAS
from archive.format.footer import Footer
from archive.format.index import Index
from archive.hdf5.encoder import EncodedDatasets, Metadata
from archive.records import RecordSet
from archive.workers import drop_oldest

__all__ = ["ExpectedTree", "encode_expected", "forget_trees"]

Name = tuple[str, str]
"""Record and key."""
Names = Collection[Name]
Links = tuple[int | None, ...]

_HEADER_NBYTES, _LINK_NBYTES = 100, 21
"""Less than the header of a dataset takes beside type, shape and texts; what a link takes beside its name."""
_KEPT, _KEPT_BYTES = 4, 4 << 20
"""Models whose datasets are kept, and the most bytes of each: some 8,000 arrays."""
_kept: dict[tuple[Any, ...], tuple[EncodedDatasets, Links]] = {}


@dataclass(frozen=True, slots=True)
class ExpectedTree:
    """Metadata that say what an index says."""

    metadata: Metadata
    """Superblock and region."""
    unread: frozenset[Name]
    """Texts that are datasets and damaged: what type they should have is not known."""


def encode_expected(reader: Reader, footer: Footer, damaged: Names) -> ExpectedTree:
    """Encode the metadata that the index of an archive asks for.

    Parameters
    ----------
    reader : Reader
    footer : Footer
    damaged : collection of (str, str)
        Records and keys of arrays whose bytes do not match.

    Raises
    ------
    HostileFileError, VersionError
        The document breaks a rule of the format, or a later version of the format wrote it.
    DigestError
        The bytes of a value changed since they were compared.
    TypeError, ValueError
        HDF5 cannot hold what the index says, or not in the metadata of this archive.
    """
    index = reader.index
    values, context = dict(_values(reader)), _context(reader)
    datasets, links, unread = _datasets(reader, footer, damaged)
    metadata = encode_groups(
        index.records,
        values,
        {name: reader.values.text_of(name) for name in ("writer", "created", "container")},
        context,
        datasets,
        links,
        footer.file_bytes - footer.index_at,
        minor=footer.minor,
    )
    return ExpectedTree(metadata, unread)


def _datasets(
    reader: Reader, footer: Footer, damaged: Names
) -> tuple[EncodedDatasets, Links, frozenset[Name]]:
    """Return the datasets of all rows, for each record which group is its own, and texts that are damaged.

    Clients of a federation have one model: datasets that follow from names, types and places alone are kept.
    """
    index = reader.index
    keys = index.keys(range(index.arrays))
    columns = (index.record, index.type, index.flags, index.alias_of, index.offset, index.stored_nbytes)
    bounds = (index.dims, index.dims_end)
    asked = (
        footer.meta_at,
        tuple(index.records),
        tuple(index.types),
        tuple(keys),
        *(column.tobytes() for column in (*columns, *bounds)),
    )
    kept = _kept.get(asked)
    if kept is not None:
        return *kept, frozenset()
    rows = np.arange(index.arrays)
    specs, spec_of, unread = _specs(reader, damaged)
    targets = np.where(index.alias_of == NO_ALIAS, rows, index.alias_of).astype(np.intp)
    _require_room(reader, footer, specs, spec_of[targets == rows])
    datasets, links = encode_arrays(
        records=index.records,
        specs=specs,
        spec_of=spec_of,
        keys=keys,
        record_of=index.record,
        target_of=targets,
        offset=index.offset,
        nbytes=index.stored_nbytes,
        start=footer.meta_at,
    )
    if datasets.nbytes <= _KEPT_BYTES and not _of_value(index).any():  # bytes of a text decide its type
        drop_oldest(_kept, _KEPT)
        _kept[asked] = datasets, links
    return datasets, links, unread


def forget_trees() -> None:
    """Encode the datasets of every archive anew: for measurements."""
    _kept.clear()


def _of_value(index: Index) -> NDArray:
    """Return which rows are values."""
    of_value: NDArray = index.record_rows["kind"][index.record] != KIND_ARRAYS
    return of_value


def _specs(reader: Reader, damaged: Names) -> tuple[list[StorageSpec], NDArray, frozenset[Name]]:
    """Return distinct storage specs by first use, the number of each row's, and texts that are damaged."""
    index = reader.index
    # every value has a spec of its own
    value_row = np.where(_of_value(index), np.arange(index.arrays), -1)
    columns = (index.type, index.flags, index.stored_nbytes, value_row)
    forms = zip(*(column.tolist() for column in columns), _axes(index), strict=True)
    known: dict[tuple[Any, ...], int] = {}
    spec_of = [known.setdefault(form, len(known)) for form in forms]
    specs: list[Any] = [None] * len(known)
    unread: set[Name] = set()
    shown, number_shown = None, -1
    type_names = stored_types(reader.values)
    # by type: however many there are, each is parsed once
    for form, number in sorted(known.items()):
        kind_number, flags, nbytes, row, axes = form
        kind, shape = index.types[kind_number], tuple(np.frombuffer(axes, "<u8").tolist())
        if row >= 0:
            specs[number] = _value_spec(reader, row, type_names[row], damaged, unread)
            continue
        if shown is None or number_shown != kind_number:
            shown, number_shown = shown_type(kind), kind_number
        specs[number] = row_spec(kind, shown, shape, flags, nbytes)
    return specs, np.array(spec_of, np.intp), frozenset(unread)


def _axes(index: Index) -> list[bytes]:
    """Return the shapes of all rows as they are stored: as tuples they would take twice the time."""
    dims, ends = index.dims.tobytes(), (index.dims_end * 8).tolist()
    return [dims[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _value_spec(reader: Reader, row: int, type_name: str, damaged: Names, unread: set[Name]) -> StorageSpec:
    """Return the storage spec of a value that is a dataset; only of a text its bytes are looked at."""
    index = reader.index
    kind = index.types[int(index.type[row])]
    dtype = parse_description(kind.description)
    elements: NDArray = np.broadcast_to(np.zeros((), dtype), index.shape(row))
    if type_name == "str":
        name = index.records[int(index.record[row])].name, index.key(row)
        if name in damaged:
            unread.add(name)
        else:
            elements = reader.stored(row)
    return replace(stored_value_spec(type_name, elements), type=kind)


def _require_room(reader: Reader, footer: Footer, specs: list[StorageSpec], spec_of: NDArray) -> None:
    """Raise where the metadata are too short: a few bytes of an index can ask for gigabytes of headers."""
    index = reader.index
    sizes = index.type_rows
    texts = (sizes["dtype_bytes"].astype(int) + sizes["stype_bytes"] + np.where(
        sizes["npy_header_bytes"] <= MAX_ATTRIBUTE_BYTES, sizes["npy_header_bytes"], 0
    )).tolist()  # fmt: skip
    numbers = {id(kind): size for kind, size in zip(index.types, texts, strict=True)}
    each = [
        _HEADER_NBYTES + len(spec.datatype) + 8 * (len(spec.dims) + len(spec.shape)) + numbers[id(spec.type)]
        for spec in specs
    ]
    counts = np.bincount(spec_of, minlength=len(specs)).tolist()
    need = sum(size * count for size, count in zip(each, counts, strict=True))
    need += index.arrays * _LINK_NBYTES + (int(index.key_end[-1]) if index.arrays else 0)
    if need > footer.meta_bytes:
        raise ValueError(f"its datasets take more than {need:,} bytes of metadata")


def _values(reader: Reader) -> Iterator[tuple[int, list[EncodedValue]]]:
    """Yield the values that are attributes, by record number."""
    numbers = {record: number for number, record in enumerate(reader.index.records)}
    listed = record_values(reader, "values", datasets="skip") | record_values(reader, "attributes")
    for record, values in listed.items():
        yield numbers[record], encode_inline(record, values)


def _context(reader: Reader) -> EncodedContext | None:
    """Return the fields of a Context; None where none was saved."""
    if reader.values.text_of("container") != "context":
        return None
    context = build_context(reader, RecordSet())
    fields = ("run_id", "node_id", "series_id", "node_config", "run_config")
    state = reader.values.document["context"]["state"]
    return encode_context({"state": state} | {field: getattr(context, field) for field in fields})
