"""A trained model, saved, and read by ourselves and by every tool that reads HDF5."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pyfive
import pytest
import xarray

import archive
from archive.errors import DamagedError, DigestError, NotAnArchiveError

Model = dict[str, Any]


def test_every_array_is_equal_bit_for_bit(minilm: Model, tmp_path: Path, say: Callable[[str], None]) -> None:
    path = tmp_path / "m.h5"
    begun = time.perf_counter()
    report = archive.save(minilm, path, durable=False)
    saved = time.perf_counter() - begun
    begun = time.perf_counter()
    handle = archive.open(path)
    opened = time.perf_counter() - begun
    begun = time.perf_counter()
    with handle:
        assert [key for _, key in handle] == list(minilm)
        for key, expected in minilm.items():
            found = handle[key].numpy()
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.tobytes() == expected.tobytes()
    read = time.perf_counter() - begun
    assert archive.verify(path).ok
    say(
        f"MiniLM: {report.arrays} arrays, {report.array_bytes / 1e6:.1f} MB: saved in {saved * 1e3:.0f} ms, "
        f"opened in {opened * 1e3:.2f} ms, all read and verified in {read * 1e3:.0f} ms"
    )


@pytest.mark.tools
def test_h5ls_lists_true_shapes(minilm: Model, minilm_archive: Path, tool: Callable[..., str]) -> None:
    listed = dict(
        re.findall(
            r"^/arrays/model/(\S+)\s+Dataset \{(.*)\}$", tool("h5ls", "-r", minilm_archive), re.MULTILINE
        )
    )
    shown = {key: ", ".join(map(str, array.shape)) or "SCALAR" for key, array in minilm.items()}
    assert {key: shape.replace("/Inf", "") for key, shape in listed.items()} == shown


@pytest.mark.tools
def test_h5dump_and_h5diff(
    minilm: Model, minilm_archive: Path, tmp_path: Path, tool: Callable[..., str]
) -> None:
    key = "embeddings.LayerNorm.bias"
    dumped = tool("h5dump", "-y", "-w", "1", "-m", "%.9g", "-d", f"/arrays/model/{key}", minilm_archive)
    block = dumped[dumped.index("DATA {") : dumped.index("ATTRIBUTE")]
    numbers = np.array(re.findall(r"-?\d[\d.e+-]*", block), "f4")
    assert np.array_equal(numbers, minilm[key])
    assert "H5T_C_S1" in dumped
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, array in minilm.items():
            file[f"arrays/model/{name}"] = array
            attributes = {
                "stype": "numpy.ndarray",
                "dtype": str(array.dtype),
                "shape": np.array(array.shape, "i8"),
            }
            file[f"arrays/model/{name}"].attrs.update(attributes)
    tool("h5diff", minilm_archive, tmp_path / "plain.h5", "/arrays/model", "/arrays/model")


def test_h5py(minilm: Model, minilm_archive: Path) -> None:
    with h5py.File(minilm_archive) as file:
        group = file["arrays/model"]
        assert list(group) == list(minilm), "in saved order"
        for key, expected in minilm.items():
            dataset = group[key]
            assert dataset.dtype == expected.dtype
            assert dataset.shape == expected.shape
            assert np.array_equal(dataset[()], expected)
            assert type(dataset.attrs["stype"]) is str
            assert dataset.attrs["stype"] == "numpy.ndarray"
            assert dataset.attrs["dtype"] == str(expected.dtype)
            assert tuple(dataset.attrs["shape"]) == expected.shape
        assert file["metrics/metrics"].attrs["loss"] == 0.5
        assert type(file.attrs["created"]) is str


def test_netcdf4_pyfive_and_xarray(minilm: Model, minilm_archive: Path) -> None:
    with netCDF4.Dataset(minilm_archive) as file:
        variables = file["arrays/model"].variables
        assert set(variables) == set(minilm)
        assert all(np.array_equal(variables[key][...], array) for key, array in minilm.items())
    with pyfive.File(minilm_archive) as file:
        assert all(np.array_equal(file[f"arrays/model/{key}"][()], array) for key, array in minilm.items())


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray(minilm: Model, minilm_archive: Path, engine: Any) -> None:
    options: Any = {"phony_dims": "sort"} if engine == "h5netcdf" else {}
    with xarray.open_dataset(minilm_archive, group="arrays/model", engine=engine, **options) as found:
        assert set(found.data_vars) == set(minilm)
        for key, array in minilm.items():
            assert np.array_equal(found[key].values, array)


@pytest.mark.tools
@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-f", "GZIP=1")], ids=["plain", "gzip"])
def test_h5repack_then_foreign_then_reindex(
    minilm: Model, minilm_archive: Path, tmp_path: Path, tool: Callable[..., str], options: tuple[str, ...]
) -> None:
    packed = tmp_path / "packed.h5"
    tool("h5repack", *options, minilm_archive, packed)
    with pytest.raises(NotAnArchiveError, match="foreign=True"):
        archive.open(packed)
    original = archive.load(minilm_archive)
    with archive.open(packed, foreign=True) as handle:
        assert handle.records == original
        assert not handle.verify().ok, "nothing in it has a digest"
    archive.reindex(packed)
    assert archive.verify(packed).ok
    assert archive.load(packed) == original


def test_an_edited_value_is_a_digest_error_that_names_the_array(
    minilm: Model, minilm_archive: Path, tmp_path: Path
) -> None:
    path = tmp_path / "edited.h5"
    shutil.copy(minilm_archive, path)
    key = "encoder.layer.3.attention.self.query.weight"
    with h5py.File(path, "r+") as file:
        file[f"arrays/model/{key}"][5, 7] += 1
    with archive.open(path) as handle:
        with pytest.raises(DigestError, match=f"model/{key}".replace(".", r"\.")):
            handle[key].numpy()
        other = "encoder.layer.3.attention.self.key.weight"
        assert np.array_equal(handle[other].numpy(), minilm[other])
    (failure,) = archive.verify(path).failures
    assert (failure.record, failure.key) == ("model", key)
    with pytest.raises(DigestError):
        archive.load(path)


def test_an_attribute_added_by_h5py_is_told_from_damage(minilm_archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "edited.h5"
    shutil.copy(minilm_archive, path)
    with h5py.File(path, "r+") as file:
        file["arrays/model"].attrs["note"] = "mine"
    with pytest.raises((DamagedError, NotAnArchiveError), match="foreign=True"):
        archive.open(path)
