"""The metadata region: everything in an HDF5 file except the bytes of its arrays.

Datasets come as columns (`Datasets`), names as sequences, so that a million of them take numpy calls and not
Python objects::

    superblock at 0 | ... array bytes ... | region at `start` | `index_bytes` bytes of /index | end of file

and in the region: global heap, dataset headers, links to datasets, groups (children before parents, the
root last), the header of ``/index``, zeros up to a multiple of 64. HDF5 File Format Specification,
sections II and IV.

Nearly all of the region depends on the datasets alone: `EncodedDatasets`, which callers keep while the rounds
of a federation repeat one schema. Only groups and their values are encoded again (20 arrays: 1.0 ms of the
1.4 ms of a save; 20,000: 14 of 190 ms).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archive.hdf5 import messages
from archive.hdf5.checksum import lookup3
from archive.hdf5.datasets import Attribute, DatasetClass, Datasets, attribute_message, encode_datasets
from archive.hdf5.datatypes import UINT8
from archive.hdf5.globalheap import GlobalHeap
from archive.hdf5.groups import COMPACT_LINKS, LinkStorage, encode_group, encode_links
from archive.hdf5.messages import UNDEFINED, Message

__all__ = [
    "SUPERBLOCK_NBYTES",
    "Attribute",
    "DatasetClass",
    "DatasetLinks",
    "Datasets",
    "EncodedDatasets",
    "Group",
    "Metadata",
    "encode_all_datasets",
    "encode_metadata",
    "encode_superblock",
]

SUPERBLOCK_NBYTES = 48
_LARGE_NBYTES = 1 << 20
_Part = bytes | memoryview | npt.NDArray[np.uint8]
ALIGNMENT = 64
"""The region starts and ends at a multiple of this."""


@dataclass(frozen=True, slots=True)
class DatasetLinks:
    """The datasets of a group."""

    names: Sequence[bytes]
    """Link names (escaped UTF-8), in creation order."""
    rows: npt.NDArray[np.intp]
    """The row of `Datasets` that each name links to; a row may have several links."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group: of groups or of datasets."""

    attributes: tuple[Attribute, ...] = ()
    """Its values, in order."""
    links: Sequence[tuple[bytes, Group]] = ()
    """Child groups by link name (escaped UTF-8)."""
    datasets: int | None = None
    """Its links to datasets, by their position in what `encode_all_datasets` was given."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The bytes around the arrays."""

    superblock: bytes
    """The first 48 bytes of the file."""
    parts: tuple[bytes | memoryview, ...]
    """The region in order: one part unless it is large (joining the 441 MB of a million datasets took 0.8
    of 2.2 s)."""
    nbytes: int
    """Size of the region, a multiple of 64; the bytes of ``/index`` follow it."""

    @property
    def region(self) -> bytes:
        """The parts joined."""
        return (
            self.parts[0]
            if len(self.parts) == 1 and isinstance(self.parts[0], bytes)
            else b"".join(self.parts)
        )


class EncodedDatasets:
    """The part of a metadata region that depends on datasets alone: headers, strings, links to them.

    Made by `encode_all_datasets`; encoding groups around it does not change it.
    """

    __slots__ = ("_block", "_heap", "_links", "_placed", "_relative", "nbytes", "start")

    def __init__(
        self,
        start: int,
        heap: GlobalHeap,
        block: memoryview,
        relative: npt.NDArray[np.uint64],
        links: Sequence[DatasetLinks],
    ) -> None:
        self.start: int = start
        """File offset of the region."""
        self.nbytes: int = 2 * len(block)
        """Memory that the datasets take, about."""
        self._heap = heap
        self._block = block
        self._relative = relative
        self._links = links
        self._placed: tuple[int, _PlacedLinks] | None = None

    def heap(self) -> GlobalHeap:
        """Return a heap that continues the heap with the strings of the datasets."""
        return self._heap.copy()

    def place(self, address: int) -> _PlacedLinks:
        """Return headers and links for a file offset after the heap; the last result is kept."""
        if self._placed is None or self._placed[0] != address:
            self._placed = address, self._place(address)
        return self._placed[1]

    def _place(self, address: int) -> _PlacedLinks:
        headers = self._relative + np.uint64(address)
        position = address + len(self._block)
        parts: list[_Part] = [self._block]
        targets, storages = [], []
        for links in self._links:
            targets.append(headers[links.rows])
            storage = None
            if len(links.names) > COMPACT_LINKS:
                storage = encode_links(position, links.names, targets[-1])
                parts += storage.parts
                position = storage.end
            storages.append(storage)
        names = [links.names for links in self._links]
        return _PlacedLinks(_coalesced(parts), names, targets, storages, position)


