"""Jenkins lookup3, the checksum of every HDF5 metadata block, for one block or vectorised over many.

``lookup3`` hashes one block. ``lookup3_spans`` hashes many spans of one buffer in a single vectorised pass,
whatever their lengths: names for a link tree, and object headers whose constant front was hashed once for
each class. Source: Bob Jenkins, lookup3.c (hashlittle, initval 0); HDF5 File Format
Specification, section III.A.2 (link name hash) and every "Checksum" field.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from archive.format.lookup3 import INIT, MASK, State, hash_block, mix_blocks, seed

__all__ = ["lookup3", "lookup3_prefix", "lookup3_rows", "lookup3_spans"]

Words = npt.NDArray[np.uint32]

_LOAD_NBYTES = 64 << 10
"""From this size numcodecs is worth its import (91 ms of CPU once, then 0.43 ms a MB). Shorter blocks use it
only if it is loaded already; pure Python takes 1.3 us for 12 bytes, so at most 7 ms."""

_CHUNK_ROWS = 8192
"""Rows hashed together: their temporaries (32 KiB each) stay in the second-level cache. 1,000,000 headers
took 1.5 times as long in one piece."""

_FEW_SPANS = 128
"""Below this many spans integers of Python are quicker. Of 276 bytes each, 20 spans take 182 us and 595 with
numpy, 128 spans 580 and 638, 256 spans 876 and 694."""

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
    if not n:
        return np.empty(0, np.uint32)
    hash_chunk = _hash_few if n < _FEW_SPANS else _hash_chunk
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
        result[rows] = hash_chunk(words, starts[rows], lengths[rows], state)
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
    a, b, c = state
    for lane, last in zip((a, b, c), _tails(words, starts, lengths), strict=True):
        lane += last
    for x, y, shift in ((c, b, 14), (a, c, 11), (b, a, 25), (c, b, 16), (a, c, 4), (b, a, 14), (c, b, 24)):
        x ^= y
        x -= (y << shift) | (y >> (32 - shift))
    # An empty block is not mixed at all.
    sums: Words = np.where(lengths > 0, c, np.uint32(INIT))
    return sums


_TAIL_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
"""The bytes of a word that belong to the block, by how many are left of it."""


def _tails(words: Words, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Words:
    """Return the three words of the last block of each span, zeros after its end; shape (3, n)."""
    before_last = np.maximum((lengths - 1) // 12, 0) * 12
    at = np.arange(0, 12, 4)[:, None]
    tails: Words = words[starts + before_last + at] & _TAIL_MASKS[np.clip(lengths - before_last - at, 0, 4)]
    return tails


def _hash_few(
    words: Words, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], state: Words
) -> Words:
    """Hash spans as `_hash_chunk` does, in integers that hold the same word of every span in 64 bits each.

    A word never needs more than 52 of them, so that one operation on an integer is one on each word.
    """
    n = len(starts)
    before_last = np.maximum((lengths - 1) // 12, 0)
    count = int(before_last[0])
    # of a span with fewer blocks any other word is taken, and not used
    at = starts + 12 * np.minimum(np.arange(count)[:, None], before_last)
    blocks = [_packed(words[at + 4 * place]) for place in range(3)]
    low = int.from_bytes(np.full(n, MASK, "<u8").tobytes(), "little")
    carry = low + int.from_bytes(np.ones(n, "<u8").tobytes(), "little")
    a, b, c = _packed(state)
    still = np.searchsorted(-before_last, -np.arange(count), side="left").tolist()
    for k, x, y, z in zip(still, *blocks, strict=True):
        done = a >> 64 * k << 64 * k, b >> 64 * k << 64 * k, c >> 64 * k << 64 * k
        mixed = (1 << 64 * k) - 1
        a, b, c = (a & mixed) + (x & mixed), (b & mixed) + (y & mixed), (c & mixed) + (z & mixed) & low
        for shift in (4, 6, 8, 16, 19, 4):
            a = (a + carry - c & low) ^ ((c << shift | c >> 32 - shift) & low)
            a, b, c = b, c + b & low, a
        a, b, c = a & low | done[0], b & low | done[1], c | done[2]
    x, y, z = _packed(_tails(words, starts, lengths))
    a, b, c = a + x & low, b + y & low, c + z & low
    for shift in (14, 11, 25, 16, 4, 14, 24):
        c = (c ^ b) + carry - ((b << shift | b >> 32 - shift) & low) & low
        a, b, c = b, c, a
    sums = np.frombuffer(b.to_bytes(8 * n, "little"), "<u8").astype(np.uint32)
    return np.where(lengths > 0, sums, np.uint32(INIT))


def _packed(rows: Words) -> list[int]:
    """Return each row of words as one integer, 64 bits a word."""
    size, data = 8 * rows.shape[1], rows.astype("<u8").tobytes()
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
