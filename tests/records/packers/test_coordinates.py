"""binsparse's own reader takes the sparse records of an archive: an independent check."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.packers import SparseCooParameterPacker

binsparse = pytest.importorskip("binsparse")

PACKER = SparseCooParameterPacker()


def parse(dense: Any, folder: Path) -> Any:
    values, indices, shape = PACKER.extract_coo_info_from_dense(dense)
    packed = PACKER.pack_parameters([values], ([indices], [shape], ["fc.weight"]))
    archive.save(PACKER.to_records(packed), str(folder / "sparse.h5"))
    with h5py.File(folder / "sparse.h5") as file:
        return binsparse.BinsparseTensor.parse(binsparse.HDF5BinsparseContainer(file["arrays/fc.weight"]))


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])
def test_matrices_are_coor(dtype: str, tmp_path: Path) -> None:
    dense = np.random.default_rng(0).integers(0, 2, (7, 300)).astype(dtype)
    tensor = parse(dense, tmp_path)
    assert type(tensor) is binsparse.COORMatrix
    assert tensor.shape == dense.shape
    restored = np.zeros_like(dense)
    restored[tensor.indices_0, tensor.indices_1] = tensor.values
    assert tensor.values.dtype == dense.dtype.newbyteorder("=")
    np.testing.assert_array_equal(restored, dense)


@pytest.mark.parametrize("shape", [(9,), (0,), (2, 3, 4), (4, 3, 3, 3)])
def test_others_are_one_sparse_level(shape: tuple[int, ...], tmp_path: Path) -> None:
    dense = np.random.default_rng(0).integers(0, 2, shape).astype("f4")
    tensor = parse(dense, tmp_path)
    assert type(tensor) is binsparse.CustomTensor
    assert tensor.level.rank == len(shape)
    restored = np.zeros_like(dense)
    restored[tensor.level.indices] = tensor.level.level.values
    np.testing.assert_array_equal(restored, dense)


@pytest.mark.parametrize("dtype", ["f2", "c8"])
def test_types_that_binsparse_lacks_are_not_declared(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="no 'binsparse' attribute"):
        parse(np.ones((2, 2), dtype), tmp_path)


def test_another_order_is_not_declared() -> None:
    for indices in ([[1, 1], [0, 0]], [[0, 0], [0, 0]], [[0, 1], [0, 0]]):
        packed = [np.ones(2), np.array(indices), np.array([2, 2]), np.array(["a"])]
        assert "binsparse" not in PACKER.to_records(packed).array_records["a"].attributes
