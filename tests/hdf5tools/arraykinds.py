"""Archives of arrays of every element type, shape and payload."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np

import archive
from archive.dtypes import NDArray
from tests.hdf5tools.registry import kind

__all__: list[str] = []


@kind("integers of every size, both byte orders")
def _(path: Path) -> dict[str, NDArray]:
    found = {}
    for name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        ends = np.iinfo(name)
        for order in "<>":
            found[f"{'little' if order == '<' else 'big'} {name}"] = np.array(
                [[ends.min, 0, 1], [2, 3, ends.max]], order + name
            )
    return found


@kind("float32, float64, both byte orders")
def _(path: Path) -> dict[str, NDArray]:
    numbers = [0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, 1e-38, 3e38]
    return {order + name: np.array(numbers, order + name) for name in ("f4", "f8") for order in "<>"}


@kind("float16")
def _(path: Path) -> dict[str, NDArray]:
    return {order: np.array([0.1, -2, 65504, np.inf, np.nan, 6e-8], order + "f2") for order in "<>"}


@kind("bfloat16")
def _(path: Path) -> dict[str, NDArray]:
    return {"w": np.array([[0.1, -2, 1], [3e38, np.inf, np.nan]], ml_dtypes.bfloat16)}


@kind("8-bit floats and other types of ml_dtypes")
def _(path: Path) -> dict[str, NDArray]:
    names = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "int4", "uint4")
    return {name: np.array([1, 0, 2], getattr(ml_dtypes, name)) for name in names}


@kind("long double")
def _(path: Path) -> dict[str, NDArray]:
    return {"w": np.array([0.1, 1, -3], np.longdouble)}


@kind("bool")
def _(path: Path) -> dict[str, NDArray]:
    return {"mask": np.array([[True, False], [False, True]]), "one": np.array(True)}


@kind("complex64, complex128")
def _(path: Path) -> dict[str, NDArray]:
    return {name: np.array([1 + 2j, -0.5j, complex(np.inf, 1)], name) for name in ("<c8", "<c16", ">c16")}


@kind("texts (`U`)")
def _(path: Path) -> dict[str, NDArray]:
    return {"labels": np.array([["cat", "dög"], ["鳥", ""]]), "one": np.array("naïve")}


@kind("texts with NUL, as code points")
def _(path: Path) -> dict[str, NDArray]:
    return {"labels": np.array(["a\0b", "c"])}


@kind("bytes (`S`)")
def _(path: Path) -> dict[str, NDArray]:
    return {"codes": np.array([b"ab", b"c", b""]), "one": np.array(b"xyz")}


@kind("raw bytes (`V`)")
def _(path: Path) -> dict[str, NDArray]:
    return {"blobs": np.array([b"\0\1\2", b"abc"], "V3")}


@kind("structured, nested, with subarrays")
def _(path: Path) -> dict[str, NDArray]:
    inner = np.dtype([("x", "<f4"), ("y", ">i2")])
    kind = np.dtype([("id", "<u4"), ("at", inner), ("box", "<f8", (2, 2)), ("name", "S4"), ("ok", "?")])
    found = np.zeros(3, kind)
    found["id"], found["name"], found["at"]["y"], found["ok"] = [1, 2, 3], [b"a", b"bc", b""], -7, True
    found["box"] = np.arange(12).reshape(3, 2, 2)
    return {"rows": found, "padded": np.zeros(2, np.dtype([("a", "u1"), ("b", "<f8")], align=True))}


@kind("datetimes, durations")
def _(path: Path) -> dict[str, NDArray]:
    return {
        "at": np.array(["2026-01-01", "NaT"], "<M8[s]"),
        "took": np.array([5, -1], "<m8[ms]"),
    }


@kind("Fortran order")
def _(path: Path) -> dict[str, NDArray]:
    return {"w": np.asfortranarray(np.arange(24, dtype="<f4").reshape(2, 3, 4))}


@kind("without axes (0-d)")
def _(path: Path) -> dict[str, NDArray]:
    return {"f4": np.array(1.5, "<f4"), "i8": np.array(-3), "u1": np.array(255, "u1")}


@kind("empty arrays")
def _(path: Path) -> dict[str, NDArray]:
    return {
        "none": np.zeros(0, "<f4"),
        "no rows": np.zeros((0, 3), "<i8"),
        "no columns": np.zeros((2, 0), "u1"),
        "texts": np.zeros(0, "<U3"),
    }


@kind("more than 32 axes, elements of no size")
def _(path: Path) -> archive.ArrayRecord:
    many = np.arange(4, dtype="<f4").tobytes()
    return archive.ArrayRecord(
        {
            "axes": archive.Array("float32", (1,) * 39 + (4,), "raw", many),
            "nothing": archive.Array(np.zeros(2, "V0")),
        }
    )


@kind("payloads of an unknown stype")
def _(path: Path) -> archive.ArrayRecord:
    return archive.ArrayRecord(
        {
            "elements": archive.Array("float32", (2, 3), "other.format", np.arange(6, dtype="<f4").tobytes()),
            "packed": archive.Array("float32", (2, 3), "packed.format", b"\x93\0\1payload"),
            "unknown type": archive.Array("mystery", (2,), "mystery.format", bytes(7)),
            "nothing": archive.Array("float32", (0,), "other.format", b""),
        }
    )


@kind("a large array")
def _(path: Path) -> dict[str, NDArray]:
    return {"embedding": np.arange(100_000, dtype="<f4").reshape(1000, 100)}
