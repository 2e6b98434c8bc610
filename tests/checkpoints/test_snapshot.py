"""Copies of records: equal to what was given, tied where it was tied, and untouched by later changes."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import archive
from archive.checkpoints.snapshot import take_snapshot
from archive.errors import ClosedError
from tests.descriptors import open_files

DATA = np.arange(4.0).tobytes()


def flower_array(dtype: str, shape: tuple[int, ...], data: object = DATA) -> SimpleNamespace:
    return SimpleNamespace(dtype=dtype, shape=shape, stype="raw", data=data)


def copied(arrays: dict[str, Any]) -> archive.ArrayRecord:
    """Return the record of arrays that a snapshot makes of them."""
    copies = take_snapshot(arrays)
    assert not isinstance(copies, archive.Context)
    return copies.array_records["model"]


def test_flower_arrays_over_the_same_bytes_keep_dtype_and_shape() -> None:
    kinds = {"a": ("float64", (4,)), "b": ("float64", (2, 2)), "c": ("float32", (8,)), "d": ("float64", (4,))}
    copies = copied({key: flower_array(*kind) for key, kind in kinds.items()})
    assert {key: (array.dtype, array.shape) for key, array in copies.items()} == kinds
    assert all(array.data is DATA for array in copies.values())


def test_a_buffer_of_a_flower_array_is_copied() -> None:
    data = bytearray(DATA)
    copies = copied({"a": flower_array("float64", (4,), memoryview(data))})
    data[:] = bytes(len(data))
    assert copies["a"].data == DATA


@pytest.mark.parametrize("kind", ["ndarray", "tensor", "Array"])
def test_tied_arrays_stay_tied(kind: str, tmp_path: object) -> None:
    array: object = np.ones(1000, "f4")
    if kind == "tensor":
        array = pytest.importorskip("torch").ones(1000)
    elif kind == "Array":
        array = archive.Array(np.ones(1000, "f4"))
    report = archive.save(take_snapshot({"a": array, "b": array}), f"{tmp_path}/a.h5")
    assert report.array_bytes < 2 * 4000


def test_views_of_one_tensor_are_copied_one_by_one() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.int32)
    copies = copied({"a": tensor, "b": tensor[:3], "c": tensor.view(torch.float32), "d": tensor.view(2, 3)})
    tensor[:] = 7
    for key, shape in (("a", (6,)), ("b", (3,)), ("c", (6,)), ("d", (2, 3))):
        assert copies[key].shape == shape
    assert copies["a"].numpy().tolist() == list(range(6))
    assert copies["c"].dtype == "float32"


@pytest.mark.parametrize("how", ["mmap", "pread", "remote", "cache", "foreign"])
def test_what_is_in_an_open_archive_outlives_its_handle(tmp_path: Path, how: str) -> None:
    """A round that is saved in the background is whole although the archive was closed meanwhile."""
    url = f"memory://{uuid.uuid4().hex}.h5" if how in ("remote", "cache") else str(tmp_path / "old.h5")
    kinds: dict[str, dict[str, Any]] = {
        "mmap": {"access": "mmap"},
        "pread": {"access": "pread"},
        "remote": {},
        "cache": {"cache": str(tmp_path / "cache")},
        "foreign": {"foreign": True},
    }
    if how == "foreign":
        h5py = pytest.importorskip("h5py")
        with h5py.File(url, "w") as file:
            file["model/w"] = np.arange(100_000.0)
            file.create_dataset("model/z", data=np.arange(5000.0), compression="gzip")
    else:
        w = np.arange(100_000.0)
        archive.save({"w": w, "tied": w, "z": np.arange(5000.0)}, url)
    store = archive.CheckpointStore(tmp_path / "run")
    with archive.open(url, **kinds[how]) as old:
        copies = take_snapshot(old.records)
        store.save(old.records, 1, background=True)
    store.close()
    report = archive.save(copies, tmp_path / "new.h5")
    assert report.array_bytes < 2 * 800_000
    for saved in (archive.open(tmp_path / "new.h5"), store.open(1)):
        assert saved["z"].numpy().tolist() == list(range(5000))
        assert saved["w"].numpy()[-1] == 99_999
    with pytest.raises(ClosedError):
        take_snapshot(old.records)


@pytest.mark.needs("/proc/self/fd")
def test_a_snapshot_lets_go_of_the_file(tmp_path: Path) -> None:
    archive.save({"w": np.zeros(10)}, tmp_path / "old.h5")
    with archive.open(tmp_path / "old.h5", access="pread") as old:
        copies = take_snapshot(old.records)
    assert len(open_files(tmp_path)) == 1
    del copies
    assert open_files(tmp_path) == []
