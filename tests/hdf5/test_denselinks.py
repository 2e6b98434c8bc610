"""Links of large groups, read back from heap and trees."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from archive.hdf5.checksum import lookup3
from archive.hdf5.denselinks import Named, read_dense_links, read_link
from archive.hdf5.groups import encode_links
from archive.hdf5.messages import link
from archive.hdf5.region import Region, StructureError

START = 4096


def dense(count: int) -> tuple[bytearray, tuple[int, int, int]]:
    """Return heap and trees of links of odd names, and where they are."""
    names = [f"name {number * 7919 % count:x}".encode() for number in range(count)]
    storage = encode_links(START, names, np.arange(count, dtype=np.uint64) + 5)
    heap, by_name, by_order = struct.unpack("<3Q", storage.info.body[10:])
    return bytearray(b"".join(map(bytes, storage.parts))), (heap, by_name, by_order)


def read(data: bytes | bytearray, count: int, places: tuple[int, int, int]) -> tuple[list[Named], list[str]]:
    problems: list[StructureError] = []
    found = read_dense_links(Region(bytes(data), START), count, *places, problems)
    return found, [problem.problem for problem in problems]


@pytest.mark.parametrize("count", [9, 300, pytest.param(70_000, marks=pytest.mark.slow)])
def test_links_are_read_in_order(count: int) -> None:
    data, places = dense(count)
    found, problems = read(data, count, places)
    assert problems == []
    assert [(number, stored.address) for _, number, stored in found] == [(n, n + 5) for n in range(count)]
    assert len({name for name, _, _ in found}) == count


@pytest.mark.parametrize("count", [8, 10, 1 << 40])
def test_a_count_that_is_not_the_heaps(count: int) -> None:
    data, places = dense(9)
    with pytest.raises(StructureError):
        read(data, count, places)


@pytest.mark.parametrize("tree", [1, 2], ids=["names", "creation order"])
def test_a_record_that_leads_elsewhere_is_named(tree: int) -> None:
    data, places = dense(9)
    node = places[tree] - START + 38
    size = 11 if tree == 1 else 15
    first, second = data[node + 6 : node + 6 + size], data[node + 6 + size : node + 6 + 2 * size]
    data[node + 6 : node + 6 + 2 * size] = second + first
    end = node + 6 + 9 * size
    data[end : end + 4] = lookup3(bytes(data[node:end])).to_bytes(4, "little")
    found, problems = read(data, 9, places)
    assert len(found) == 9
    assert len(problems) == 2
    assert all("does not lead to the link" in problem for problem in problems)


@pytest.mark.parametrize("at", [0, 6, 10, 12, 14, 16, 24, 26, 34, 38, 42, 43, 50])
def test_a_tree_that_is_none_is_a_problem_beside_the_links(at: int) -> None:
    data, places = dense(9)
    data[places[1] - START + at] ^= 0x11
    found, [problem] = read(data, 9, places)
    assert len(found) == 9
    assert "the index of names" in problem


def test_a_tree_of_the_other_kind_is_refused() -> None:
    data, (heap, names, order) = dense(9)
    _, problems = read(data, 9, (heap, order, names))
    assert len(problems) == 2


def test_only_hard_links_are_links() -> None:
    body = link(b"a", 3, 4096)
    assert read_link(memoryview(body), 7)[:2] == (b"a", 3)
    for at in range(len(body) - 9):
        if not 2 <= at < 10:
            with pytest.raises(StructureError):
                read_link(memoryview(body[:at] + bytes([body[at] ^ 2]) + body[at + 1 :]), 7)
    for size in range(len(body)):
        with pytest.raises(StructureError):
            read_link(memoryview(body[:size]), 7)
