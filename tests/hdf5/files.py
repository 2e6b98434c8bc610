"""Whole HDF5 files around the encoder's metadata, for independent readers to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from archive.hdf5.datatypes import UTF8_VLEN, encode_datatype
from archive.hdf5.encoder import (
    Attribute,
    DatasetClass,
    DatasetLinks,
    Datasets,
    Group,
    encode_all_datasets,
    encode_metadata,
)

INDEX = bytes(range(100))
NO_DATASETS = Datasets((), np.empty(0, np.intp), np.empty(0, np.uint64), np.empty(0, np.uint64))


def text(name: str, *values: str, dims: tuple[int, ...] = ()) -> Attribute:
    """Return a variable-length string attribute."""
    return Attribute(name, UTF8_VLEN, dims, tuple(value.encode() for value in values))


def number(name: str, value: Any) -> Attribute:
    """Return an attribute holding a numpy value."""
    array = np.asarray(value)
    return Attribute(name, encode_datatype(array.dtype), array.shape, array.tobytes())


def array_class(dtype: np.dtype[Any], shape: tuple[int, ...], datatype: bytes | None = None) -> DatasetClass:
    """Return the class of arrays as an archive writes it."""
    attributes = (
        text("stype", "numpy.ndarray"),
        text("dtype", str(dtype)),
        number("shape", np.array(shape, "<i8")),
    )
    return DatasetClass(datatype or encode_datatype(dtype), shape, attributes)


def write_file(
    path: Path,
    root: Group,
    datasets: Datasets,
    data: bytes = b"",
    index: bytes = INDEX,
    links: Sequence[DatasetLinks] = (),
) -> Path:
    """Write a whole file: superblock, zeros up to 4096, data, metadata, index."""
    start = -(-(4096 + len(data)) // 64) * 64
    encoded = encode_all_datasets(datasets, links, start=start)
    metadata = encode_metadata(root, encoded, index_bytes=len(index))
    assert len(metadata.region) == metadata.nbytes
    assert metadata.nbytes % 64 == 0
    front = metadata.superblock.ljust(4096, b"\0") + data
    path.write_bytes(front.ljust(start, b"\0") + metadata.region + index)
    return path


def write_arrays(
    path: Path,
    arrays: Sequence[np.ndarray[Any, Any]],
    names: Sequence[str],
    *,
    keys: Sequence[bytes | None] | None = None,
    rows: Sequence[int] | None = None,
    datatype: bytes | None = None,
) -> Path:
    """Write arrays as ``/arrays/model/<name>``."""
    classes: dict[DatasetClass, int] = {}
    class_of, address, nbytes = [], [], []
    data = bytearray()
    for array in arrays:
        kind = array_class(array.dtype, array.shape, datatype)
        class_of.append(classes.setdefault(kind, len(classes)))
        address.append(4096 + len(data))
        nbytes.append(array.nbytes)
        data += array.tobytes()
        data += bytes(-len(data) % 64)
    datasets = Datasets(
        tuple(classes),
        np.array(class_of, np.intp),
        np.array(address, np.uint64),
        np.array(nbytes, np.uint64),
        keys,
    )
    links = DatasetLinks(
        [name.encode() for name in names],
        np.arange(len(arrays)) if rows is None else np.array(rows, np.intp),
    )
    root = Group((text("format", "test"),), ((b"arrays", Group(links=((b"model", Group(datasets=0)),))),))
    return write_file(path, root, datasets, bytes(data), links=[links])


def write_values(path: Path, attributes: Sequence[Attribute]) -> Path:
    """Write a group ``/values`` of attributes."""
    return write_file(path, Group(links=((b"values", Group(tuple(attributes))),)), NO_DATASETS)
