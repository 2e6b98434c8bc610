"""What an archive holds and the installed numpy or ml_dtypes does not: refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.dtypes import ML_DTYPES
from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.format.elements import NUMPY_MAX_RANK
from archive.types import Mode
from tests.crafting import Crafted
from tests.trees import with_tree_of_index

AXES = (1,) * 40 + (2, 2)
"""More than the 32 of numpy 1."""


def write_axes(path: Path) -> Path:
    """Write arrays of 42 axes, whatever numpy is here."""
    arrays = {
        "plain": np.arange(3.0),
        "numbers": np.arange(4).reshape(2, 2),
        "text": np.array([["a", "bc"], ["", "é"]]),
        "turned": np.asfortranarray(np.arange(4).reshape(2, 2)),
        "empty": np.empty((2, 0)),
    }
    archive.save(arrays, path)
    crafted = Crafted(path)
    for key in ("numbers", "text", "turned"):
        crafted.reshape("model", key, AXES)
    crafted.reshape("model", "empty", (*AXES[:-1], 0))
    path.write_bytes(with_tree_of_index(crafted.assemble(), path))
    return path


@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize("key", ["numbers", "text", "turned", "empty"])
def test_more_axes_than_numpy_has(tmp_path: Path, mode: Mode, key: str) -> None:
    path = write_axes(tmp_path / "a.h5")
    with archive.open(path, mode=mode) as handle:
        array = handle[key]
        assert len(array.shape) == len(AXES)
        uses: list[Callable[[], object]] = [
            array.numpy,
            lambda: array.numpy(copy=True),
            lambda: array[0],
            lambda: array.data,
            lambda: archive.load(path, keys=[key]),
        ]
        for use in uses:
            if len(AXES) <= NUMPY_MAX_RANK:
                use()
                continue
            with pytest.raises(ValueRangeError, match=f"model/{key}.*42 axes, numpy 1.*numpy>=2") as caught:
                use()
            assert caught.value.path == str(path)


def test_arrays_beside_those_of_many_axes(tmp_path: Path) -> None:
    path = write_axes(tmp_path / "a.h5")
    with archive.open(path) as handle:
        assert handle["plain"].numpy().tolist() == [0, 1, 2]
        archive.save(handle.records, tmp_path / "again.h5")
    assert archive.load(path, keys=["plain"]).array_records["model"]["plain"].shape == (3,)
    assert archive.verify(path)
    assert Crafted(tmp_path / "again.h5").sections["dims"].tolist() == Crafted(path).sections["dims"].tolist()


def test_an_array_of_many_axes_that_is_saved_from_its_bytes(tmp_path: Path) -> None:
    shape = (1,) * 40 + (3,)
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(245) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(24)
    given = archive.Array("int64", shape, "numpy.ndarray", data)
    archive.save(archive.ArrayRecord({"w": given}), tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as handle:
        assert (handle["w"].shape, handle["w"].data) == (shape, data)


@pytest.mark.parametrize("name", sorted(name for name in ML_DTYPES if not hasattr(ml_dtypes, name)) or [""])
def test_a_type_that_needs_a_newer_ml_dtypes(tmp_path: Path, name: str) -> None:
    if not name:
        pytest.skip("this ml_dtypes knows every type")
    path = tmp_path / "a.h5"
    archive.save({"w": np.zeros(3, ml_dtypes.float8_e5m2)}, path)
    crafted = Crafted(path)
    crafted.describe("model", "w", name)
    crafted.write(path)
    for use in (archive.open, archive.load, archive.verify):
        with pytest.raises(UnsupportedDtypeError, match=f"{name}.* needs a newer ml_dtypes") as caught:
            use(path)
        assert caught.value.path == str(path)
