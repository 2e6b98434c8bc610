"""Links of a group as they are read, from its header or from a heap with two trees.

Heap and trees are a function of the links and of their own places: each is encoded again by the modules that
write them, and compared. HDF5 File Format Specification, sections III.A.2, III.G and IV.A.2.g.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archive.hdf5 import fractalheap, messages
from archive.hdf5.btree import (
    FRAME_NBYTES,
    HEADER_NBYTES,
    LINK_NAMES,
    LINK_ORDER,
    MAX_LEAF,
    POINTER,
    node_nbytes_for,
    tree_header,
)
from archive.hdf5.checksum import lookup3_spans
from archive.hdf5.fractalheap import BLOCK_HEAD_NBYTES, CHECKSUM_AT, LINK_NBYTES
from archive.hdf5.groups import name_order
from archive.hdf5.region import Region, StructureError

__all__ = ["Named", "StoredLink", "read_dense_links", "read_link"]

_LINK_HEAD = struct.Struct("<BBQBH")
_SPAN_SLACK = 16
_TREES = {LINK_NAMES: "the index of names", LINK_ORDER: "the index of creation order"}
_MOST = 1000
"""Problems of one tree that are listed."""


class StoredLink(NamedTuple):
    """A hard link."""

    address: int
    """File offset of the object header."""
    offset: int
    """File offset of the link."""


Named = tuple[bytes, int, StoredLink]
"""Name, creation order, link."""


def read_link(body: memoryview, offset: int) -> Named:
    """Return the link of a message.

    Raises
    ------
    StructureError
        Another kind of link, or not a link.
    """
    if len(body) >= LINK_NBYTES:
        order = int.from_bytes(body[2:10], "little")
        name, address = bytes(body[_LINK_HEAD.size : -8]), int.from_bytes(body[-8:], "little")
        if len(name) <= 0xFFFF and body == messages.link(name, order, address):
            return name, order, StoredLink(address, offset)
    raise StructureError("a link that no archive has", offset)


def read_dense_links(
    region: Region, count: int, heap: int, names: int, order: int, problems: list[StructureError]
) -> list[Named]:
    """Return the links of a heap in creation order; problems of its trees are added to those given.

    Raises
    ------
    StructureError
        The heap is not one of section 5.
    """
    block, root = _read_heap(region, count, heap)
    found, ends, at = [], [BLOCK_HEAD_NBYTES], BLOCK_HEAD_NBYTES
    for number in range(count):
        nbytes = LINK_NBYTES + int.from_bytes(block[at + 11 : at + 13], "little")
        named = read_link(block[at : at + nbytes], root + at)
        if named[1] != number:
            raise StructureError("links of a heap that are not in creation order", root + at)
        found.append(named)
        at += nbytes
        ends.append(at)
    _require_heap_header(region, heap, root, len(block), at, count)
    places = np.array(ends, np.int64)
    _check_trees(region, found, block, places, {LINK_NAMES: names, LINK_ORDER: order}, problems)
    return found


def _read_heap(region: Region, count: int, address: int) -> tuple[memoryview, int]:
    """Return the direct block of a heap and its address; the header is compared when its links are known."""
    what = "a fractal heap"
    header = region.peek(address, fractalheap.HEADER_NBYTES, what)
    (nbytes,), (root,) = struct.unpack_from("<Q", header, 112), struct.unpack_from("<Q", header, 132)
    if nbytes > fractalheap.MAX_BLOCK_NBYTES or count * LINK_NBYTES > nbytes:
        raise StructureError(f"{what} that cannot hold its {count} links", address)
    block = region.take(root, nbytes, "the block of a fractal heap")
    head, stored = fractalheap.block_head(address), block[CHECKSUM_AT : CHECKSUM_AT + 4]
    if block[:CHECKSUM_AT] != head[:CHECKSUM_AT]:
        raise StructureError("not the block of a fractal heap", root)
    region.require_sum(head + block[len(head) :], stored, root, "the block of a fractal heap")
    return block, root


def _require_heap_header(region: Region, address: int, root: int, nbytes: int, used: int, count: int) -> None:
    header = region.take(address, fractalheap.HEADER_NBYTES, "a fractal heap")
    if nbytes != fractalheap.block_nbytes_for(used) or header != fractalheap.heap_header(
        address, root, nbytes, used, count
    ):
        raise StructureError("a fractal heap that no archive has", address)


def _check_trees(
    region: Region,
    found: list[Named],
    block: memoryview,
    ends: npt.NDArray[np.int64],
    trees: dict[int, int],
    problems: list[StructureError],
) -> None:
    """Compare both trees with the links of a heap."""
    n, starts, sizes = len(found), ends[:-1], np.diff(ends)
    names = [name for name, _, _ in found]
    buffer = np.frombuffer(bytes(block[: int(ends[-1])]) + bytes(_SPAN_SLACK), np.uint8)
    hashes = lookup3_spans(buffer, starts + _LINK_HEAD.size, sizes - LINK_NBYTES)
    ids = fractalheap.heap_ids(starts, sizes)
    by_name = name_order(hashes, names)
    wanted = {
        LINK_NAMES: np.hstack((_bytes(hashes, "<u4"), ids))[by_name],
        LINK_ORDER: np.hstack((_bytes(np.arange(n), "<u8"), ids)),
    }
    rows = {LINK_NAMES: by_name, LINK_ORDER: np.arange(n)}
    for kind, address in trees.items():
        try:
            records = _read_tree(region, address, kind, *wanted[kind].shape)
        except StructureError as error:
            problems.append(error)
            continue
        for row in rows[kind][(records != wanted[kind]).any(axis=1)][:_MOST].tolist():
            name = names[row].decode(errors="backslashreplace")
            problem = f"{_TREES[kind]} does not lead to the link {name[:80]!r}"
            problems.append(StructureError(problem, address))


def _bytes(numbers: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.uint8]:
    return numbers.astype(dtype).view(np.uint8).reshape(len(numbers), np.dtype(dtype).itemsize)


def _read_tree(
    region: Region, address: int, kind: int, count: int, record_nbytes: int
) -> npt.NDArray[np.uint8]:
    """Return the records of a tree in its order, shape (count, record size)."""
    header = region.take(address, HEADER_NBYTES, _TREES[kind])
    root, root_count = struct.unpack_from("<QH", header, 16)
    nbytes, deep = node_nbytes_for(count, record_nbytes), count > MAX_LEAF
    if header != tree_header(kind, nbytes, record_nbytes, int(deep), root, root_count, count):
        raise StructureError(f"{_TREES[kind]} is not one that an archive has", address)

    def read_node(signature: bytes, at: int, size: int) -> memoryview:
        node = region.take(at, nbytes, f"a node of {_TREES[kind]}")
        end = FRAME_NBYTES - 4 + size
        if end + 4 > nbytes or node[:6] != struct.pack("<4sBB", signature, 0, kind):
            raise StructureError(f"not a node of {_TREES[kind]}", at)
        region.require_sum(node[:end], node[end : end + 4], at, f"a node of {_TREES[kind]}")
        return node[6:end]

    if not deep:
        if root_count != count:
            raise StructureError(f"{_TREES[kind]} has not as many records as there are links", address)
        return np.frombuffer(read_node(b"BTLF", root, count * record_nbytes), np.uint8).reshape(count, -1)
    own = root_count * record_nbytes
    body = read_node(b"BTIN", root, own + (root_count + 1) * POINTER.size)
    leaves = list(POINTER.iter_unpack(body[own:]))
    if root_count + sum(size for _, size in leaves) != count:
        raise StructureError(f"{_TREES[kind]} has not as many records as there are links", address)
    parts: list[memoryview] = []
    for number, (at, size) in enumerate(leaves):
        parts += [
            read_node(b"BTLF", at, size * record_nbytes),
            body[number * record_nbytes : (number + 1) * record_nbytes] if number < root_count else body[:0],
        ]
    return np.frombuffer(b"".join(parts), np.uint8).reshape(count, record_nbytes)
