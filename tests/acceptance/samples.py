"""Arrays of every sort, and what it means for two to be the same."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from archive.format.elements import NUMPY_MAX_RANK

NDArray = np.ndarray[Any, Any]
CREATED = "2026-01-02T03:04:05Z"

BASE = np.arange(24, dtype="f8").reshape(2, 3, 4)
PADDED = np.zeros(5, np.dtype([("a", "i1"), ("b", "<f8"), ("c", "S3")], align=True))
PADDED["b"] = np.arange(5)
NUMBERS = [order + code for order in "<>" for code in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")]
ML = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "float4_e2m1fn", "float8_e8m0fnu"]

ARRAYS: dict[str, NDArray] = {
    **{
        name: np.arange(7).astype(name) for name in [*NUMBERS, "i1", "u1", "?", "<c8", ">c16", "<f16", "<c32"]
    },
    **{name: np.arange(7).astype(getattr(ml_dtypes, name)) for name in ML if hasattr(ml_dtypes, name)},
    "nan payloads": np.array([0x7FF8000000000001, 0xFFF8000000000002, 0x7FF0000000000003], "<u8").view("<f8"),
    "times": np.array(["2026-01-01", "NaT"], "M8[ns]"),
    "spans": np.array([1, -5], ">m8[25s]"),
    "generic span": np.array([3]).view("m8"),
    "bytes": np.array([b"a", b"bcd\0\0", b""], "S7"),
    "void": np.frombuffer(b"\0\1\2\3\4\5", "V3"),
    "text": np.array(["a", "\u00e9\u4e2d\U0001f600", ""]),
    "big-endian text": np.array([["ab", "c"]], ">U2"),
    "text with NUL": np.array(["a\0b", "c"]),
    "text with surrogates": np.array(["\ud800x"]),
    "wide text": np.array(["a", "b"], "U2000"),
    "scalar text": np.array("word"),
    "fortran text": np.asfortranarray(np.array([["a", "bb"], ["ccc", ""]])),
    "structured": np.array([(1, [1.5, 2.5])], [("a", ">i4"), ("b\u00e9", "<f4", (2,))]),
    "nested": np.zeros((2, 2), [("p", [("x", "?"), ("y", "<c8")]), ("q", "M8[us]")]),
    "padded": PADDED,
    "titled": np.zeros(2, np.dtype([(("title", "a"), "<f4")])),
    "scalar": np.array(5, "i8"),
    "scalar structured": np.array((1, 2.0), [("a", "i4"), ("b", "f8")]),
    "empty": np.empty((0, 3), "f4"),
    "empty inside": np.empty((3, 0, 2), ">i8"),
    "zero-width bytes": np.zeros(3, [("a", "S0"), ("b", "i4")])["a"],
    "zero-width void": np.zeros((2, 3), "V0"),
    "fortran": np.asfortranarray(BASE),
    "permuted": BASE.transpose(1, 0, 2),
    "negative strides": BASE[::-1, :, ::-2],
    "broadcast": np.broadcast_to(np.array([1.0, 2.0], "f4"), (3, 2)),
    "every other": np.arange(20)[1::2],
    "misaligned": np.frombuffer(b"\0" + np.arange(3, dtype="f8").tobytes(), "f8", 3, 1),
    **{
        f"{axes} axes": np.arange(4).reshape((1,) * (axes - 2) + (2, 2))
        for axes in (32, 33, 64)
        if axes <= NUMPY_MAX_RANK
    },
    "32 axes of text": np.array(["ab", "c"]).reshape((1,) * 31 + (2,)),
    "one page": np.arange(16384, dtype="f4"),
}


def same(found: NDArray, expected: NDArray) -> bool:
    """Tell whether two arrays have one dtype, one shape and the same element bytes."""
    if found.dtype != expected.dtype or found.dtype.str != expected.dtype.str:
        return False
    return found.shape == expected.shape and raw(found) == raw(expected)


def raw(array: NDArray) -> bytes:
    """Return all element bytes in C order, padding of structured elements included."""
    if array.dtype.names and array.dtype.itemsize:
        array = array.view(f"V{array.dtype.itemsize}")
    return array.tobytes()