@dataclass(frozen=True, slots=True)
class _PlacedLinks:
    """Headers of datasets, and the links to them, at their place."""

    parts: tuple[bytes | memoryview, ...]
    names: list[Sequence[bytes]]
    targets: list[npt.NDArray[np.uint64]]
    storages: list[LinkStorage | None]
    end: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A group whose strings are in the heap."""

    group: Group
    messages: list[Message]
    children: list[_Prepared]


def encode_all_datasets(datasets: Datasets, links: Sequence[DatasetLinks], *, start: int) -> EncodedDatasets:
    """Encode the datasets of a file and the links to them.

    Parameters
    ----------
    datasets : Datasets
    links : sequence of DatasetLinks
        One for each group that has datasets.
    start : int
        File offset of the metadata region, a multiple of 64.

    Raises
    ------
    ValueError
        A name or value is larger than HDF5 holds.
    """
    if start % ALIGNMENT:
        raise ValueError(f"the metadata region starts at a multiple of {ALIGNMENT}, not at {start}")
    heap = GlobalHeap(start)
    rows = [_rows(group) for group in links]
    n = len(datasets.class_of)
    counts = np.bincount(np.concatenate(rows), minlength=n) if rows else np.zeros(n)
    block, relative = encode_datasets(datasets, counts.astype(np.int64), heap, 0)
    return EncodedDatasets(start, heap, block, relative, links)


def encode_metadata(
    root: Group, encoded: EncodedDatasets, *, index_bytes: int | None, index_name: bytes = b"index"
) -> Metadata:
    """Encode the metadata of a file.

    Parameters
    ----------
    root : Group
        The root group; the link to ``/index`` is added after its own.
    encoded : EncodedDatasets
        All datasets of the file.
    index_bytes : int or None
        Size of the dataset that ends the file; None: the file ends with its metadata.
    index_name : bytes
        Its link name.

    Raises
    ------
    ValueError
        A name or value is larger than HDF5 holds.

    Examples
    --------
    >>> nothing = np.empty(0, np.uint64)
    >>> none = encode_all_datasets(Datasets((), np.empty(0, np.intp), nothing, nothing), (), start=4096)
    >>> metadata = encode_metadata(Group(), none, index_bytes=64)
    >>> len(metadata.superblock), len(metadata.region)
    (48, 256)
    """
    heap = encoded.heap()
    prepared = _prepare(root, heap)
    heap_parts, end = heap.finish()
    placed = encoded.place(end)
    parts: list[_Part] = [*heap_parts, *placed.parts]
    position = placed.end

    # the header of the index stands before the root group, whose size does not depend on it
    children, position = _encode_children(prepared, placed, parts, position)
    index_part, names = len(parts), [name for name, _ in root.links]
    if index_bytes is not None:
        children, names = [*children, position], [*names, index_name]
        parts.append(_index_header(0, index_bytes))
        position += len(parts[-1])
    group = encode_group(position, prepared.messages, names, np.array(children, np.uint64))
    region_end = -(-group.end // ALIGNMENT) * ALIGNMENT
    if index_bytes is not None:
        parts[index_part] = _index_header(region_end if index_bytes else UNDEFINED, index_bytes)
    parts += (*group.parts, bytes(region_end - group.end))
    superblock = encode_superblock(group.header, region_end + (index_bytes or 0))
    return Metadata(superblock, _coalesced(parts), region_end - encoded.start)


def _coalesced(parts: Sequence[_Part]) -> tuple[bytes | memoryview, ...]:
    """Join neighbours smaller than `_LARGE_NBYTES`; larger parts stay as they are."""
    result: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    for part in parts:
        view = part.data.cast("B") if isinstance(part, np.ndarray) else part
        if len(view) < _LARGE_NBYTES:
            small.append(view)
            continue
        if small:
            result.append(b"".join(small))
            small = []
        result.append(view)
    return (*result, b"".join(small)) if small else tuple(result)


def _prepare(group: Group, heap: GlobalHeap) -> _Prepared:
    """Put the strings of a group and of its children into the heap."""
    own = [attribute_message(attribute, heap) for attribute in group.attributes]
    return _Prepared(group, own, [_prepare(child, heap) for _, child in group.links])


def _rows(links: DatasetLinks) -> npt.NDArray[np.intp]:
    if len(links.rows) != len(links.names):
        raise ValueError(f"{len(links.names)} link names for {len(links.rows)} datasets")
    return links.rows


def _encode_children(
    prepared: _Prepared, placed: _PlacedLinks, parts: list[_Part], position: int
) -> tuple[list[int], int]:
    """Append the child groups; return the addresses of their headers, and the offset after them."""
    addresses = []
    for child in prepared.children:
        grandchildren, position = _encode_children(child, placed, parts, position)
        number = child.group.datasets
        if number is None:
            names: Sequence[bytes] = [name for name, _ in child.group.links]
            encoded = encode_group(position, child.messages, names, np.array(grandchildren, np.uint64))
        else:
            names, targets, storage = placed.names[number], placed.targets[number], placed.storages[number]
            encoded = encode_group(position, child.messages, names, targets, storage)
        parts += encoded.parts
        addresses.append(encoded.header)
        position = encoded.end
    return addresses, position


@functools.lru_cache(maxsize=64)
def _index_header(address: int, nbytes: int) -> bytes:
    """Return the object header of the ``/index`` dataset."""
    return messages.header(
        [
            Message(0x01, messages.dataspace((nbytes,))),
            messages.datatype(UINT8),
            messages.fill_value(),
            messages.contiguous_layout(address, nbytes),
        ]
    )


@functools.lru_cache(maxsize=64)
def encode_superblock(root: int, end_of_file: int) -> bytes:
    """Return the superblock (section II.A, version 2): version 3 would lock a file killed under r+."""
    block = struct.pack("<8s4B4Q", b"\x89HDF\r\n\x1a\n", 2, 8, 8, 0, 0, UNDEFINED, end_of_file, root)
    return block + struct.pack("<I", lookup3(block))
