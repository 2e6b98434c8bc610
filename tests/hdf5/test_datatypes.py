"""Every datatype against what h5py reads back and what libhdf5 calls equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from archive.hdf5.datatypes import BFLOAT16, encode_datatype, opaque, utf8_fixed
from tests.hdf5.files import write_arrays

NUMBERS = [
    order + kind
    for order in "<>"
    for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
]
PADDED = np.dtype({"names": ["b", "a"], "formats": ["<f8", "i1"], "offsets": [8, 1], "itemsize": 24})
STRUCTURED = [
    np.dtype([("a", "<i4"), ("b\u00e9", "<f8", (2, 3)), ("c", [("x", "?"), ("y", "<c8")])]),
    np.dtype([("a", "i1"), ("b", ">f8"), ("s", "S3")], align=True),
    np.dtype([("large", "u1", (300,)), ("last", "<u2")]),
]


def filled(dtype: np.dtype[Any], n: int = 7) -> np.ndarray[Any, Any]:
    """Return values that use all bytes but no padding."""
    if dtype.kind in "iufc":
        return (np.arange(n) * 3 - 5).astype(dtype)
    if dtype.kind == "b":
        return np.arange(n) % 2 == 0
    array = np.zeros(n, dtype)
    if dtype.fields is None:
        raw = np.arange(1, array.nbytes + 1, dtype=np.uint8)
        return raw.view(dtype)
    for name in dtype.names or ():
        field = array[name]
        field[...] = (
            (np.arange(field.size) % 50 + 1).reshape(field.shape) if field.dtype.fields is None else field
        )
    return array


@pytest.mark.parametrize("name", [*NUMBERS, "i1", "u1", "?", "<f16", "<c32", "S1", "S5", "V1", "V9"])
def test_reads_back_through_h5py(tmp_path: Path, name: str) -> None:
    dtype = np.dtype(name)
    array = filled(dtype)
    path = write_arrays(
        tmp_path / "a.h5", [array, array[:1].reshape(()), array[:0]], ["many", "scalar", "empty"]
    )
    with h5py.File(path) as file:
        for key, expected in (("many", array), ("scalar", array[:1].reshape(())), ("empty", array[:0])):
            dataset = file["arrays/model"][key]
            assert dataset.dtype == dtype
            assert dataset.shape == expected.shape
            assert np.asarray(dataset[()]).tobytes() == expected.tobytes() or (dataset[()] == expected).all()
        ours = file["arrays/model/many"].id.get_type()
        assert ours.equal(h5py.h5t.py_create(dtype, logical=True))


@pytest.mark.parametrize("dtype", STRUCTURED)
def test_structured(tmp_path: Path, dtype: np.dtype[Any], tool: Callable[..., str]) -> None:
    array = filled(dtype)
    path = write_arrays(tmp_path / "a.h5", [array], ["x"])
    with h5py.File(path) as file:
        dataset = file["arrays/model/x"]
        assert dataset.dtype == dtype
        assert dataset.dtype.itemsize == dtype.itemsize
        assert (dataset[()] == array).all()
        assert dataset.id.get_type().equal(h5py.h5t.py_create(dtype, logical=True))
    assert "H5T_COMPOUND" in tool("h5dump", path)


def test_padding_and_order_of_fields_are_kept(tmp_path: Path) -> None:
    array = np.zeros(3, PADDED)
    array["a"], array["b"] = [1, 2, 3], [0.5, 1.5, 2.5]
    with h5py.File(write_arrays(tmp_path / "a.h5", [array], ["x"])) as file:
        read = file["arrays/model/x"][()]
    assert read.dtype.itemsize == 24
    assert read.dtype.fields["b"][1] == 8
    assert read["a"].tolist() == [1, 2, 3]
    assert read["b"].tolist() == [0.5, 1.5, 2.5]


def test_bfloat16_has_its_true_values(tmp_path: Path, tool: Callable[..., str]) -> None:
    codes = np.arange(1 << 16, dtype=np.uint16)
    array = codes.view(ml_dtypes.bfloat16)
    assert encode_datatype(array.dtype) == BFLOAT16
    path = write_arrays(tmp_path / "a.h5", [array], ["x"])
    with h5py.File(path) as file:
        dataset = file["arrays/model/x"]
        finite = np.isfinite(array.astype(np.float32))
        read = dataset[()]
        assert read.dtype == np.float32
        assert (read[finite] == array.astype(np.float32)[finite]).all()
        assert (np.isnan(read) == np.isnan(array.astype(np.float32))).all()
    one = write_arrays(tmp_path / "b.h5", [np.array([1.5], ml_dtypes.bfloat16)], ["x"])
    assert "(0): 1.5" in tool("h5dump", "-d", "/arrays/model/x", one)


def test_fixed_text(tmp_path: Path) -> None:
    raw = np.array(["a\u00e9".encode(), b""], "S6")
    with h5py.File(write_arrays(tmp_path / "a.h5", [raw], ["x"], datatype=utf8_fixed(6))) as file:
        dataset = file["arrays/model/x"]
        assert tuple(h5py.check_string_dtype(dataset.dtype)) == ("utf-8", 6)
        assert dataset.asstr()[()].tolist() == ["a\u00e9", ""]
        assert dataset.id.get_type().equal(h5py.h5t.py_create(h5py.string_dtype("utf-8", 6), logical=True))


def test_opaque_keeps_its_size_and_has_no_tag(tmp_path: Path, tool: Callable[..., str]) -> None:
    raw = np.frombuffer(b"abcdef", "V3")
    path = write_arrays(tmp_path / "a.h5", [raw], ["x"], datatype=opaque(3))
    with h5py.File(path) as file:
        dataset = file["arrays/model/x"]
        read = np.empty(2, "V3")
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, read, mtype=dataset.id.get_type())
        assert read.tobytes() == b"abcdef"
        assert dataset.id.get_type().get_tag() == b""
    tool("h5dump", path)


@pytest.mark.parametrize(
    "dtype",
    [
        "O",
        "U3",
        "<M8[ns]",
        "<m8[s]",
        "S0",
        "V0",
        ">f16",
        "float8_e4m3fn",
        "float8_e5m2",
        "int4",
        [("a", "O")],
        [("a", "U2")],
        [],
    ],
)
def test_refuses_what_h5py_cannot_show(dtype: Any) -> None:
    kind = (
        np.dtype(getattr(ml_dtypes, dtype))
        if isinstance(dtype, str) and hasattr(ml_dtypes, dtype)
        else np.dtype(dtype)
    )
    with pytest.raises(TypeError):
        encode_datatype(kind)


def test_refuses_overlapping_fields() -> None:
    union = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<f4"], "offsets": [0, 0]})
    with pytest.raises(TypeError, match="overlaps"):
        encode_datatype(union)
