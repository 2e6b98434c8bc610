"""Heap collections: their sizes, and strings of all lengths read back through h5py."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.hdf5.encoder import DatasetLinks, Datasets, Group
from archive.hdf5.globalheap import GlobalHeap
from tests.hdf5.files import array_class, text, write_file, write_values


def collections(heap: GlobalHeap) -> dict[int, dict[int, bytes]]:
    """Take a heap apart by the specification, from file offset 64 on."""
    parts, end = heap.finish()
    data = b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)
    assert len(data) == end - 64
    found: dict[int, dict[int, bytes]] = {}
    at = 0
    while at < len(data):
        signature, version, nbytes = struct.unpack_from("<4sB3xQ", data, at)
        assert (signature, version, nbytes % 8) == (b"GCOL", 1, 0)
        assert nbytes >= 4096
        objects = found[64 + at] = {}
        inside, last = at + 16, at + nbytes
        while last - inside >= 16:
            index, _, _, size = struct.unpack_from("<HHIQ", data, inside)
            if index == 0:
                assert inside + size == last
                break
            assert index not in objects
            objects[index] = data[inside + 16 : inside + 16 + size]
            inside += 16 + -(-size // 8) * 8
        at = last
    return found


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 70_000), st.integers(1, 40)), max_size=8))
def test_rows_and_single_strings_agree(shapes: list[tuple[int, int]]) -> None:
    heap = GlobalHeap(64)
    expected = []
    for size, n in shapes:
        column = np.random.default_rng(size).integers(0, 256, (n, size), np.uint8)
        addresses, indices = heap.add_rows([b"shared", column], n)
        for row in range(n):
            expected += [
                (addresses[row], indices[row], b"shared"),
                (addresses[row], indices[row] + 1, column[row].tobytes()),
            ]
        address, index = heap.add([b"", b"alone"])
        expected += [(address, index, b""), (address, index + 1, b"alone")]
    found = collections(heap)
    assert all(found[int(address)][int(index)] == data for address, index, data in expected)
    assert sum(map(len, found.values())) == len(expected)


def test_every_size_of_last_collection() -> None:
    for size in range(4000, 4120, 3):
        heap = GlobalHeap(64)
        heap.add([b"x" * size])
        assert [*collections(heap).values()] == [{1: b"x" * size}]


@pytest.mark.parametrize("lengths", [[0, 1, 7, 8, 9], [65_000, 65_504, 65_505, 200_000, 0, 5]])
def test_strings_through_h5py(tmp_path: Path, lengths: list[int]) -> None:
    values = [
        text(f"v{i}", "\u00e9"[: n % 2] + "x" * (n - 2 * (n % 2)) if n > 2 else "y" * n)
        for i, n in enumerate(lengths)
    ]
    with h5py.File(write_values(tmp_path / "a.h5", values)) as file:
        for attribute in values:
            assert file["values"].attrs[attribute.name].encode() == attribute.value[0]


def test_modifying_one_string_leaves_the_others(tmp_path: Path) -> None:
    path = write_values(tmp_path / "a.h5", [text(f"v{i}", "equal") for i in range(40)])
    with h5py.File(path, "r+") as file:
        for i in range(0, 40, 3):
            file["values"].attrs.modify(f"v{i}", f"other {i}" * 30)
    with h5py.File(path) as file:
        assert [file["values"].attrs[f"v{i}"] for i in range(40)] == [
            f"other {i}" * 30 if i % 3 == 0 else "equal" for i in range(40)
        ]


def test_more_objects_than_one_collection_numbers(tmp_path: Path) -> None:
    n = 40_000  # three strings each
    keys = [f"{i:05}".encode() for i in range(n)]
    datasets = Datasets(
        [array_class(np.dtype("<f4"), (2,))],
        np.zeros(n, np.intp),
        np.full(n, 4096, np.uint64),
        np.full(n, 8, np.uint64),
        keys,
    )
    root = Group(links=((b"m", Group(datasets=0)),))
    links = [DatasetLinks(keys, np.arange(n))]
    path = write_file(tmp_path / "a.h5", root, datasets, bytes(8), links=links)
    with h5py.File(path) as file:
        for i in [*range(0, n, 457), n - 1]:
            attrs = file["m"][keys[i]].attrs
            assert (attrs["key"], attrs["stype"], attrs["dtype"]) == (
                keys[i].decode(),
                "numpy.ndarray",
                "float32",
            )
