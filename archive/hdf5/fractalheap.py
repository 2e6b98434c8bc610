"""The fractal heap of a dense group: all its link messages in one checksummed direct block.

HDF5 File Format Specification, sections III.G (fractal heap) and IV.A.2.g (the link messages in the heap).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from archive.hdf5.checksum import lookup3, lookup3_spans
from archive.hdf5.messages import UNDEFINED

__all__ = [
    "BLOCK_HEAD_NBYTES",
    "CHECKSUM_AT",
    "HEADER_NBYTES",
    "ID_NBYTES",
    "LINK_NBYTES",
    "MAX_BLOCK_NBYTES",
    "MAX_NAME_NBYTES",
    "LinkHeap",
    "block_head",
    "block_nbytes_for",
    "encode_link_heap",
    "heap_header",
    "heap_ids",
    "require_room",
]

HEADER_NBYTES = 146
ID_NBYTES = 7
"""A heap ID: kind (1), offset (4), length (2), as in link heaps of libhdf5."""

MAX_NAME_NBYTES = 32 << 10
"""Longest link name, escaped."""

_MAX_OBJECT_NBYTES = MAX_NAME_NBYTES + 256
"""Limit of a managed object: with libhdf5's 4,096 one longer key made its whole group unreadable."""

BLOCK_HEAD_NBYTES = 5 + 8 + 4 + 4
CHECKSUM_AT = 17
_MIN_BLOCK_NBYTES = 512
_MAX_DIRECT_NBYTES = 64 << 10
"""Smallest limit of a direct block, raised for larger blocks."""
MAX_BLOCK_NBYTES = 1 << 30
"""A heap of 32-bit offsets starts with rows of four blocks."""

_LINK_HEAD = struct.Struct("<BBQBH")
"""Version 1, flags (2-byte length, creation order, character set), order, UTF-8, name length."""
LINK_NBYTES = _LINK_HEAD.size + 8
_SPAN_SLACK = 16
"""Bytes after the last name that `lookup3_spans` may look at."""


@dataclass(frozen=True, slots=True)
class LinkHeap:
    """The bytes of a heap, and the columns that trees over it need."""

    parts: tuple[bytes, memoryview]
    """Header and direct block."""
    ids: npt.NDArray[np.uint8]
    """Heap IDs, shape (n, 7), in creation order."""
    hashes: npt.NDArray[np.uint32]
    """lookup3 of the names, shape (n,)."""


def encode_link_heap(names: Sequence[bytes], targets: npt.NDArray[np.uint64], address: int) -> LinkHeap:
    """Encode the links of a group.

    Parameters
    ----------
    names : sequence of bytes
        UTF-8, in creation order.
    targets : numpy.ndarray
        uint64, shape (n,): the object headers they link to.
    address : int
        File offset of the heap.

    Raises
    ------
    ValueError
        A name, or all of them, are longer than the heap holds.
    """
    n = len(names)
    lengths = np.fromiter(map(len, names), np.int64, n)
    for extreme in (int(lengths.min()), int(lengths.max())):
        if not 1 <= extreme <= MAX_NAME_NBYTES:
            raise ValueError(f"a link name of {extreme} bytes; 1 to {MAX_NAME_NBYTES} are held")
    require_room(n, int(lengths.sum()))
    sizes = lengths + LINK_NBYTES
    ends = np.cumsum(sizes) + BLOCK_HEAD_NBYTES
    starts = ends - sizes
    used = int(ends[-1])
    block_nbytes = block_nbytes_for(used)

    head = _LINK_HEAD.pack(1, 0x15, 0, 1, 0)
    block = bytearray(block_nbytes + _SPAN_SLACK)
    block[:BLOCK_HEAD_NBYTES] = block_head(address)
    # one join places every name and the 21 bytes between two names; three scatters fill those bytes in
    block[BLOCK_HEAD_NBYTES : used - 8] = head + (bytes(8) + head).join(names)
    _fields(block, "<u8")[starts + 2] = np.arange(n, dtype=np.uint64)
    _fields(block, "<u2")[starts + 11] = lengths
    _fields(block, "<u8")[ends - 8] = targets
    hashes = lookup3_spans(np.frombuffer(block, np.uint8), starts + _LINK_HEAD.size, lengths)
    body = memoryview(block)[:block_nbytes]
    struct.pack_into("<I", block, CHECKSUM_AT, lookup3(body))

    ids = heap_ids(starts, sizes)
    header = heap_header(address, address + HEADER_NBYTES, block_nbytes, used, n)
    return LinkHeap((header, body), ids, hashes)


def heap_ids(starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the heap IDs of objects by their places in the direct block, shape (n, 7)."""
    n = len(starts)
    ids = np.zeros((n, ID_NBYTES), np.uint8)
    ids[:, 1:5] = starts.astype("<u4").view(np.uint8).reshape(n, 4)
    ids[:, 5:] = sizes.astype("<u2").view(np.uint8).reshape(n, 2)
    return ids


def block_nbytes_for(used: int) -> int:
    """Return the length of a direct block that holds so many bytes, its own head included."""
    return max(_MIN_BLOCK_NBYTES, 1 << (used - 1).bit_length())


def block_head(address: int, checksum: int = 0) -> bytes:
    """Return the bytes that the direct block of the heap at ``address`` begins with."""
    return struct.pack("<4sBQII", b"FHDB", 0, address, 0, checksum)


def require_room(count: int, name_bytes: int) -> None:
    """Raise ValueError where the links of a group take more bytes than its heap holds."""
    if BLOCK_HEAD_NBYTES + count * LINK_NBYTES + name_bytes > MAX_BLOCK_NBYTES:
        raise ValueError(f"the names of {count} links take more than {MAX_BLOCK_NBYTES} bytes")


def _fields(block: bytearray, dtype: str) -> npt.NDArray[Any]:
    """Return the integer at every byte offset of a block, writable."""
    kind = np.dtype(dtype)
    fields: npt.NDArray[Any] = np.ndarray((len(block) - kind.itemsize + 1,), kind, block, strides=(1,))
    return fields


def heap_header(address: int, root: int, block_nbytes: int, used: int, count: int) -> bytes:
    """Return the header of a heap of ``count`` links whose one direct block lies at ``root``."""
    block = struct.pack(
        "<4sBHHBIQQQQQQQQQQQQHQQHHQH",
        b"FRHP",
        0,
        ID_NBYTES,
        0,  # no filters
        2,  # direct blocks are checksummed
        _MAX_OBJECT_NBYTES,
        0,  # next huge object
        UNDEFINED,  # tree of huge objects
        block_nbytes - used,  # free space
        UNDEFINED,  # free-space manager: the rest of the block stays unused
        block_nbytes,  # managed space
        block_nbytes,  # allocated
        0,  # where the next block goes: none but the root yet
        count,
        0,  # huge: bytes
        0,  # huge: count
        0,  # tiny: bytes
        0,  # tiny: count
        4,  # blocks in a row
        block_nbytes,
        max(block_nbytes, _MAX_DIRECT_NBYTES),
        32,  # bits of a heap offset
        1,  # rows an indirect root starts with
        root,
        0,  # rows of the root: it is a direct block
    )
    return block + struct.pack("<I", lookup3(block))
