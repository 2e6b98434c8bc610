"""Headers of .npy files: those of np.save, byte for byte, but for odd names of members."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.npy import NPY_BEGINNING_BYTES, npy_header, split_npy

DTYPES = hnp.scalar_dtypes() | hnp.array_dtypes(
    subtype_strategy=hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2), max_size=3
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
LONG = [
    np.dtype([("x" * 30_000, "<f4"), ("y" * 35_000, "<i2")]),
    np.dtype([("\u00e9" * 500, "<f4")]),
    np.dtype([("\u4e2d", "<f4"), ("b", "u1", (2, 3))]),
    np.dtype([("\u4e2d" * 15_000, "<f4")]),
]


def saved(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # numpy: format versions 2 and 3 are not for old readers
        np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def header_of(array: np.ndarray[Any, Any]) -> bytes:
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return npy_header(array.dtype, array.shape, bool(fortran))


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Return whether numpy spells the names of all members as the format does."""
    if dtype.names is None:
        return True
    names = "".join(dtype.names)
    return re.fullmatch(r"[ !#-&(-\[\]-~]*", names) is not None and all(
        is_plain(dtype[name].base) for name in dtype.names
    )


@given(DTYPES, SHAPES, st.booleans())
def test_headers_are_np_saves(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> None:
    array = np.zeros(shape, dtype, order="F" if fortran else "C")
    whole, header = saved(array), header_of(array)
    if is_plain(dtype):
        assert whole.startswith(header)
        assert len(whole) - len(header) == array.nbytes
    for data in (whole, header + bytes(array.nbytes)):
        layout = split_npy(data)
        assert (layout.dtype, layout.shape) == (array.dtype, shape)
        assert layout.header_bytes == len(data) - array.nbytes
        assert np.load(io.BytesIO(data)).dtype == array.dtype


@pytest.mark.parametrize("dtype", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("shape", [(), (2,), (0, 3)])
def test_long_and_odd_names_of_members(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    header = header_of(array)
    assert header[12:].isascii()
    assert header[6] == (2 if len(header) > 65535 else 1)
    assert split_npy(header + bytes(array.nbytes)).dtype == dtype
    if is_plain(dtype):
        assert saved(array).startswith(header)


@pytest.mark.parametrize("digits", range(1, 19))
def test_padding_for_every_length_of_the_growing_axis(digits: int) -> None:
    array = np.lib.stride_tricks.as_strided(np.zeros(1, "V0"), (10 ** (digits - 1), 1), (0, 0))
    buffer = io.BytesIO()
    fields = {"descr": "|V0", "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    assert npy_header(np.dtype("V0"), array.shape) == buffer.getvalue()


ODD_NAMES = ["a.b-c", "f(x)[0]", "#", "'", '"', "\\", "f'", "\\'[", "\n'", "a\tb", "\u00e9", "x" * 300]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_members_may_have_any_name(name: str) -> None:
    dtype = np.dtype([(name, "<f4"), ("b", "<i4", (2,))])
    array = np.zeros(3, dtype)
    assert split_npy(saved(array)).dtype == dtype
    assert np.load(io.BytesIO(header_of(array) + array.tobytes())).dtype == dtype


def canary() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


GOOD = saved(np.arange(6, dtype="<i4").reshape(2, 3))


def headed(text: str) -> bytes:
    body = text.encode()
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


NO_NPY = [
    b"",
    GOOD[:-1],
    GOOD + b"\0",
    GOOD[:11],
    GOOD[1:],
    GOOD[:6] + b"\4" + GOOD[7:],
    canary(),
    pickle.dumps([1]),
    b"PK\3\4" + bytes(100),
    headed("{'descr': '<i4', 'fortran_order': False, 'shape': (-1,), }"),
    headed("{'descr': '<i4', 'fortran_order': False, 'shape': (True,), }") + bytes(4),
    headed("{'descr': '<i4', 'fortran_order': False, 'shape': [1], }") + bytes(4),
    headed("{'descr': '<i4', 'fortran_order': 0, 'shape': (1,), }") + bytes(4),
    headed("{'descr': '<i4', 'fortran_order': False, 'shape': (1,), 'x': 1}") + bytes(4),
    headed("{'descr': '<i4', 'shape': (1,), }") + bytes(4),
    headed("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + bytes(8),
    headed("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,), }") + bytes(8),
    headed("{'descr': '<i4', 'fortran_order': False, 'shape': (9223372036854775807, 4), }"),
    headed("[" * 5000),
    headed("1"),
    headed("['descr']"),
    headed("__import__('os').getcwd()"),
    b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + bytes(64),
]


@pytest.mark.parametrize("data", NO_NPY, ids=range(len(NO_NPY)))
def test_what_is_not_exactly_one_npy(data: bytes) -> None:
    with pytest.raises(ValueError, match="npy"):
        split_npy(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_flipped_byte_never_raises_anything_but_value_error(at: int, flip: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= flip
    try:
        layout = split_npy(bytes(data))
    except ValueError:
        return
    assert layout.header_bytes + np.prod(layout.shape, dtype=int) * layout.dtype.itemsize == len(data)


def test_a_header_is_read_from_the_beginning_alone() -> None:
    data = saved(np.arange(100_000.0))
    layout = split_npy(data[:NPY_BEGINNING_BYTES], nbytes=len(data))
    assert (layout.shape, layout.header_bytes) == ((100_000,), 128)
    for nbytes in (len(data) - 1, len(data) + 1):
        with pytest.raises(ValueError, match="more or fewer bytes"):
            split_npy(data[:NPY_BEGINNING_BYTES], nbytes=nbytes)
