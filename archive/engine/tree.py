"""The HDF5 side of a plan: groups, datasets and attributes as other tools see them.

::

    /arrays/<record>/<key>     a dataset with attributes stype, dtype, shape (and key, order, encoding,
                               npy_header where they say something)
    /metrics/<record>          a group with one attribute a value; values too large are datasets in it
    /configs/<record>          likewise
    /index                     our own index, which ends the file
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.attributes import EncodedContext, EncodedValue
from archive.engine.storagespec import StorageSpec
from archive.errors import ValueRangeError
from archive.format.constants import (
    FLAG_FORTRAN,
    FORMAT_NAME,
    KINDS,
    MAX_ATTRIBUTE_BYTES,
    MODE_DATA,
    VERSION_MAJOR,
    VERSION_MINOR,
)
from archive.format.index import RecordName
from archive.format.names import escape_names, link_name
from archive.hdf5.datasets import KEY, Attribute, DatasetClass, Datasets
from archive.hdf5.datatypes import UINT8, UTF8_VLEN, encode_datatype
from archive.hdf5.encoder import (
    DatasetLinks,
    EncodedDatasets,
    Group,
    Metadata,
    encode_all_datasets,
    encode_metadata,
)
from archive.hdf5.fractalheap import require_room

__all__ = ["KEPT_BYTES", "encode_arrays", "encode_groups", "encode_tree"]

_INT64 = np.dtype("<i8")
KEPT_BYTES = 64 << 20
"""Datasets that take more, some 150,000 of them, are encoded for each save anew and not kept."""
_STAND_IN = os.urandom(10).hex()  # `secrets` loads OpenSSL: 5 ms of every save
"""In place of a time of creation, which has 20 characters too. No other text of a file can be this one."""


def encode_arrays(
    *,
    records: Sequence[RecordName],
    specs: Sequence[StorageSpec],
    spec_of: NDArray,
    keys: list[str],
    record_of: NDArray,
    target_of: NDArray,
    offset: NDArray,
    nbytes: NDArray,
    start: int,
) -> tuple[EncodedDatasets, tuple[int | None, ...]]:
    """Return the datasets of all rows, and for each record which group of them is its own.

    ``target_of`` is, for each row, the row whose dataset its name links to: the row itself, or the row that
    it is an alias of.

    Raises
    ------
    ValueRangeError
        HDF5 cannot hold a key, or all keys of a record.
    """
    names = _link_names(records, record_of, keys)
    owners = np.flatnonzero(target_of == np.arange(len(keys)))
    dataset_of = np.zeros(len(keys), np.intp)
    dataset_of[owners] = np.arange(len(owners))
    dataset_of = dataset_of[target_of]
    true_keys = _true_keys(keys, names, owners, dataset_of)
    classes, class_of = [_dataset_class(spec) for spec in specs], spec_of[owners]
    if true_keys is not None:
        _classify_nul_keys(classes, class_of, true_keys)
    datasets = Datasets(classes, class_of, offset[owners], nbytes[owners], true_keys)
    rows_by_record = np.argsort(record_of, kind="stable")
    counts = np.bincount(record_of, minlength=len(records)).tolist()
    links: list[DatasetLinks] = []
    group_of: list[int | None] = []
    begin = 0
    for record, count in zip(records, counts, strict=True):
        rows = rows_by_record[begin : begin + count]
        begin += count
        group_of.append(len(links) if count else None)
        if count:
            found = names if count == len(names) else [names[row] for row in rows.tolist()]
            _require_room(found, record.name)
            links.append(DatasetLinks(found, dataset_of[rows]))
    return encode_all_datasets(datasets, links, start=start), tuple(group_of)


def _link_names(records: Sequence[RecordName], record_of: NDArray, keys: list[str]) -> list[bytes]:
    try:
        return escape_names(keys)
    except ValueError:  # all at once is quicker; one by one names the first that is invalid
        return [
            link_name(records[number].name, key) for number, key in zip(record_of.tolist(), keys, strict=True)
        ]


def _require_room(names: Sequence[bytes], record: str) -> None:
    try:
        require_room(len(names), sum(map(len, names)))
    except ValueError as error:
        raise ValueRangeError(str(error), key=record, remedy="split the record") from error


def encode_tree(
    records: tuple[RecordName, ...],
    values: Mapping[int, list[EncodedValue]],
    document: Mapping[str, Any],
    context: EncodedContext | None,
    datasets: EncodedDatasets,
    links: tuple[int | None, ...],
    index_bytes: int,
) -> Metadata:
    """Return superblock and metadata region: the datasets, and the groups around them.

    Two saves of arrays alone, of one schema, differ in the time of creation and in nothing else of the
    region; so the region of the first is taken, with the other time: 20 arrays in 20 us instead of 120.
    """
    created = document["created"]
    if values or context is not None or len(created) != len(_STAND_IN) or datasets.nbytes > KEPT_BYTES:
        return encode_groups(records, values, document, context, datasets, links, index_bytes)
    number, at, metadata = _tree_of_arrays(
        records, document["writer"], document["container"], datasets, links, index_bytes
    )
    part = bytes(metadata.parts[number])
    part = part[:at] + created.encode() + part[at + len(_STAND_IN) :]
    return replace(metadata, parts=(*metadata.parts[:number], part, *metadata.parts[number + 1 :]))


@functools.lru_cache(maxsize=4)
def _tree_of_arrays(
    records: tuple[RecordName, ...],
    writer: str,
    container: str,
    datasets: EncodedDatasets,
    links: tuple[int | None, ...],
    index_bytes: int,
) -> tuple[int, int, Metadata]:
    """Return a region with a stand-in for the time of creation: which part has it, where, and the region."""
    document = {"writer": writer, "container": container, "created": _STAND_IN}
    metadata = encode_groups(records, {}, document, None, datasets, links, index_bytes)
    token = _STAND_IN.encode()
    places = [
        (number, bytes(part).find(token))
        for number, part in enumerate(metadata.parts)
        if token in bytes(part)
    ]
    ((number, at),) = places
    return number, at, metadata


def encode_groups(
    records: Sequence[RecordName],
    values: Mapping[int, list[EncodedValue]],
    document: Mapping[str, Any],
    context: EncodedContext | None,
    datasets: EncodedDatasets,
    links: Sequence[int | None],
    index_bytes: int,
    *,
    minor: int = VERSION_MINOR,
) -> Metadata:
    """Return superblock and metadata region, as `encode_tree` does, without keeping any of it."""
    groups: list[list[tuple[bytes, Group]]] = [[] for _ in KINDS]
    for number, (record, found) in enumerate(zip(records, links, strict=True)):
        attributes = _attributes(values.get(number, ()))
        groups[record.kind].append((link_name(record.name), Group(attributes, datasets=found)))
    root = Group(
        attributes=(
            _text("format", FORMAT_NAME),
            _text("version", f"{VERSION_MAJOR}.{minor}"),
            _text("writer", document["writer"]),
            _text("created", document["created"]),
            _text("container", document["container"]),
        ),
        links=[
            *((kind.encode(), Group(links=links)) for kind, links in zip(KINDS, groups, strict=True)),
            *_context_group(context),
        ],
    )
    return encode_metadata(root, datasets, index_bytes=index_bytes)


@functools.lru_cache(maxsize=8192)
def _dataset_class(spec: StorageSpec) -> DatasetClass:
    shape = np.array(spec.shape, _INT64)
    attributes = [
        _text("stype", spec.type.stype),
        _text("dtype", spec.type.dtype),
        Attribute("shape", encode_datatype(_INT64), shape.shape, shape.tobytes()),
    ]
    if spec.type.mode == MODE_DATA and spec.type.stype:
        attributes.append(_text("encoding", "data"))
    if spec.flags & FLAG_FORTRAN:
        attributes.append(_text("order", "F"))
    if 0 < len(spec.type.npy_header) <= MAX_ATTRIBUTE_BYTES:
        header = spec.type.npy_header
        attributes.append(Attribute("npy_header", UINT8, (len(header),), header))
    return DatasetClass(spec.datatype, spec.dims, tuple(attributes))


def _context_group(context: EncodedContext | None) -> list[tuple[bytes, Group]]:
    """Return ``/context`` where a Context is saved: its numbers as attributes, its configs as groups."""
    if context is None:
        return []
    links = [(field.encode(), Group(_attributes(values))) for field, values in context.configs.items()]
    numbers = _attributes(context.numbers)
    return [(b"context", Group((*numbers, _text("state", context.state)), links=links))]


def _attributes(values: Sequence[EncodedValue]) -> tuple[Attribute, ...]:
    return tuple(value.attribute for value in values if value.attribute is not None)


def _text(name: str, value: str) -> Attribute:
    """Return a string; as u8 where the string holds a NUL, at which C programs would cut it ([HDF5-8])."""
    raw = value.encode()
    if b"\0" in raw and len(raw) <= MAX_ATTRIBUTE_BYTES:
        return Attribute(name, UINT8, (len(raw),), raw)
    return Attribute(name, UTF8_VLEN, (), (raw,))


def _classify_nul_keys(classes: list[DatasetClass], class_of: NDArray, keys: list[bytes | None]) -> None:
    """Give each dataset whose key holds a NUL a class of its own, with the key among its attributes."""
    for number, key in enumerate(keys):
        if key is not None and b"\0" in key:
            plain = classes[class_of[number]]
            classes.append(replace(plain, attributes=(*plain.attributes, _text(KEY, key.decode()))))
            class_of[number], keys[number] = len(classes) - 1, None


def _true_keys(
    keys: list[str], names: list[bytes], owners: NDArray, dataset_of: NDArray
) -> list[bytes | None] | None:
    """Return the ``key`` attribute of each dataset: where the link name is not the key.

    A tied dataset has several names and no ``key``; its link names are decoded instead.
    """
    encoded = list(map(str.encode, keys))
    if encoded == names:
        return None
    escaped = [key != name for key, name in zip(encoded, names, strict=True)]
    links = np.bincount(dataset_of, minlength=len(owners))
    return [
        encoded[row] if escaped[row] and links[dataset] == 1 else None
        for dataset, row in enumerate(owners.tolist())
    ]
