"""Groups of values, long link names and colliding hashes, read and edited with h5py."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyfive
import pytest

from archive.hdf5.checksum import lookup3_rows
from archive.hdf5.fractalheap import MAX_NAME_NBYTES
from archive.hdf5.groups import encode_group, encode_links
from tests.hdf5.files import number, text, write_arrays, write_values


def values_of(n: int) -> list[Any]:
    return [text(f"v{i}", f"text {i}") if i % 2 else number(f"v{i}\u00e9", np.int64(i)) for i in range(n)]


def check_values(attrs: h5py.AttributeManager, n: int, step: int = 1) -> None:
    assert list(attrs) == [f"v{i}" if i % 2 else f"v{i}\u00e9" for i in range(n)]
    for i in range(0, n, step):
        assert (attrs[f"v{i}"] == f"text {i}") if i % 2 else (attrs[f"v{i}\u00e9"] == i)


@pytest.mark.parametrize("n", [0, 1, 8, 9, 300])
def test_values_in_order(tmp_path: Path, n: int, tool: Callable[..., str]) -> None:
    path = write_values(tmp_path / "a.h5", values_of(n))
    with h5py.File(path) as file:
        check_values(file["values"].attrs, n)
    tool("h5repack", path, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert len(file["values"].attrs) == n


@pytest.mark.parametrize("n", [8, 9, 20, 4096])
def test_pyfive_reads_values(tmp_path: Path, n: int) -> None:
    """Pyfive knows no object header that states how many attributes may be in it."""
    with pyfive.File(write_values(tmp_path / "a.h5", values_of(n))) as file:
        attrs = dict(file["values"].attrs)
    assert len(attrs) == n
    for i in range(n):
        assert attrs[f"v{i}" if i % 2 else f"v{i}\u00e9"] in (
            (f"text {i}", f"text {i}".encode()) if i % 2 else (i,)
        )


@pytest.mark.parametrize("n", [1, 8, 9, 20, 300])
def test_values_can_be_edited(tmp_path: Path, n: int, tool: Callable[..., str]) -> None:
    path = write_values(tmp_path / "a.h5", values_of(n))
    with h5py.File(path, "r+") as file:
        attrs = file["values"].attrs
        attrs["new"] = "added"
        attrs["wide"] = np.arange(4000)
        attrs.modify("v0\u00e9", np.int64(-1))
        if n > 1:
            del attrs["v1"]
            attrs.modify("v3", "changed")
    with h5py.File(path, "r+") as file:
        attrs = file["values"].attrs
        assert attrs["new"] == "added"
        assert attrs["v0\u00e9"] == -1
        assert len(attrs) == n + (1 if n > 1 else 2)
        assert "v1" not in attrs
        for i in range(5, n, 2):
            assert attrs[f"v{i}"] == f"text {i}"
        for name in list(attrs):
            del attrs[name]
        attrs["last"] = 1
    with h5py.File(path) as file:
        assert dict(file["values"].attrs) == {"last": 1}
    tool("h5dump", path)


@pytest.mark.slow
def test_sixty_thousand_values(tmp_path: Path) -> None:
    path = write_values(tmp_path / "a.h5", values_of(60_000))
    with h5py.File(path, "r+") as file:
        check_values(file["values"].attrs, 60_000, 997)
        file["values"].attrs["new"] = 1
        # Not deleted: libhdf5 needs minutes to close the gap between so many messages (it works at 300).
    with h5py.File(path) as file:
        assert len(file["values"].attrs) == 60_001
        assert file["values"].attrs["v59999"] == "text 59999"


def test_attribute_of_nearly_64_kib(tmp_path: Path) -> None:
    wide = np.arange(8180, dtype="<i8")
    with h5py.File(write_values(tmp_path / "a.h5", [number(f"w{i}", wide) for i in range(20)])) as file:
        assert all((value == wide).all() for value in file["values"].attrs.values())


@pytest.mark.parametrize("n", [1, 9, 40])
def test_longest_names(tmp_path: Path, n: int, tool: Callable[..., str]) -> None:
    names = [f"{i:03}" + "\u00e9" * ((MAX_NAME_NBYTES - 3) // 2) for i in range(n)]
    names[0] += "x" * (MAX_NAME_NBYTES - len(names[0].encode()))
    path = write_arrays(tmp_path / "a.h5", [np.array(i) for i in range(n)], names)
    with h5py.File(path, "r+") as file:
        group = file["arrays/model"]
        assert list(group) == names
        assert [group[name][()] for name in names] == list(range(n))
        group["added"] = 1
        del group[names[0]]
    with h5py.File(path) as file:
        assert list(file["arrays/model"]) == [*names[1:], "added"]
    # h5ls 1.10.8 never ends on names of 24,000 bytes that it escapes, h5py's own files included.
    assert tool("h5dump", "-H", path).count("DATASET ") == n + 1


def test_longer_names_are_refused() -> None:
    names = [b"%d" % i for i in range(9)]
    for bad in (b"", b"x" * (MAX_NAME_NBYTES + 1)):
        with pytest.raises(ValueError, match="link name"):
            encode_group(4096, [], [*names, bad], np.zeros(10, np.uint64))


def test_equal_hashes_are_told_apart_by_name(tmp_path: Path, tool: Callable[..., str]) -> None:
    # By the birthday bound 300,000 names have about ten pairs of equal 32-bit hashes.
    names = [f"{i:08x}" for i in range(300_000)]
    sums = lookup3_rows(np.frombuffer("".join(names).encode(), np.uint8).reshape(-1, 8))
    order = np.argsort(sums, kind="stable")
    pairs = [(a, b) for a, b in pairwise(order.tolist()) if sums[a] == sums[b]]
    assert len(pairs) > 3
    chosen = [names[i] for pair in pairs for i in reversed(pair)] + [f"other{i}" for i in range(10)]
    path = write_arrays(tmp_path / "a.h5", [np.array(i) for i in range(len(chosen))], chosen)
    with h5py.File(path, "r+") as file:
        group = file["arrays/model"]
        assert [group[name][()] for name in chosen] == list(range(len(chosen)))
        for name in chosen[::2]:
            del group[name]
        assert list(group) == chosen[1::2]
    assert tool("h5ls", f"{path}/arrays/model").count("Dataset") == len(chosen) // 2


def test_names_that_take_more_than_a_heap_holds() -> None:
    names = [b"x" * 32768] * 32_800  # one object: no gigabyte is needed to say that there is no room for it
    with pytest.raises(ValueError, match="the names of 32800 links take more"):
        encode_links(4096, names, np.zeros(len(names), np.uint64))
