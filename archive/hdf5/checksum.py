"""Jenkins lookup3, the checksum of every HDF5 metadata block, for one block or vectorised over many.

``lookup3`` hashes one block. ``lookup3_spans`` hashes many spans of one buffer in a single vectorised pass,
whatever their lengths: names for a link tree, and object headers whose constant front was hashed once for
each class. Source: Bob Jenkins, lookup3.c (hashlittle, initval 0); HDF5 File Format
Specification, section III.A.2 (link name hash) and every "Checksum" field.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from archive.format.lookup3 import INIT, MASK, State, final, hash_block, mix_blocks, seed

__all__ = ["lookup3", "lookup3_prefix", "lookup3_rows", "lookup3_spans"]

Words = npt.NDArray[np.uint32]

_LOAD_NBYTES = 64 << 10
"""From this size numcodecs is worth its import (91 ms of CPU once, then 0.43 ms a MB). Shorter blocks use it
only if it is loaded already; pure Python takes 1.3 us for 12 bytes, so at most 7 ms."""

_CHUNK_ROWS = 8192
"""Rows hashed together: their temporaries (32 KiB each) stay in the second-level cache. 1,000,000 headers
took 1.5 times as long in one piece."""

_FEW_SPANS = 24
"""Below this many spans pure Python is quicker: numpy takes 36 us a block, whatever the number of rows."""

_JENKINS = "numcodecs.jenkins"


def lookup3(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum of one block, which comes without its checksum field.

    Examples
    --------
    >>> hex(lookup3(b"")), hex(lookup3(b"Four score and seven years ago"))
    ('0xdeadbeef', '0x17770551')
    """
    if data and (len(data) >= _LOAD_NBYTES or _JENKINS in sys.modules):
        # numcodecs declares a signed result in some builds: mask it.
        return int(importlib.import_module(_JENKINS).jenkins_lookup3(data)) & MASK
    return hash_block(data)


def lookup3_prefix(front: bytes, nbytes: int) -> State:
    """Return the state, for `lookup3_spans`, after the front that many blocks of ``nbytes`` share.

    The front is a multiple of 12 bytes, and shorter than the block.
    """
    if len(front) % 12 or len(front) >= nbytes:
        raise ValueError("a shared front is a multiple of 12 bytes and shorter than the block")
    return mix_blocks(front, seed(nbytes))


def lookup3_rows(rows: npt.NDArray[np.uint8]) -> Words:
    """Hash every row of a uint8 matrix of shape (n, L)."""
    n, length = rows.shape
    buffer = np.zeros(n * length + 12, np.uint8)
    buffer[: n * length] = rows.reshape(-1)
    return lookup3_spans(buffer, np.arange(n, dtype=np.int64) * length, np.full(n, length, np.int64))


def lookup3_spans(
    buffer: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    states: Words | None = None,
) -> Words:
    """Hash many spans of one buffer.

    Parameters
    ----------
    buffer : numpy.ndarray
        uint8, one-dimensional, contiguous; every span is followed by at least 12 more bytes.
    starts, lengths : numpy.ndarray
        int64, shape (n,): the spans. With `states`, the rest of each block after its shared front, at
        least one byte.
    states : numpy.ndarray, optional
        uint32, shape (3, n), from `lookup3_prefix`; by default every span starts fresh.

    Returns
    -------
    numpy.ndarray
        uint32, shape (n,).
    """
    n = len(starts)
    if n < _FEW_SPANS:
        spans = zip(starts.tolist(), lengths.tolist(), strict=True)
        fronts = [None] * n if states is None else states.T.tolist()
        return np.array(
            [
                _hash_span(buffer[at : at + size].tobytes(), front)
                for (at, size), front in zip(spans, fronts, strict=True)
            ],
            np.uint32,
        )
    # Longest first, so that the spans still being mixed are always a prefix of the arrays.
    order = np.argsort(-lengths, kind="stable") if lengths.min() != lengths.max() else None
    words = _every_word(buffer)
    result = np.empty(n, np.uint32)
    for first in range(0, n, _CHUNK_ROWS):
        rows: Any = slice(first, first + _CHUNK_ROWS)
        if order is not None:
            rows = order[rows]
        if states is None:
            fresh = (lengths[rows] + INIT).astype(np.uint32)
            state = np.array([fresh, fresh, fresh])
        else:
            state = states[:, rows].copy()
        result[rows] = _hash_chunk(words, starts[rows], lengths[rows], state)
    return result


def _every_word(buffer: npt.NDArray[np.uint8]) -> Words:
    """Return the little-endian 32-bit word at every byte offset of a buffer, without copying it."""
    words: Words = np.ndarray((max(len(buffer) - 3, 0),), "<u4", buffer, strides=(1,))
    return words


def _hash_chunk(
    words: Words, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], state: Words
) -> Words:
    """Hash spans sorted from long to short; `state` is (3, n) and is overwritten."""
    before_last = np.maximum((lengths - 1) // 12, 0)
    spare = np.empty(len(starts), np.uint32)
    # How many spans still have a block before their last one: a step at a time.
    still = np.searchsorted(-before_last, -np.arange(int(before_last[0])), side="left").tolist()
    for block, k in enumerate(still):
        at = starts[:k] + 12 * block
        a, b, c = state[0, :k], state[1, :k], state[2, :k]
        t = spare[:k]
        a += words[at]
        b += words[at + 4]
        c += words[at + 8]
        for x, y, z, shift in (
            (a, b, c, 4),
            (b, c, a, 6),
            (c, a, b, 8),
            (a, b, c, 16),
            (b, c, a, 19),
            (c, a, b, 4),
        ):
            # One step of the mix: x loses z, is crossed with z rotated, and z gains y.
            x -= z
            np.left_shift(z, shift, out=t)
            x ^= t
            np.right_shift(z, 32 - shift, out=t)
            x ^= t
            z += y
    tail = starts + 12 * before_last
    left = lengths - 12 * before_last
    a, b, c = state[0], state[1], state[2]
    for index, lane in enumerate((a, b, c)):
        keep = np.clip(left - 4 * index, 0, 4)
        lane += words[tail + 4 * index] & _TAIL_MASKS[keep]
    for x, y, shift in ((c, b, 14), (a, c, 11), (b, a, 25), (c, b, 16), (a, c, 4), (b, a, 14), (c, b, 24)):
        x ^= y
        x -= (y << shift) | (y >> (32 - shift))
    # An empty block is not mixed at all.
    sums: Words = np.where(lengths > 0, c, np.uint32(INIT))
    return sums


_TAIL_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
"""The bytes of a word that belong to the block, by how many are left of it."""


def _hash_span(span: bytes, state: Sequence[int] | None) -> int:
    """Hash one span, or what is left of a block whose front was mixed into `state`."""
    if state is None:
        return lookup3(span)
    front = (len(span) - 1) // 12 * 12
    a, b, c = state
    return final(mix_blocks(span[:front], (a, b, c)), span[front:])
