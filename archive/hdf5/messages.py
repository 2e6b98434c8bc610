"""Object headers: the messages that describe a dataset or a group, and the block that holds them.

Version-2 headers with one chunk, a checksum and no times, so that equal input gives equal bytes.
HDF5 File Format Specification, sections IV.A.1.b (the prefix) and IV.A.2 (each message).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from archive.hdf5.checksum import lookup3

__all__ = [
    "UNDEFINED",
    "Message",
    "attribute",
    "attribute_info",
    "contiguous_layout",
    "dataspace",
    "datatype",
    "fill_value",
    "group_info",
    "header",
    "link",
    "link_info",
    "reference_count",
]

UNDEFINED = 0xFFFFFFFFFFFFFFFF
"""The address of a missing object."""

MAX_MESSAGE_NBYTES = 0xFFFF
"""A message's size is a 16-bit field."""

MAX_RANK = 32
"""H5S_MAX_RANK."""
MAX_ATTRIBUTES = 0xFFFF
"""Attributes of a group are counted in 16 bits."""

_CONSTANT, _DO_NOT_SHARE = 0x01, 0x04
_CHUNK_SIZE_4, _TRACKED_INDEXED = 0x02, 0x0C
_UTF8 = 1
_CONTIGUOUS = 1


@dataclass(frozen=True, slots=True)
class Message:
    """One header message."""

    kind: int
    """Message type number."""
    body: bytes
    """The bytes after the header of the message."""
    flags: int = 0
    """0x01: constant; 0x04: must not be shared."""


def dataspace(dims: tuple[int, ...] | None) -> bytes:
    """Describe a shape (section IV.A.2.b, version 2): ``()`` a scalar, ``None`` without elements."""
    if dims is None:
        return b"\x02\x00\x00\x02"
    if len(dims) > MAX_RANK:
        raise ValueError(f"HDF5 holds at most {MAX_RANK} dimensions, not {len(dims)}")
    return struct.pack(f"<4B{len(dims)}Q", 2, len(dims), 0, 1 if dims else 0, *dims)


def datatype(body: bytes) -> Message:
    """Wrap an encoded datatype for the header of a dataset (section IV.A.2.d)."""
    return Message(0x03, body, _CONSTANT)


def fill_value() -> Message:
    """State that storage is allocated late and never filled (section IV.A.2.f, version 3)."""
    return Message(0x05, b"\x03\x06", _CONSTANT)


def contiguous_layout(address: int, nbytes: int) -> Message:
    """Place the bytes of a dataset (section IV.A.2.i, version 3): `UNDEFINED` and 0 without bytes."""
    return Message(0x08, struct.pack("<BBQQ", 3, _CONTIGUOUS, address, nbytes))


def attribute(name: str, datatype_body: bytes, dims: tuple[int, ...] | None, value: bytes) -> Message:
    """Attach a value (section IV.A.2.m, version 3), whose bytes end the message."""
    encode = _attribute if len(value) <= _SMALL_VALUE else _attribute.__wrapped__
    return encode(name, datatype_body, dims, value)


_SMALL_VALUE = 64


@functools.lru_cache(maxsize=1024)
def _attribute(name: str, datatype_body: bytes, dims: tuple[int, ...] | None, value: bytes) -> Message:
    raw = name.encode() + b"\0"
    if len(raw) == 1 or b"\0" in raw[:-1]:
        raise ValueError(f"HDF5 cannot hold the attribute name {name!r}")
    space = dataspace(dims)
    charset = 0 if name.isascii() else _UTF8
    try:
        head = struct.pack("<BBHHHB", 3, 0, len(raw), len(datatype_body), len(space), charset)
    except struct.error as error:
        raise ValueError(f"attribute {name[:40]!r}: its name or type is over 65,535 bytes") from error
    body = b"".join((head, raw, datatype_body, space, value))
    if len(body) > MAX_MESSAGE_NBYTES:
        raise ValueError(f"attribute {name[:40]!r} takes {len(body)} bytes; HDF5 holds 65,535")
    return Message(0x0C, body)


def attribute_info(count: int | None = None) -> Message:
    """State that all attributes are in the header (section IV.A.2.v), `count` in creation order."""
    if count is None:
        return Message(0x15, struct.pack("<BBQQ", 0, 0, UNDEFINED, UNDEFINED), _DO_NOT_SHARE)
    if count > MAX_ATTRIBUTES:
        raise ValueError(f"an object numbers up to 65,535 attributes, not {count}")
    return Message(0x15, struct.pack("<BBHQQQ", 0, 3, count, UNDEFINED, UNDEFINED, UNDEFINED), _DO_NOT_SHARE)


def link_info(count: int, heap: int = UNDEFINED, names: int = UNDEFINED, order: int = UNDEFINED) -> Message:
    """State the number of links, and where a dense group keeps them (section IV.A.2.c)."""
    return Message(0x02, struct.pack("<BBQQQQ", 0, 3, count, heap, names, order))


def group_info() -> Message:
    """Leave the settings of a group to the defaults of the library (section IV.A.2.k)."""
    return Message(0x0A, b"\x00\x00", _CONSTANT)


def link(name: bytes, order: int, address: int) -> bytes:
    """Encode a hard link (section IV.A.2.g): creation order, UTF-8, 2-byte name length."""
    return struct.pack("<BBQBH", 1, 0x15, order, _UTF8, len(name)) + name + struct.pack("<Q", address)


def reference_count(count: int) -> Message:
    """Count the hard links of an object (section IV.A.2.w).

    Without it deleting one of two links frees the object under the other [measured with h5py].
    """
    return Message(0x16, struct.pack("<BI", 0, count))


def header(messages: Sequence[Message], *, attributes: int | None = None) -> bytes:
    """Build an object header, from ``OHDR`` to the checksum.

    ``attributes`` is the number of messages that are attributes; it is given where their creation order is
    tracked and indexed.
    """
    block = header_without_checksum(messages, attributes=attributes)
    return _with_checksum(block) if len(block) <= _KEPT_NBYTES else _with_checksum.__wrapped__(block)


_KEPT_NBYTES = 4096


@functools.lru_cache(maxsize=512)
def _with_checksum(block: bytes) -> bytes:
    """Append the checksum; most group headers of a round repeat those before, which saves 20 us each."""
    return block + struct.pack("<I", lookup3(block))


def header_without_checksum(messages: Sequence[Message], *, attributes: int | None = None) -> bytes:
    """Build an object header up to its checksum; parameters as for `header`."""
    tracked = attributes is not None
    parts = [b""]
    order = 0
    for message in messages:
        if len(message.body) > MAX_MESSAGE_NBYTES:
            raise ValueError(f"a header message of {len(message.body)} bytes; HDF5 holds 65,535")
        parts.append(struct.pack("<BHB", message.kind, len(message.body), message.flags))
        if tracked:
            parts.append(struct.pack("<H", order if message.kind == 0x0C else 0))
            order += message.kind == 0x0C
        parts.append(message.body)
    # However many attributes there are, no limit of them is stated: pyfive and jsfive refuse that field.
    flags = _CHUNK_SIZE_4 | (_TRACKED_INDEXED if tracked else 0)
    parts[0] = struct.pack("<4sBBI", b"OHDR", 2, flags, sum(map(len, parts)))
    return b"".join(parts)
