"""Object headers read back: as they were encoded, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from archive.hdf5 import messages
from archive.hdf5.checksum import lookup3
from archive.hdf5.datasets import Attribute, attribute_message
from archive.hdf5.datatypes import UINT8, UTF8_VLEN, encode_datatype
from archive.hdf5.globalheap import GlobalHeap
from archive.hdf5.messages import Message
from archive.hdf5.objectheaders import StoredObject, read_object
from archive.hdf5.region import Region, StructureError

START = 4096
F8 = encode_datatype(np.dtype("<f8"))
PARTS = [
    Message(0x01, messages.dataspace((2, 3))),
    messages.datatype(F8),
    messages.fill_value(),
    messages.attribute_info(),
    messages.attribute("é", UINT8, (3,), b"abc"),
    messages.contiguous_layout(4096, 48),
    messages.reference_count(2),
]
GROUP = [
    messages.link_info(2),
    messages.group_info(),
    messages.attribute_info(2),
    Message(0x06, messages.link(b"a", 0, 5000)),
    Message(0x06, messages.link(b"b", 1, 6000)),
    messages.attribute("one", UINT8, (), b"1"),
    messages.attribute("two", UINT8, None, b""),
]


def read(block: bytes, before: bytes = b"") -> StoredObject:
    return read_object(Region(before + block, START), START + len(before))


def summed(block: bytes) -> bytes:
    return block + lookup3(block).to_bytes(4, "little")


def test_a_dataset() -> None:
    stored = read(messages.header(PARTS))
    assert not stored.group
    assert {name: fact.value for name, fact in stored.facts.items()} == {
        "type": F8, "shape": (2, 3), "address": 4096, "length": 48, "number of links": 2,
    }  # fmt: skip
    assert stored.attributes["é".encode()][:3] == (UINT8, (3,), b"abc")


def test_a_dataset_in_another_order() -> None:
    one, two = read(messages.header(PARTS)), read(messages.header(PARTS[::-1]))
    assert [fact.value for fact in one.facts.values()] == [fact.value for fact in two.facts.values()]


def test_a_group() -> None:
    stored = read(messages.header(GROUP, attributes=2))
    assert stored.group
    assert list(stored.attributes) == [b"one", b"two"]
    assert [(name, link.address) for name, link in stored.links.items()] == [(b"a", 5000), (b"b", 6000)]


def test_a_group_of_more_attributes_than_it_can_count() -> None:
    many = [messages.attribute("a", UINT8, (), b"1")] * (messages.MAX_ATTRIBUTES + 1)
    parts = [messages.link_info(0), messages.group_info(), messages.attribute_info(1), *many]
    with pytest.raises(StructureError, match="more attributes than a header counts"):
        read(messages.header(parts, attributes=len(many)))


def test_strings_come_from_the_heap() -> None:
    heap = GlobalHeap(START)
    made = attribute_message(Attribute("t", UTF8_VLEN, (2,), (b"one", b"")), heap)
    before = b"".join(map(bytes, heap.finish()[0]))
    stored = read(messages.header([*PARTS, made]), before)
    assert stored.attributes[b"t"].value == (b"one", b"")
    assert stored.problems == []
    shared = messages.attribute("u", UTF8_VLEN, (2,), made.body[-32:])
    stored = read(messages.header([*PARTS, made, shared]), before)
    assert stored.attributes[b"u"].value is None
    assert len(stored.problems) == 1


@pytest.mark.parametrize("missing", [0, 1, 2, 5])
def test_a_dataset_without_a_message(missing: int) -> None:
    with pytest.raises(StructureError, match="without a message"):
        read(messages.header([part for number, part in enumerate(PARTS) if number != missing]))


@pytest.mark.parametrize(
    "added",
    [
        PARTS[0], PARTS[5], PARTS[4], GROUP[3], Message(0x00, bytes(4)), Message(0x0B, b"filter"),
        Message(0x10, bytes(16)),
    ],
    ids=["shape", "layout", "attribute", "link", "nil", "filter", "continuation"],
)  # fmt: skip
def test_a_message_too_many(added: Message) -> None:
    with pytest.raises(StructureError):
        read(messages.header([*PARTS, added]))


@pytest.mark.parametrize(
    "links",
    [
        [(b"a", 0, 1), (b"a", 1, 2)],
        [(b"a", 0, 1), (b"b", 0, 2)],
        [(b"a", 1, 1), (b"b", 2, 2)],
        [(b"a", 0, 1)],
    ],
    ids=["one name", "one order", "from 1", "one too few"],
)  # fmt: skip
def test_links_that_are_not_in_order(links: list[tuple[bytes, int, int]]) -> None:
    parts = [part for part in GROUP if part.kind != 0x06]
    with pytest.raises(StructureError):
        read(
            messages.header([*parts, *(Message(0x06, messages.link(*link)) for link in links)], attributes=2)
        )


def test_a_count_of_links_is_not_taken_at_its_word() -> None:
    with pytest.raises(StructureError):
        read(messages.header([messages.link_info(1 << 62), *GROUP[1:]], attributes=2))


@pytest.mark.parametrize("parts", [PARTS[:-1], GROUP], ids=["dataset", "group"])
def test_every_cut_is_noticed(parts: list[Message]) -> None:
    block = messages.header_without_checksum(parts, attributes=2 if parts is GROUP else None)
    for size in range(10, len(block)):
        cut = block[:6] + (size - 10).to_bytes(4, "little") + block[10:size]
        with pytest.raises(StructureError):
            read(summed(cut))
