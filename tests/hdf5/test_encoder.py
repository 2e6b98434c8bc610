"""Whole files: read, listed, repacked and edited by readers that are not ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pyfive
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.hdf5.encoder import DatasetLinks, Datasets, Group, encode_all_datasets, encode_metadata
from tests.hdf5.files import INDEX, NO_DATASETS, array_class, number, text, write_arrays, write_file

SIZES = [0, 1, 8, 9, 20, 371, 372]
HUGE = [65_535, 65_536, 70_000]
ADDS_AFTER_DELETING = h5py.version.hdf5_version_tuple >= (2, 0, 0)
"""HDF5 1.12 to 1.14 end the file before a dataset that is added to so large a group after a deletion."""


def arrays_of(n: int) -> tuple[list[np.ndarray], list[str]]:
    kinds = ("<f4", "<f2", "<i8", "?", ">f8", "<c8")
    shapes = ((3, 4), (5,), (), (0, 2), (2, 1, 2))
    arrays = [
        (np.arange(int(np.prod(shapes[i % 5]))) + i).astype(kinds[i % 6]).reshape(shapes[i % 5])
        for i in range(n)
    ]
    return arrays, [f"layers.{i}.\u00e9weight" if i % 7 == 3 else f"layers.{i}" for i in range(n)]


@pytest.mark.parametrize("n", SIZES)
def test_h5py_reads_everything(tmp_path: Path, n: int) -> None:
    arrays, names = arrays_of(n)
    keys = [f"k/{i}".encode() if i % 3 == 0 else b"" if i % 3 == 1 else None for i in range(n)]
    with h5py.File(write_arrays(tmp_path / "a.h5", arrays, names, keys=keys)) as file:
        group = file["arrays/model"]
        assert list(group) == names
        for array, name, key in zip(arrays, names, keys, strict=True):
            dataset = group[name]
            assert dataset.dtype == array.dtype
            assert dataset.shape == array.shape
            assert (dataset[()] == array).all()
            assert dataset.attrs["stype"] == "numpy.ndarray"
            assert dataset.attrs["dtype"] == str(array.dtype)
            assert tuple(dataset.attrs["shape"]) == array.shape
            assert dataset.attrs.get("key") == (key if key is None else key.decode())
        assert file["index"][()].tobytes() == INDEX
        assert file["index"].id.get_offset() + len(INDEX) == (tmp_path / "a.h5").stat().st_size
        assert file.attrs["format"] == "test"


@pytest.mark.parametrize("n", SIZES)
def test_tools_list_compare_and_repack(tmp_path: Path, n: int, tool: Callable[..., str]) -> None:
    arrays, names = arrays_of(n)
    path, packed = write_arrays(tmp_path / "a.h5", arrays, names), tmp_path / "b.h5"
    assert tool("h5ls", "-r", path).count("Dataset") == n + 1
    assert tool("h5dump", path).count("DATASET ") == n + 1
    tool("h5stat", path)
    tool("h5repack", path, packed)
    tool("h5diff", path, packed)
    with h5py.File(packed) as file:
        assert list(file["arrays/model"]) == names
        for array, name in zip(arrays, names, strict=True):
            assert (file["arrays/model"][name][()] == array).all()


@pytest.mark.parametrize("n", SIZES)
def test_pyfive_reads_everything(tmp_path: Path, n: int) -> None:
    arrays, names = arrays_of(n)
    with pyfive.File(write_arrays(tmp_path / "a.h5", arrays, names)) as file:
        group = file["arrays/model"]
        assert list(group) == names
        for array, name in zip(arrays, names, strict=True):
            if array.size:
                assert (group[name][()] == array).all()
            assert group[name].attrs["stype"] in ("numpy.ndarray", b"numpy.ndarray")


def test_netcdf4_reads_values_and_strings(tmp_path: Path) -> None:
    arrays, names = arrays_of(20)
    path = write_arrays(tmp_path / "a.h5", arrays[:1], names[:1])
    with netCDF4.Dataset(path) as file:
        variable = file["arrays/model"].variables[names[0]]
        assert (variable[:] == arrays[0]).all()
        assert variable.stype == "numpy.ndarray"


def test_h5dump_calls_strings_c_strings(tmp_path: Path, tool: Callable[..., str]) -> None:
    path = write_file(
        tmp_path / "a.h5", Group((text("empty", ""), text("some", "a", "", "b", dims=(3,)))), NO_DATASETS
    )
    shown = tool("h5dump", path)
    assert shown.count("CTYPE H5T_C_S1") == 2
    assert '(0): ""\n' in shown
    assert '"a", "", "b"' in shown
    with h5py.File(path) as file:
        assert file.attrs["empty"] == ""
        assert file.attrs["some"].tolist() == ["a", "", "b"]


@pytest.mark.parametrize("n", [3, 20, 372])
def test_edits_with_h5py(tmp_path: Path, n: int, tool: Callable[..., str]) -> None:
    arrays, names = arrays_of(n)
    path = write_arrays(tmp_path / "a.h5", arrays, names)
    with h5py.File(path, "r+") as file:
        group = file["arrays/model"]
        del group[names[1]]
        group["added"] = np.arange(5)
        group.move(names[2], "moved")
        group[names[0]].attrs.modify("stype", "other.\u00e9")
        group[names[0]].attrs["new"] = "value"
        del group[names[0]].attrs["dtype"]
        group["moved"].attrs["many"] = "x" * 5000
    with h5py.File(path) as file:
        group = file["arrays/model"]
        assert len(group) == n
        assert set(group) == {*names, "added", "moved"} - {names[1], names[2]}
        assert dict(group[names[0]].attrs).keys() == {"stype", "shape", "new"}
        assert group[names[0]].attrs["stype"] == "other.\u00e9"
        assert group["moved"].attrs["many"] == "x" * 5000
        assert group["added"][()].tolist() == [0, 1, 2, 3, 4]
        for i in {0, *range(3, n)}:
            assert (group[names[i]][()] == arrays[i]).all()
            assert group[names[i]].attrs["stype"] == ("other.\u00e9" if i == 0 else "numpy.ndarray")
    tool("h5dump", "-H", path)


def test_one_of_two_hard_links_can_go(tmp_path: Path) -> None:
    arrays, names = arrays_of(12)
    path = write_arrays(tmp_path / "a.h5", arrays, [*names, "tied"], rows=[*range(12), 0])
    with h5py.File(path, "r+") as file:
        group = file["arrays/model"]
        assert group["tied"] == group[names[0]]
        assert h5py.h5o.get_info(group["tied"].id).rc == 2
        del group[names[0]]
        group["filler"] = np.full(4000, 7)
    with h5py.File(path) as file:
        assert (file["arrays/model/tied"][()] == arrays[0]).all()
        assert file["arrays/model/tied"].attrs["stype"] == "numpy.ndarray"
        assert h5py.h5o.get_info(file["arrays/model/tied"].id).rc == 1


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    arrays, names = arrays_of(50)
    paths = [write_arrays(tmp_path / name, arrays, names) for name in ("a", "b")]
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in paths}) == 1


def test_many_groups(tmp_path: Path, tool: Callable[..., str]) -> None:
    children = [(b"g%d" % i, Group((number("n", np.int64(i)), text("s", str(i))))) for i in range(2000)]
    path = write_file(tmp_path / "a.h5", Group(links=((b"metrics", Group(links=children)),)), NO_DATASETS)
    with h5py.File(path) as file:
        assert list(file["metrics"]) == [f"g{i}" for i in range(2000)]
        assert all(
            group.attrs["n"] == i and group.attrs["s"] == str(i)
            for i, group in enumerate(file["metrics"].values())
        )
    assert tool("h5ls", "-r", path).count("Group") == 2002


def test_empty_index(tmp_path: Path) -> None:
    with h5py.File(write_file(tmp_path / "a.h5", Group(), NO_DATASETS, index=b"")) as file:
        assert file["index"].shape == (0,)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
            lambda name: name != "."
        ),
        unique=True,
        max_size=40,
    )
)
def test_any_names(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    arrays = [np.array(i) for i in range(len(names))]
    with h5py.File(write_arrays(tmp_path_factory.mktemp("names") / "a.h5", arrays, names)) as file:
        assert list(file["arrays/model"]) == names
        assert [file["arrays/model"][name][()] for name in names] == list(range(len(names)))


def tiny(n: int) -> Datasets:
    classes = [array_class(np.dtype("<f4"), (2,)), array_class(np.dtype("<f8"), ())]
    return Datasets(classes, np.arange(n) % 2, np.full(n, 4096, np.uint64), np.full(n, 8, np.uint64))


def check_huge(path: Path, n: int, step: int) -> None:
    names = [b"layers.%d" % i for i in range(n)]
    links = [DatasetLinks(names, np.arange(n))]
    write_file(path, Group(links=((b"m", Group(datasets=0)),)), tiny(n), bytes(8), links=links)
    with h5py.File(path, "r+") as file:
        group = file["m"]
        assert len(group) == n
        listed: list[bytes] = []
        group.id.links.iterate(listed.append, idx_type=h5py.h5.INDEX_CRT_ORDER)
        assert listed == names
        for i in {*range(0, n, step), *range(n - 3, n)}:
            assert group[names[i]].attrs["dtype"] == ("float64" if i % 2 else "float32")
        del group[names[5]]
        if ADDS_AFTER_DELETING or n < 65_536:
            group["added"] = 1
    with h5py.File(path) as file:
        assert names[5] not in file["m"]
        if ADDS_AFTER_DELETING or n < 65_536:
            assert len(file["m"]) == n
            assert file["m/added"][()] == 1
        assert file["m"][names[-1]].attrs["stype"] == "numpy.ndarray"


@pytest.mark.parametrize("n", HUGE)
def test_two_levels_of_tree(tmp_path: Path, n: int) -> None:
    check_huge(tmp_path / "a.h5", n, n // 500)


@pytest.mark.slow
def test_a_million_datasets(tmp_path: Path) -> None:
    check_huge(tmp_path / "a.h5", 1_000_000, 5_000)


@pytest.mark.slow
def test_tools_on_seventy_thousand(tmp_path: Path, tool: Callable[..., str]) -> None:
    check_huge(tmp_path / "a.h5", 70_000, 500)
    assert tool("h5ls", tmp_path / "a.h5/m").count("Dataset") == 70_000


def test_refuses_what_does_not_fit() -> None:
    def encode(root: Group, start: int = 4096, links: tuple[DatasetLinks, ...] = ()) -> None:
        encode_metadata(root, encode_all_datasets(tiny(1), links, start=start), index_bytes=0)

    with pytest.raises(ValueError, match="multiple of 64"):
        encode(Group(), start=100)
    with pytest.raises(ValueError, match="65,535"):
        encode(Group((number("x", np.zeros(9000)),)))
    with pytest.raises(ValueError, match="strings for"):
        encode(Group((text("x", "a", "b"),)))
    with pytest.raises(ValueError, match="link names for"):
        encode(Group(), links=(DatasetLinks([b"a"], np.array([0, 0])),))
    with pytest.raises(ValueError, match="attribute name"):
        encode(Group((text("", "a"),)))
