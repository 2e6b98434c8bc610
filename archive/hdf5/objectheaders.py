"""Object headers as they are read: what a dataset or group says of itself, and where.

Each message is encoded again by `archive.hdf5.messages` from the fields that were read, and compared: so a
byte that the encoder does not write is found, and no rule stands in two places. HDF5 File Format
Specification, sections IV.A.1.b and IV.A.2.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archive.hdf5 import messages
from archive.hdf5.datatypes import UTF8_VLEN
from archive.hdf5.denselinks import StoredLink, read_dense_links, read_link
from archive.hdf5.globalheap import REFERENCE_NBYTES
from archive.hdf5.groups import COMPACT_LINKS
from archive.hdf5.messages import MAX_ATTRIBUTES, UNDEFINED, Message
from archive.hdf5.region import Region, StructureError

__all__ = ["Fact", "StoredAttribute", "StoredObject", "read_object"]

_PREFIX = struct.Struct("<4sBBI")
_SUM_NBYTES = 4
_DATASET, _GROUP = 0x02, 0x0E
"""Flags of the prefix."""
_SHAPE, _LINK_INFO, _TYPE, _FILL, _LINK, _LAYOUT, _GROUP_INFO, _ATTRIBUTE, _ATTRIBUTE_INFO, _LINKS = (
    0x01, 0x02, 0x03, 0x05, 0x06, 0x08, 0x0A, 0x0C, 0x15, 0x16,
)  # fmt: skip
"""Types of messages."""
_ATTRIBUTE_HEAD = struct.Struct("<BBHHHB")


class Fact(NamedTuple):
    """One thing that a dataset says of itself."""

    value: Any
    """Its value."""
    offset: int
    """File offset of the message that says it."""


class StoredAttribute(NamedTuple):
    """An attribute."""

    datatype: bytes
    """Encoded datatype."""
    dims: tuple[int, ...] | None
    """Shape; ``None`` without elements."""
    value: bytes | tuple[bytes, ...] | None
    """Bytes of the elements; the strings of variable-length text; None where these cannot be found."""
    offset: int
    """File offset of its message."""


@dataclass(slots=True)
class StoredObject:
    """A dataset or group."""

    group: bool
    """Whether it is a group."""
    facts: dict[str, Fact] = field(default_factory=dict)
    """Of a dataset: type, shape, address, length, number of links."""
    attributes: dict[bytes, StoredAttribute] = field(default_factory=dict)
    """By name; of a group in creation order."""
    links: dict[bytes, StoredLink] = field(default_factory=dict)
    """Of a group, by name, in creation order."""
    problems: list[StructureError] = field(default_factory=list)
    """Faults beside which the rest can be read."""


class _Stored(NamedTuple):
    """One message of a header."""

    kind: int
    flags: int
    order: int
    body: memoryview
    offset: int

    def require(self, wanted: Message) -> None:
        """Raise unless the message is one that the encoder writes."""
        if self.flags != wanted.flags or self.body != wanted.body:
            raise StructureError(f"a message of type {self.kind:#x} that no archive has", self.offset)

    def unpack(self, layout: str) -> tuple[Any, ...]:
        """Return the fields of a body of fixed length."""
        if struct.calcsize(layout) != len(self.body):
            raise StructureError(f"a message of type {self.kind:#x} of {len(self.body)} bytes", self.offset)
        return struct.unpack(layout, self.body)


def read_object(region: Region, address: int) -> StoredObject:
    """Return the dataset or group whose header lies at a file offset.

    Raises
    ------
    StructureError
        There is no header of section 5, or another structure has its bytes.
    """
    group, found = _read_messages(region, address)
    many = {_ATTRIBUTE, _LINK} if group else {_ATTRIBUTE}
    needed = {_LINK_INFO, _GROUP_INFO, _ATTRIBUTE_INFO} if group else {_SHAPE, _TYPE, _FILL, _LAYOUT}
    single = _single(found, many, needed, set() if group else {_ATTRIBUTE_INFO, _LINKS}, address)
    stored = StoredObject(group)
    attributes = [message for message in found if message.kind == _ATTRIBUTE]
    if group:
        attributes = _ordered(attributes)
        single[_GROUP_INFO].require(messages.group_info())
        single[_ATTRIBUTE_INFO].require(messages.attribute_info(len(attributes)))
        _read_links(region, stored, single[_LINK_INFO], [m for m in found if m.kind == _LINK])
    else:
        _read_facts(stored, single)
    for message in attributes:
        name, attribute = _read_attribute(region, message, stored.problems)
        if name in stored.attributes:
            raise StructureError("two attributes of one name", message.offset)
        stored.attributes[name] = attribute
    return stored


def _read_messages(region: Region, address: int) -> tuple[bool, list[_Stored]]:
    """Return whether a header is a group's, and its messages."""
    what = "an object header"
    signature, version, flags, size = _PREFIX.unpack(region.peek(address, _PREFIX.size, what))
    begin = _PREFIX.size
    if (signature, version) != (b"OHDR", 2) or flags not in (_DATASET, _GROUP):
        raise StructureError(f"not {what}", address)
    block = region.take_summed(address, begin + size + _SUM_NBYTES, what)
    group = flags != _DATASET
    head = struct.Struct("<BHBH" if group else "<BHB")
    found, at = [], begin
    while at < len(block):
        if at + head.size > len(block):
            raise StructureError("a header that ends within a message", address + at)
        kind, nbytes, flag, *order = head.unpack_from(block, at)
        body = block[at + head.size : at + head.size + nbytes]
        if len(body) != nbytes:
            raise StructureError("a message that is longer than its header", address + at)
        if kind != _ATTRIBUTE and any(order):
            raise StructureError("a creation order of a message that has none", address + at)
        found.append(_Stored(kind, flag, sum(order), body, address + at))
        at += head.size + nbytes
    return group, found


