"""Jenkins lookup3 in pure Python: the checksum of a short block of HDF5 metadata.

Source: Bob Jenkins, lookup3.c (hashlittle, initval 0). `archive.hdf5.checksum` hashes long blocks,
and many at once.
"""

from __future__ import annotations

import struct

__all__ = ["INIT", "MASK", "State", "final", "hash_block", "mix_blocks", "seed"]

State = tuple[int, int, int]
"""The three 32-bit words of a hash under way."""

MASK = 0xFFFFFFFF
"""The bits of a word."""
INIT = 0xDEADBEEF
"""The hash of no bytes."""


def hash_block(data: bytes | bytearray | memoryview) -> int:
    """Return the checksum of one block.

    Examples
    --------
    >>> hex(hash_block(b"")), hex(hash_block(b"Four score and seven years ago"))
    ('0xdeadbeef', '0x17770551')
    """
    if not data:
        return INIT
    front = (len(data) - 1) // 12 * 12
    return final(mix_blocks(data[:front], seed(len(data))), bytes(data[front:]))


def seed(nbytes: int) -> State:
    """Return the state before the first byte of a block of `nbytes` bytes."""
    word = (INIT + nbytes) & MASK
    return word, word, word


def mix_blocks(data: bytes | bytearray | memoryview, state: State) -> State:
    """Mix a multiple of 12 bytes into the state."""
    m = MASK
    a, b, c = state
    for x, y, z in struct.iter_unpack("<III", data):
        # A lane is cut back to 32 bits only where a rotation needs it exact.
        c = (c + z) & m
        b += y
        a = (a + x - c) & m ^ ((c << 4) & m | c >> 28)
        c += b
        b = (b - a) & m ^ ((a << 6) & m | a >> 26)
        a += c
        c = (c - b) & m ^ ((b << 8) & m | b >> 24)
        b += a
        a = (a - c) & m ^ ((c << 16) & m | c >> 16)
        c += b
        b = (b - a) & m ^ ((a << 19) & m | a >> 13)
        a = (a + c) & m
        c = (c - b) & m ^ ((b << 4) & m | b >> 28)
        b = (b + a) & m
    return a, b, c


def final(state: State, tail: bytes) -> int:
    """Mix in the last 1 to 12 bytes."""
    m = MASK
    a, b, c = state
    x: int
    y: int
    z: int
    x, y, z = struct.unpack("<III", tail.ljust(12, b"\0"))
    a = (a + x) & m
    b = (b + y) & m
    c = (c + z) & m
    c = ((c ^ b) - ((b << 14) & m | b >> 18)) & m
    a = ((a ^ c) - ((c << 11) & m | c >> 21)) & m
    b = ((b ^ a) - ((a << 25) & m | a >> 7)) & m
    c = ((c ^ b) - ((b << 16) & m | b >> 16)) & m
    a = ((a ^ c) - ((c << 4) & m | c >> 28)) & m
    b = ((b ^ a) - ((a << 14) & m | a >> 18)) & m
    return ((c ^ b) - ((b << 24) & m | b >> 8)) & m
