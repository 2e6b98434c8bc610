"""Version-2 B-trees over the links of a group: by name hash (type 5) and by creation order (type 6).

One leaf as long as its records up to 65,535 of them; above that one internal level over leaves of
that size. HDF5 File Format Specification, section III.A.2.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from archive.hdf5.checksum import lookup3

__all__ = [
    "FRAME_NBYTES",
    "HEADER_NBYTES",
    "LINK_NAMES",
    "LINK_ORDER",
    "MAX_LEAF",
    "POINTER",
    "encode_btree",
    "node_nbytes_for",
    "tree_header",
]

LINK_NAMES = 5
"""Records of 11 bytes: name hash (4), heap ID (7), sorted by hash, then by name."""

LINK_ORDER = 6
"""Records of 15 bytes: creation order (8), heap ID (7)."""

HEADER_NBYTES = 38

MAX_LEAF = 0xFFFF
"""Records in a node are counted in 16 bits."""

_MIN_NODE_NBYTES = 512
"""libhdf5's own node size for links."""

FRAME_NBYTES = 10
"""Signature, version, type and checksum of a node."""

POINTER = struct.Struct("<QH")
"""Address and records of a leaf. A count's width: H5VM_limit_enc_size(65,535 records) is 2 bytes."""

_SPLIT_PERCENT, _MERGE_PERCENT = 100, 40


def encode_btree(kind: int, records: npt.NDArray[np.uint8], address: int) -> list[bytes]:
    """Return the bytes of a tree with all its nodes, its header first.

    Parameters
    ----------
    kind : int
        `LINK_NAMES` or `LINK_ORDER`.
    records : numpy.ndarray
        uint8, shape (n, record size), sorted.
    address : int
        File offset of the tree.
    """
    n, record_nbytes = records.shape
    # A node is exactly as long as its records: libhdf5 splits it at the first insertion, like any full
    # node. In longer nodes a leaf could outgrow its 16-bit count.
    node_nbytes = node_nbytes_for(n, record_nbytes)
    first = address + HEADER_NBYTES
    if n <= MAX_LEAF:
        return [
            tree_header(kind, node_nbytes, record_nbytes, 0, first, n, n),
            _node(b"BTLF", kind, records.tobytes(), node_nbytes),
        ]
    leaves = -(-(n + 1) // (MAX_LEAF + 1))
    # Between two leaves one record stands in the internal node.
    ends = [(n + 1) * (i + 1) // leaves - 1 for i in range(leaves)]
    starts = [0, *(end + 1 for end in ends[:-1])]
    root = records[ends[:-1]].tobytes() + b"".join(
        POINTER.pack(first + node_nbytes * (i + 1), end - start)
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    )
    if FRAME_NBYTES + len(root) > node_nbytes:
        raise ValueError(f"{n} links are more than one group can hold")
    return [
        tree_header(kind, node_nbytes, record_nbytes, 1, first, leaves - 1, n),
        _node(b"BTIN", kind, root, node_nbytes),
        *(
            _node(b"BTLF", kind, records[start:end].tobytes(), node_nbytes)
            for start, end in zip(starts, ends, strict=True)
        ),
    ]


def node_nbytes_for(count: int, record_nbytes: int) -> int:
    """Return the length of the nodes of a tree of so many records."""
    return max(_MIN_NODE_NBYTES, FRAME_NBYTES + record_nbytes * min(count, MAX_LEAF))


def tree_header(
    kind: int, node_nbytes: int, record_nbytes: int, depth: int, root: int, root_count: int, count: int
) -> bytes:
    """Return the header of a tree."""
    block = struct.pack(
        "<4sBBIHHBBQHQ",
        b"BTHD",
        0,
        kind,
        node_nbytes,
        record_nbytes,
        depth,
        _SPLIT_PERCENT,
        _MERGE_PERCENT,
        root,
        root_count,
        count,
    )
    return block + struct.pack("<I", lookup3(block))


def _node(signature: bytes, kind: int, body: bytes, node_nbytes: int) -> bytes:
    """Return a node: its body, its checksum, then zeros."""
    block = struct.pack("<4sBB", signature, 0, kind) + body
    return (block + struct.pack("<I", lookup3(block))).ljust(node_nbytes, b"\0")