def _single(
    found: Sequence[_Stored], many: Collection[int], needed: set[int], optional: set[int], address: int
) -> dict[int, _Stored]:
    """Return the messages that an object has once, by type."""
    single: dict[int, _Stored] = {}
    for message in found:
        if message.kind in many:
            continue
        if message.kind in single or message.kind not in needed | optional:
            raise StructureError(
                f"a message of type {message.kind:#x} that its object does not have", message.offset
            )
        single[message.kind] = message
    missing = needed - single.keys()
    if missing:
        raise StructureError(f"an object header without a message of type {min(missing):#x}", address)
    return single


def _ordered(attributes: list[_Stored]) -> list[_Stored]:
    """Return the attributes of a group in creation order."""
    if len(attributes) > MAX_ATTRIBUTES:
        raise StructureError("more attributes than a header counts", attributes[0].offset)
    attributes = sorted(attributes, key=lambda message: message.order)
    for number, message in enumerate(attributes):
        if message.order != number:
            raise StructureError("attributes whose creation order is not from 0 on", message.offset)
    return attributes


def _read_facts(stored: StoredObject, single: dict[int, _Stored]) -> None:
    """Add what a dataset says of itself."""
    shape, datatype, layout = single[_SHAPE], single[_TYPE], single[_LAYOUT]
    dims = _read_dims(shape.body, shape.offset)
    shape.require(Message(_SHAPE, messages.dataspace(dims)))
    datatype.require(messages.datatype(bytes(datatype.body)))
    single[_FILL].require(messages.fill_value())
    address, nbytes = layout.unpack("<xxQQ")
    layout.require(messages.contiguous_layout(address, nbytes))
    if _ATTRIBUTE_INFO in single:
        single[_ATTRIBUTE_INFO].require(messages.attribute_info())
    count = 1
    if _LINKS in single:
        (count,) = single[_LINKS].unpack("<xI")
        single[_LINKS].require(messages.reference_count(count))
    stored.facts["type"] = Fact(bytes(datatype.body), datatype.offset)
    stored.facts["shape"] = Fact(dims, shape.offset)
    stored.facts["address"] = Fact(address, layout.offset)
    stored.facts["length"] = Fact(nbytes, layout.offset)
    stored.facts["number of links"] = Fact(count, single.get(_LINKS, layout).offset)


