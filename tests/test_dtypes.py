"""Element types and .npy headers, byte for byte those of np.save."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.dtypes import ML_DTYPES, dtype_name, is_ml_dtype, npy_dtype, npy_header, parse_dtype, split_npy
from archive.errors import UnsupportedDtypeError

DTYPES = hnp.scalar_dtypes() | hnp.array_dtypes(
    subtype_strategy=hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2), max_size=3
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
LONG = [
    np.dtype([("x" * 30_000, "<f4"), ("y" * 35_000, "<i2")]),
    np.dtype([("\u00e9" * 500, "<f4")]),
    np.dtype([("\u4e2d", "<f4"), ("b", "u1", (2, 3))]),
    np.dtype([("\u4e2d" * 25_000, "<f4")]),
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


@given(DTYPES, SHAPES, st.booleans())
def test_headers_are_np_saves(dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool) -> None:
    array = np.zeros(shape, dtype, order="F" if fortran else "C")
    whole = saved(array)
    header = header_of(array)
    assert whole.startswith(header)
    assert len(whole) - len(header) == array.nbytes
    layout = split_npy(whole)
    assert (layout.dtype, layout.shape, layout.header_bytes) == (array.dtype, shape, len(header))


@pytest.mark.parametrize("dtype", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize("shape", [(), (2,), (0, 3)])
def test_long_and_unicode_field_names(dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    whole, header = saved(array), header_of(array)
    assert whole[: len(header)] == header
    assert header[6] == (
        3 if not str(dtype).isascii() and "\u4e2d" in str(dtype) else 2 if len(header) > 65535 else 1
    )
    assert split_npy(whole).dtype == dtype


@pytest.mark.parametrize("digits", range(1, 19))
def test_padding_for_every_length_of_the_growing_axis(digits: int) -> None:
    array = np.lib.stride_tricks.as_strided(np.zeros(1, "V0"), (10 ** (digits - 1), 1), (0, 0))
    buffer = io.BytesIO()
    fields = {"descr": "|V0", "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    assert npy_header(np.dtype("V0"), array.shape) == buffer.getvalue()


@pytest.mark.parametrize("name", sorted(name for name in ML_DTYPES if hasattr(ml_dtypes, name)))
def test_ml_types_travel_as_void(name: str) -> None:
    dtype = parse_dtype(name)
    assert is_ml_dtype(dtype)
    assert dtype_name(dtype) == name
    array = np.zeros(3, dtype)
    assert npy_dtype(dtype) == np.dtype(f"V{dtype.itemsize}")
    data = npy_header(dtype, (3,)) + array.tobytes()
    assert np.load(io.BytesIO(data)).dtype == npy_dtype(dtype)
    assert split_npy(data).shape == (3,)


@given(DTYPES)
def test_names_come_back(dtype: np.dtype[Any]) -> None:
    assert parse_dtype(dtype_name(dtype)) == dtype


NO_TYPES = [
    *("", "float17", "O", "object", "|O", "[('a', 'O')]", "('<f4'", "[", "{", "[1]", "{'names': 1}"),
    *("[('a', '<f4')" * 100, "[" * 5000, "__import__('os')", "[__import__('os')]", "T", "S" + "9" * 11),
    *("[('a', '<f4'), ('a', '<f4')]", "x" * (1 << 20), "\ud800", "[('a', 'M8[xx]')]", "(2147483648,)f8"),
    # numpy divides by the multiple: these kill the process
    *("M8[0ns]", "<M8[+0s]", "m8[ 0s]", "M8[s/0]", "datetime64[7s/0]", "M8[s/4294967296]", "M8[-1s]"),
    *("f4,M8[s/0]", "[('a', 'M8[s/0]')]", "[('a', [('b', '<m8[0s]', (2,))])]", "('M8[s/0]', (2,))"),
    *("{'names': ['a'], 'formats': ['M8[s/0]']}", "{'a': ('M8[0s]', 0)}"),
    # numpy 1 reads these modulo 2**32, or as less than nothing
    *("S4294967297", "U536870912", "<U1073741825", "V2147483648", "i4294967300", "f4,V4294967300"),
    *("|S-5", "V-1", "<U-1", "('V4294967300', (2,))", "[('a', '<f4'), ('b', '|V4294967300')]"),
]


@pytest.mark.parametrize("text", NO_TYPES, ids=range(len(NO_TYPES)))
def test_what_names_no_type(text: str) -> None:
    with pytest.raises(UnsupportedDtypeError):
        parse_dtype(text)


CHAINS = ["1+" * 60_000 + "1", "a" + ".a" * 60_000, "a" + "()" * 60_000, "a" + "[0]" * 40_000]


@pytest.mark.parametrize("chain", CHAINS, ids=["sum", "attributes", "calls", "subscripts"])
def test_a_small_stack_is_enough_for_a_long_text(chain: str) -> None:
    """In Python 3.10 the parser nests as deep as the operators are many."""
    program = (
        "import sys, threading; from archive.dtypes import *; from archive.errors import *\n"
        "def parse():\n"
        "    try: parse_dtype(sys.stdin.read())\n"
        "    except UnsupportedDtypeError: print('refused')\n"
        "threading.stack_size(256 << 10)\n"
        "thread = threading.Thread(target=parse); thread.start(); thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=f"[{chain}]", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


ODD_NAMES = ["a.b-c", "f(x)[0]", "#", "'", '"', "\\", "f'", "\\'[", "\n'", "a\tb", "\u00e9", "x" * 300]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_names_of_members_may_be_anything(name: str) -> None:
    dtype = np.dtype([(name, "<f4"), ("b", "<i4", (2,))])
    assert parse_dtype(dtype_name(dtype)) == dtype
    assert split_npy(saved(np.zeros(3, dtype))).dtype == dtype


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
