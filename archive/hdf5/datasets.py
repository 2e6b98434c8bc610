"""Object headers of many datasets at once: one template for each class, columns for the fields that differ.

Datasets of a class share datatype, shape and constant attributes, so that its header is built once. Rows
differ in address, size, references into the global heap, ``key`` and link count. HDF5 File Format
Specification, section IV.A.1.b.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archive.hdf5 import messages
from archive.hdf5.checksum import lookup3_prefix, lookup3_spans
from archive.hdf5.datatypes import UTF8_VLEN
from archive.hdf5.globalheap import REFERENCE_NBYTES, Column, GlobalHeap
from archive.hdf5.messages import UNDEFINED, Message

__all__ = ["KEY", "Attribute", "DatasetClass", "Datasets", "attribute_message", "encode_datasets"]

KEY = "key"
"""Attribute with the true name of a dataset whose link name is escaped."""

_SPAN_SLACK = 16
_ROWS_OF_A_FRONT = 4
"""Hashing the front that rows share takes as long as hashing it with the rest of four of them."""
_NO_KEY = -1


@dataclass(frozen=True, slots=True)
class Attribute:
    """A named value."""

    name: str
    """Not empty, without NUL."""
    datatype: bytes
    """Encoded datatype, see `archive.hdf5.datatypes`."""
    dims: tuple[int, ...] | None
    """Shape; ``()`` a scalar, ``None`` without elements."""
    value: bytes | tuple[bytes, ...]
    """The bytes of the elements; for the datatype `UTF8_VLEN` the strings, as UTF-8."""


@dataclass(frozen=True, slots=True)
class DatasetClass:
    """Fields that all datasets of a class share."""

    datatype: bytes
    """Encoded datatype, see `archive.hdf5.datatypes`."""
    dims: tuple[int, ...]
    """Shape; ``()`` a scalar."""
    attributes: tuple[Attribute, ...] = ()
    """Attributes whose values all datasets of the class share."""


@dataclass(frozen=True, slots=True)
class Datasets:
    """Columns, one row for each dataset."""

    classes: Sequence[DatasetClass]
    """The distinct classes."""
    class_of: npt.NDArray[np.intp]
    """Index into `classes`, shape (n,)."""
    address: npt.NDArray[np.uint64]
    """File offset of the bytes, shape (n,); ignored without bytes."""
    nbytes: npt.NDArray[np.uint64]
    """Number of bytes, shape (n,)."""
    keys: Sequence[bytes | None] | None = None
    """UTF-8 value of an extra string attribute ``key`` for each dataset; None without that attribute."""


@dataclass(frozen=True, slots=True)
class _Template:
    """The header of one class, with zeros where rows differ."""

    block: npt.NDArray[np.uint8]
    """The header without its checksum."""
    front: int
    """Number of first bytes that all rows share; a multiple of 12."""
    layout: int
    """Place of the address; the size follows it."""
    references: tuple[int, ...]
    """Place of the reference to each string."""
    strings: tuple[bytes, ...]
    """The strings, without the key."""
    links: int
    """Place of the link count, 0 without one."""


def attribute_message(attribute: Attribute, heap: GlobalHeap) -> Message:
    """Encode one attribute; strings of variable length go into the heap."""
    value = attribute.value
    if isinstance(value, tuple):
        _check_count(attribute, value)
        address, index = heap.add(value)
        value = b"".join(struct.pack("<IQI", len(text), address, at) for at, text in enumerate(value, index))
    return messages.attribute(attribute.name, attribute.datatype, attribute.dims, value)


def encode_datasets(
    datasets: Datasets, links: npt.NDArray[np.int64], heap: GlobalHeap, address: int
) -> tuple[memoryview, npt.NDArray[np.uint64]]:
    """Encode the object headers of all datasets.

    Parameters
    ----------
    datasets : Datasets
    links : numpy.ndarray
        int64, shape (n,): hard links to each; above 1 a reference count is written.
    heap : GlobalHeap
        Takes the strings; addresses in it are final.
    address : int
        File offset of the first header, added to the offsets that are returned.

    Returns
    -------
    block, headers : memoryview, numpy.ndarray
        The bytes, and the offset of the header of each dataset, uint64, shape (n,).
    """
    n = len(datasets.class_of)
    keys = datasets.keys
    if keys is None:
        key_nbytes = np.full(n, _NO_KEY, np.int64)
    else:
        key_nbytes = np.fromiter((_NO_KEY if key is None else len(key) for key in keys), np.int64, n)
    kinds, members = _kinds(datasets.class_of, key_nbytes, links > 1)

    templates = [
        _template(datasets.classes[c], size if size == _NO_KEY else 0, counted) for c, size, counted in kinds
    ]
    counts = np.fromiter(map(len, members), np.int64, len(members))
    header_nbytes = np.fromiter((len(template.block) + 4 for template in templates), np.int64, len(templates))
    lasts = np.cumsum(counts * header_nbytes)
    total = int(lasts[-1]) if len(lasts) else 0
    block = np.zeros(total + _SPAN_SLACK, np.uint8)
    where = np.where(datasets.nbytes == 0, np.uint64(UNDEFINED), datasets.address)
    layout = np.stack((where, datasets.nbytes), axis=1).astype("<u8").view(np.uint8).reshape(n, 16)

    headers = np.empty(n, np.int64)
    first = 0
    for (_, key_size, counted), template, rows in zip(kinds, templates, members, strict=True):
        k, size = len(rows), len(template.block) + 4
        view = block[first : first + k * size].reshape(k, size)
        view[:, : size - 4] = template.block
        view[:, template.layout : template.layout + 16] = layout[rows]
        columns: list[Column] = list(template.strings)
        if keys is not None and key_size != _NO_KEY:
            joined = b"".join([keys[row] or b"" for row in rows.tolist()])
            columns.append(np.frombuffer(joined, np.uint8).reshape(k, key_size))
            at = template.references[-1]
            view[:, at : at + 4] = np.frombuffer(struct.pack("<I", key_size), np.uint8)
        if columns:
            _write_references(view, template, *heap.add_rows(columns, k))
        if counted:
            at = template.links
            view[:, at : at + 4] = links[rows].astype("<u4").view(np.uint8).reshape(k, 4)
        headers[rows] = first + np.arange(k) * size
        first += k * size

    _write_checksums(block, headers, templates, members)
    return block.data[:total], (headers + address).astype(np.uint64)


def _write_references(
    view: npt.NDArray[np.uint8],
    template: _Template,
    collections: npt.NDArray[np.uint64],
    indices: npt.NDArray[np.uint32],
) -> None:
    """Write where in the heap the strings of each header are."""
    k = len(view)
    collection = collections.astype("<u8").view(np.uint8).reshape(k, 8)
    for order, at in enumerate(template.references):
        view[:, at + 4 : at + 12] = collection
        view[:, at + 12 : at + 16] = (indices + order).astype("<u4").view(np.uint8).reshape(k, 4)


def _kinds(
    class_of: npt.NDArray[np.intp], key_nbytes: npt.NDArray[np.int64], counted: npt.NDArray[np.bool_]
) -> tuple[list[tuple[int, int, bool]], list[npt.NDArray[np.intp]]]:
    """Group the rows by class, key length and whether links are counted: each group has one header length."""
    n = len(class_of)
    if n == 0:
        return [], []
    # one number for each kind; stable, so that rows of one kind keep their order
    code = (class_of.astype(np.int64) * (int(key_nbytes.max()) + 2) + key_nbytes + 1) * 2 + counted
    order = np.argsort(code, kind="stable")
    ranked = code[order]
    cuts = [0, *(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1).tolist(), n]
    members = [order[a:b] for a, b in itertools.pairwise(cuts)]
    heads = order[cuts[:-1]]
    kinds = zip(class_of[heads].tolist(), key_nbytes[heads].tolist(), counted[heads].tolist(), strict=True)
    return list(kinds), members


def _write_checksums(
    block: npt.NDArray[np.uint8],
    headers: npt.NDArray[np.int64],
    templates: Sequence[_Template],
    members: Sequence[npt.NDArray[np.intp]],
) -> None:
    """Hash all headers in one pass and put each sum after its header."""
    if not members:
        return
    counts = [len(rows) for rows in members]
    ends = np.repeat([len(template.block) for template in templates], counts)
    starts = headers[np.concatenate(members)]
    if len(starts) < _ROWS_OF_A_FRONT * len(templates):
        sums = lookup3_spans(block, starts, ends)
    else:
        known = [lookup3_prefix(one.block[: one.front].tobytes(), len(one.block)) for one in templates]
        fronts = np.repeat([template.front for template in templates], counts)
        states = np.repeat(np.array(known, np.uint32).T, counts, axis=1)
        sums = lookup3_spans(block, starts + fronts, ends - fronts, states)
    np.ndarray((len(block) - 3,), "<u4", block, strides=(1,))[starts + ends] = sums


@functools.lru_cache(maxsize=4096)
def _template(dataset_class: DatasetClass, key_nbytes: int, counted: bool) -> _Template:
    """Build the header of a class: 22 us, which rounds of one schema pay once."""
    parts = [
        Message(0x01, messages.dataspace(dataset_class.dims)),
        messages.datatype(dataset_class.datatype),
        messages.fill_value(),
        messages.attribute_info(),
    ]
    attributes = list(dataset_class.attributes)
    if key_nbytes != _NO_KEY:
        attributes.append(Attribute(KEY, UTF8_VLEN, (), (b"",)))
    strings: list[bytes] = []
    references: list[int] = []
    # Fields that all rows share come first, so that they are hashed once, and 120 bytes of 280 are left to
    # hash for a row. Readers list these attributes by name, whatever their order here.
    late = [messages.contiguous_layout(0, 0)]
    if counted:
        late.append(messages.reference_count(0))
    texts: dict[int, tuple[bytes, ...]] = {}
    for attribute in attributes:
        value = attribute.value
        if isinstance(value, bytes):
            parts.append(messages.attribute(attribute.name, attribute.datatype, attribute.dims, value))
            continue
        _check_count(attribute, value)
        texts[len(late)] = value
        blank = b"".join(struct.pack("<IQI", len(text), 0, 0) for text in value)
        late.append(messages.attribute(attribute.name, attribute.datatype, attribute.dims, blank))
    block = messages.header_without_checksum(parts + late)
    bodies = _last_bodies(block, late)
    for order, value in texts.items():
        first = bodies[order] + len(late[order].body) - REFERENCE_NBYTES * len(value)
        references += [first + REFERENCE_NBYTES * number for number in range(len(value))]
        strings += value
    layout = bodies[0] + 2
    front = layout // 12 * 12
    if key_nbytes != _NO_KEY:
        strings.pop()  # the key: each row has its own
    return _Template(
        np.frombuffer(block, np.uint8),
        front,
        layout,
        tuple(references),
        tuple(strings),
        bodies[1] + 1 if counted else 0,
    )


def _last_bodies(block: bytes, last: Sequence[Message]) -> list[int]:
    """Return the offset of the body of each of the messages that end a header."""
    at, bodies = len(block), []
    for message in reversed(last):
        bodies.append(at - len(message.body))
        at = bodies[-1] - 4
    return bodies[::-1]


def _check_count(attribute: Attribute, strings: tuple[bytes, ...]) -> None:
    """Refuse an attribute whose strings are not one for each element."""
    expected = 0 if attribute.dims is None else math.prod(attribute.dims)
    if len(strings) != expected:
        raise ValueError(f"attribute {attribute.name[:40]!r}: {len(strings)} strings for {expected} elements")
