"""Bytes of the metadata region are taken once, and strings of the global heap are found."""

from __future__ import annotations

import struct

import pytest

from archive.hdf5.checksum import lookup3
from archive.hdf5.globalheap import GlobalHeap
from archive.hdf5.region import Region, StructureError

START = 4096


def heap_of(*texts: bytes) -> tuple[bytes, list[memoryview]]:
    """Return a collection, and the references to its strings."""
    heap = GlobalHeap(START)
    address, first = heap.add(texts)
    references = [struct.pack("<IQI", len(text), address, at) for at, text in enumerate(texts, first)]
    return b"".join(map(bytes, heap.finish()[0])), [memoryview(reference) for reference in references]


def test_bytes_are_taken_once() -> None:
    region = Region(bytes(range(64)), START)
    assert bytes(region.take(START + 8, 4, "a block")) == b"\x08\x09\x0a\x0b"
    with pytest.raises(StructureError, match="a block over bytes of another structure") as caught:
        region.take(START + 11, 8, "a block")
    assert caught.value.offset == START + 11
    assert len(region.take(START + 12, 8, "a block")) == 8


@pytest.mark.parametrize(("offset", "nbytes"), [(START - 1, 2), (START + 60, 5), (1 << 63, 1), (0, 1 << 62)])
def test_bytes_elsewhere_are_refused(offset: int, nbytes: int) -> None:
    with pytest.raises(StructureError, match="not in the HDF5 metadata"):
        Region(bytes(64), START).take(offset, nbytes, "a block")


def test_a_failed_checksum_gives_bytes_back_but_not_without_end() -> None:
    good = b"abcd" + lookup3(b"abcd").to_bytes(4, "little")
    region = Region(good + bytes(8), START)
    for _ in range(2):
        with pytest.raises(StructureError, match="checksum"):
            region.take_summed(START, 7, "a block")
    assert bytes(region.take_summed(START, 8, "a block")) == b"abcd"
    with pytest.raises(StructureError, match="checksum"):
        region.take_summed(START + 8, 8, "a block")
    with pytest.raises(StructureError, match="another structure"):
        region.take_summed(START + 8, 8, "a block")


def test_strings_are_found_once_each() -> None:
    data, references = heap_of(b"one", b"", b"x" * 5000)
    region = Region(data, START)
    assert [region.text(reference, 7) for reference in references] == [b"one", b"", b"x" * 5000]
    with pytest.raises(StructureError, match="another attribute's") as caught:
        region.text(references[0], 7)
    assert caught.value.offset == 7


@pytest.mark.parametrize(
    ("at", "byte"),
    [(0, 0), (4, 2), (5, 1), (8, 1), (9, 0), (10, 1), (18, 1), (20, 1), (24, 200), (40, 1), (42, 9), (48, 9)],
    ids=["signature", "version", "reserved", "longer", "too short", "beyond", "count", "unused", "too long",
         "same index", "count of another", "length"],
)  # fmt: skip
def test_a_collection_that_is_none(at: int, byte: int) -> None:
    data, references = heap_of(b"one", b"two")
    changed = bytearray(data)
    changed[at] = byte
    region = Region(bytes(changed), START)
    for reference in references[1:] * 2:
        with pytest.raises(StructureError):
            region.text(reference, 7)


def test_bytes_looked_at_in_vain_have_a_limit() -> None:
    region = Region(bytes(64), START)
    region.take(START + 60, 4, "a block")
    for offset in range(3):
        with pytest.raises(StructureError, match="another structure"):
            region.take(START + offset, 64 - offset, "a block")
    with pytest.raises(StructureError, match="another structure"):
        region.take(START, 4, "a block")
