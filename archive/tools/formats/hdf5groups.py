"""HDF5 files that are not archives: any of them as content, and Keras's ``.weights.h5`` written.

In both directions a group is a record, its path the record's name, its attributes the configs of that name:
``/layers/dense/vars/0`` is the array ``0`` of the record ``layers/dense/vars``, whose config ``name`` is the
layer's. So a file of Keras comes back with the groups and attributes that it had. It is read through h5py in
a process of its own, as by ``archive.open(url, foreign=True)``, and written by this package's own encoder:
h5py needs a file that seeks, and objects have none. Keras itself is not needed for either.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.dtypes import is_ml_dtype, plain_name
from archive.engine.attributes import encode_record
from archive.engine.foreign.open import open_foreign
from archive.engine.read.reader import Reader
from archive.errors import ArchiveError, ValueRangeError
from archive.format.constants import DATA_AT, KIND_ARRAYS
from archive.format.index import RecordName
from archive.format.layout import place_next
from archive.format.names import escape_name
from archive.hdf5.datasets import Attribute, DatasetClass, Datasets
from archive.hdf5.datatypes import UTF8_VLEN, encode_datatype, opaque
from archive.hdf5.encoder import DatasetLinks, Group, encode_all_datasets, encode_metadata
from archive.storage.url import Location
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.entries import Content, Entry, Hasher, LeftOut, left_of_ties, left_of_values
from archive.tools.formats.filelike import Target, staged

__all__ = ["read", "write"]


class _Tree(ArchiveContent):
    """A foreign file; of an object its local copy, which goes when it is closed."""

    def __init__(self, reader: Reader, location: Location, opened: ExitStack) -> None:
        super().__init__(reader, location)
        self._opened = opened
        skipped = reader.values.document.get("skipped", 0)
        if skipped:
            self.left_out.append((f"{skipped} attributes or datasets", "values that no archive holds"))

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._opened.close()


def read(location: Location, *, decoded_bytes: int | None = None) -> Content:
    """Open any HDF5 file; arguments and errors as for ``archive.open(url, foreign=True)``."""
    with ExitStack() as opened:
        path = opened.enter_context(staged(location))
        reader = open_foreign(path, access="pread", writable=False, decoded_bytes=decoded_bytes)
        opened.callback(reader.close)
        return _Tree(reader, location, opened.pop_all())


@dataclass(slots=True)
class _Node:
    """A group in the making."""

    attributes: tuple[Attribute, ...] = ()
    groups: dict[bytes, _Node] = field(default_factory=dict)
    arrays: dict[bytes, int] = field(default_factory=dict)
    """Rows of datasets by link name."""


def write(content: Content, target: Target, hasher: Hasher) -> list[LeftOut]:
    """Write content as groups and datasets, as Keras writes weights, and return what was left out.

    Raises
    ------
    ValueRangeError
        A record lies in another that has arrays, or HDF5 has no such name.
    """
    left_out: list[LeftOut] = []
    chosen = [entry for entry in content.entries if _is_held(entry, left_out)]
    root = _Node()
    rows: list[DatasetClass] = []
    for entry in chosen:
        node = _node_of(root, entry.record)
        node.arrays[escape_name(entry.key)] = len(rows)
        rows.append(_class_of(entry))
    for name, values in content.configs.items():
        _add_attributes(root, name, values, left_out)
    left_out += [(name, why) for name, why in left_of_values(content) if why != "configs"]
    left_out += left_of_ties(chosen)
    left_out += [
        ("/".join(entry.name), f"its name: in HDF5 it is called {'/'.join(spelled)}")
        for entry in chosen
        if (spelled := _spelled(entry)) != entry.name
    ]
    offsets, end = _place(chosen)
    head, tail = _encode(root, rows, offsets, [entry.nbytes for entry in chosen], end)
    hasher.total = sum(entry.nbytes for entry in chosen)
    with target.open(end + len(tail)) as file:
        file.write(head + bytes(DATA_AT - len(head)))
        for (entry, chunks), offset in zip(content.read(chosen), offsets, strict=True):
            if entry.nbytes:
                file.write(bytes(offset - file.tell()))
            for chunk in hasher.watch(entry, chunks, _spelled(entry)):
                file.write(chunk)
        file.write(bytes(end - file.tell()))
        file.write(tail)
    return left_out


def _is_held(entry: Entry, left_out: list[LeftOut]) -> bool:
    dtype = entry.dtype
    if dtype is not None and dtype.kind in "biufc" and not is_ml_dtype(dtype):
        with contextlib.suppress(TypeError):  # longdouble of some machines
            encode_datatype(dtype)
            return True
    if dtype is not None and plain_name(dtype) == "bfloat16":
        return True
    left_out.append(("/".join(entry.name), f"Keras has no element type for {dtype or 'such bytes'}"))
    return False


def _class_of(entry: Entry) -> DatasetClass:
    dtype: Any = entry.dtype
    if plain_name(dtype) == "bfloat16":  # Keras writes bytes, and the name beside them
        return DatasetClass(opaque(2), entry.shape, (Attribute("dtype", UTF8_VLEN, (), (b"bfloat16",)),))
    return DatasetClass(encode_datatype(dtype), entry.shape)


def _node_of(root: _Node, record: str) -> _Node:
    node = root
    for part in _parts(record):
        node = node.groups.setdefault(part, _Node())
    return node


def _parts(record: str) -> list[bytes]:
    return [escape_name(part) for part in record.split("/")]


def _spelled(entry: Entry) -> tuple[str, str]:
    """Return record and key as they are read back: what no link can hold is escaped."""
    return b"/".join(_parts(entry.record)).decode(), escape_name(entry.key).decode()


def _add_attributes(root: _Node, name: str, values: dict[str, Any], left_out: list[LeftOut]) -> None:
    try:
        encoded = encode_record(RecordName(KIND_ARRAYS, name), values)
    except (ArchiveError, TypeError) as error:
        left_out.append((name, f"configs that are no attributes: {error}"))
        return
    _node_of(root, name).attributes = tuple(one.attribute for one in encoded if one.attribute is not None)


def _place(entries: list[Entry]) -> tuple[list[int], int]:
    """Return the offset of each array, and the end of the last, where the tree begins."""
    offsets, position = [], DATA_AT
    for entry in entries:
        offset, position = place_next(position, entry.nbytes)
        offsets.append(offset)
    return offsets, position


def _encode(
    root: _Node, rows: list[DatasetClass], offsets: list[int], nbytes: list[int], end: int
) -> tuple[bytes, bytes]:
    """Return the superblock and the tree of a file."""
    links: list[DatasetLinks] = []
    group = _group(root, links, ())
    at, sizes = np.array(offsets, np.uint64), np.array(nbytes, np.uint64)
    datasets = Datasets(rows, np.arange(len(rows), dtype=np.intp), at, sizes)
    encoded = encode_all_datasets(datasets, links, start=end)
    metadata = encode_metadata(group, encoded, index_bytes=None)
    return metadata.superblock, metadata.region


def _group(node: _Node, links: list[DatasetLinks], path: tuple[bytes, ...]) -> Group:
    number = None
    if node.arrays:
        if node.groups:
            raise ValueRangeError(
                "a record with arrays in which other records lie",
                key=b"/".join(path).decode(),
                remedy="rename one of them",
            )
        number = len(links)
        links.append(DatasetLinks(list(node.arrays), np.array(list(node.arrays.values()), np.intp)))
    made = [(name, _group(child, links, (*path, name))) for name, child in node.groups.items()]
    return Group(node.attributes, made, number)
