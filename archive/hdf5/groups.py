"""Groups: links in the header while they are few, in a heap with two trees when they are many.

Creation order is tracked and indexed, so every tool lists links and attributes in the order of writing.
HDF5 File Format Specification, section IV.A.2.c ("The Link Info Message").
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archive.hdf5 import messages
from archive.hdf5.btree import LINK_NAMES, LINK_ORDER, encode_btree
from archive.hdf5.fractalheap import HEADER_NBYTES, encode_link_heap
from archive.hdf5.messages import Message

__all__ = ["COMPACT_LINKS", "EncodedGroup", "LinkStorage", "encode_group", "encode_links", "name_order"]

COMPACT_LINKS = 8
"""Limit of libhdf5 for links in a header."""


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """The bytes of a group."""

    parts: list[bytes | memoryview]
    """Heap and trees of many links, then the object header."""
    header: int
    """File offset of the object header."""
    end: int
    """File offset after the group."""


@dataclass(frozen=True, slots=True)
class LinkStorage:
    """Links that are too many for the header of their group."""

    parts: list[bytes | memoryview]
    """Fractal heap, name tree, order tree."""
    info: Message
    """The message that refers to them."""
    end: int
    """File offset after them."""


def encode_links(address: int, names: Sequence[bytes], targets: npt.NDArray[np.uint64]) -> LinkStorage:
    """Encode more than `COMPACT_LINKS` links as a heap and two trees at a file offset.

    ``names`` are link names in order, ``targets`` (uint64) the object headers that they link to.
    """
    n = len(names)
    heap = encode_link_heap(names, targets, address)
    by_name = address + HEADER_NBYTES + len(heap.parts[1])
    hashes = heap.hashes.astype("<u4").view(np.uint8).reshape(n, 4)
    order = np.arange(n, dtype="<u8").view(np.uint8).reshape(n, 8)
    sorted_rows = name_order(heap.hashes, names)
    name_tree = encode_btree(LINK_NAMES, np.hstack((hashes, heap.ids))[sorted_rows], by_name)
    by_order = by_name + sum(map(len, name_tree))
    order_tree = encode_btree(LINK_ORDER, np.hstack((order, heap.ids)), by_order)
    parts: list[bytes | memoryview] = [*heap.parts, *name_tree, *order_tree]
    end = by_order + sum(map(len, order_tree))
    return LinkStorage(parts, messages.link_info(n, address, by_name, by_order), end)


def encode_group(
    address: int,
    attributes: Sequence[Message],
    names: Sequence[bytes],
    targets: npt.NDArray[np.uint64],
    storage: LinkStorage | None = None,
) -> EncodedGroup:
    """Encode a group with everything but the objects it links to.

    Parameters
    ----------
    address : int
        File offset of the group.
    attributes : sequence of Message
        Its attributes, in order.
    names : sequence of bytes
        Link names, UTF-8, in order.
    targets : numpy.ndarray
        uint64, shape (n,): the object headers that they link to.
    storage : LinkStorage, optional
        Many links that are encoded already; without it they are encoded before the header.
    """
    parts: list[bytes | memoryview] = []
    links: tuple[tuple[bytes, int], ...] = ()
    if len(names) <= COMPACT_LINKS:
        links = tuple(zip(names, targets.tolist(), strict=True))
    elif storage is None:
        storage = encode_links(address, names, targets)
        parts += storage.parts
        address = storage.end
    info = None if storage is None else storage.info
    encode = _encode_header if len(attributes) <= _FEW_ATTRIBUTES else _encode_header.__wrapped__
    block = encode(tuple(attributes), links, info)
    parts.append(block)
    return EncodedGroup(parts, address, address + len(block))


_FEW_ATTRIBUTES = 16


@functools.lru_cache(maxsize=256)
def _encode_header(
    attributes: tuple[Message, ...], links: tuple[tuple[bytes, int], ...], info: Message | None
) -> bytes:
    """Encode the header of a group; most headers of a round are those of the round before."""
    return messages.header(
        [
            info or messages.link_info(len(links)),
            messages.group_info(),
            messages.attribute_info(len(attributes)),
            *(Message(0x06, messages.link(name, i, target)) for i, (name, target) in enumerate(links)),
            *attributes,
        ],
        attributes=len(attributes),
    )


def name_order(hashes: npt.NDArray[np.uint32], names: Sequence[bytes]) -> npt.NDArray[np.intp]:
    """Return the rows sorted by hash, and by name where hashes are equal (as strcmp compares)."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    end = 0
    for start in np.flatnonzero(ranked[1:] == ranked[:-1]).tolist():
        if start < end:
            continue
        end = start + 1
        while end < len(ranked) and ranked[end] == ranked[start]:
            end += 1
        order[start:end] = sorted(order[start:end].tolist(), key=lambda row: names[row])
    return order