def _read_dims(body: memoryview, offset: int) -> tuple[int, ...] | None:
    """Return the shape that a dataspace describes."""
    try:
        dims = struct.unpack_from(f"<{body[1]}Q", body, 4) if len(body) >= 4 else ()
        found = None if bytes(body[3:4]) == b"\2" else dims
        if body == messages.dataspace(found):
            return found
    except (struct.error, ValueError):
        pass
    raise StructureError("a dataspace that no archive has", offset)


def _read_attribute(
    region: Region, message: _Stored, problems: list[StructureError]
) -> tuple[bytes, StoredAttribute]:
    """Return name and content of an attribute."""
    body, offset = message.body, message.offset
    if len(body) < _ATTRIBUTE_HEAD.size or message.flags:
        raise StructureError("an attribute that no archive has", offset)
    version, flags, name_nbytes, type_nbytes, space_nbytes, charset = _ATTRIBUTE_HEAD.unpack_from(body)
    ends = [_ATTRIBUTE_HEAD.size]
    for nbytes in (name_nbytes, type_nbytes, space_nbytes):
        ends.append(ends[-1] + nbytes)
    name, datatype, space, value = (
        bytes(body[a:b]) for a, b in zip(ends, [*ends[1:], len(body)], strict=True)
    )
    if (
        (version, flags, charset) != (3, 0, 0 if name.isascii() else 1)
        or ends[-1] > len(body)
        or name.find(b"\0") != len(name) - 1
        or len(name) < 2
    ):
        raise StructureError("an attribute that no archive has", offset)
    dims = _read_dims(memoryview(space), offset)
    found: bytes | tuple[bytes, ...] | None = value
    if datatype == UTF8_VLEN:
        found = _read_texts(region, value, dims, offset, problems)
    return name[:-1], StoredAttribute(datatype, dims, found, offset)


def _read_texts(
    region: Region, value: bytes, dims: tuple[int, ...] | None, offset: int, problems: list[StructureError]
) -> tuple[bytes, ...] | None:
    """Return the strings of an attribute; None where they are not there."""
    count, step = 0 if dims is None else math.prod(dims), REFERENCE_NBYTES
    try:
        if len(value) != count * step:
            raise StructureError("an attribute whose strings are not one for each element", offset)
        view = memoryview(value)
        return tuple(region.text(view[at : at + step], offset) for at in range(0, len(value), step))
    except StructureError as error:
        problems.append(error)
        return None


def _read_links(region: Region, stored: StoredObject, info: _Stored, compact: list[_Stored]) -> None:
    """Add the links of a group."""
    count, heap, names, order = info.unpack("<xxQQQQ")
    info.require(messages.link_info(count, heap, names, order))
    if (heap, names, order) != (UNDEFINED,) * 3:
        if compact or count <= COMPACT_LINKS:
            raise StructureError("few links outside of the header of their group", info.offset)
        found = read_dense_links(region, count, heap, names, order, stored.problems)
    else:
        found = sorted(
            (read_link(message.body, message.offset) for message in compact if not message.flags),
            key=lambda link: link[1],
        )
        numbers = [number for _, number, _ in found]
        if count != len(compact) or count > COMPACT_LINKS or numbers != list(range(count)):
            raise StructureError("links whose creation order is not from 0 on", info.offset)
    for name, _, link in found:
        if name in stored.links:
            raise StructureError("two links of one name", link.offset)
        stored.links[name] = link
