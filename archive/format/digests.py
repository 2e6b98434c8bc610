"""Digests: xxh3-128 of every segment of every array, of the HDF5 metadata, the index and the footer.

xxh3 finds damage, not forgery: whoever can write the file can write its digests too; ``spec/security.md``
explains signatures. One core hashes 15 to 29 GB/s, so that checking costs less than reading.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import xxhash

from archive.format.constants import DIGEST_ALGORITHM
from archive.format.elements import ArrayType

__all__ = ["array_digest", "digest", "name_hash"]

digest: Callable[[Any], bytes] = xxhash.xxh3_128_digest
"""xxh3-128 of a buffer, as its 16 canonical (big-endian) bytes ([DIGEST-1])."""

name_hash: Callable[[bytes], int] = xxhash.xxh3_64_intdigest
"""xxh3-64 of a key's UTF-8, by which the name table is sorted ([INDEX-9])."""


def array_digest(segments: bytes, kind: ArrayType, flags: int, shape: Sequence[int]) -> bytes:
    """Return the digest of a whole array, derived from the digests of its segments ([DIGEST-3]).

    Rows with equal digests have equal dtype, shape, stype and ``Array.data``, in whichever files. Rows that
    are stored differently (order, mode) have different digests.
    """
    texts = [text.encode() for text in (kind.dtype, kind.stype, kind.description)]
    texts.append(kind.npy_header)
    numbers = (DIGEST_ALGORITHM, kind.itemsize, kind.mode, flags, *map(len, texts), len(shape), *shape)
    return digest(struct.pack(f"<{len(numbers)}Q", *numbers) + b"".join(texts) + segments)
