"""Archives that every reader takes, each for the sentences that it proves."""

# Each function is a change that the title of its vector puts into words.
# ruff: noqa: D103, E501

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

import archive
from archive.types import Record
from tests.crafting import Crafted

Change = Callable[[Crafted], None]


def counted(dtype: Any, shape: tuple[int, ...] = (2,)) -> np.ndarray[Any, Any]:
    """Return elements made of counted bytes; bool stays 0 and 1."""
    kind = np.dtype(dtype)
    if not kind.itemsize:
        return np.zeros(shape, kind)
    raw = np.resize(np.arange(1, 252, dtype=np.uint8), math.prod(shape) * kind.itemsize)
    return (raw % 2 if kind.kind == "b" else raw).view(kind).reshape(shape)


def record(**arrays: Any) -> archive.ArrayRecord:
    """Return a record of arrays by name."""
    return archive.ArrayRecord(
        {key: a if isinstance(a, archive.Array) else archive.Array(a) for key, a in arrays.items()}
    )


def npy(header: str, body: bytes, *, version: int = 1) -> bytes:
    """Return a ``.npy`` with a header of one's own."""
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


PLAIN = (
    "?", "i1", "u1", "<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8",
    "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<f16", "<c8", ">c8", "<c16", ">c16", "<c32",
    "S1", "S7", "V3", "<M8[ns]", ">M8[25s]", "<M8[D]", "<m8", ">m8[us]", "V0", "S0", "<U0",
)  # fmt: skip
STRUCTURED: tuple[Any, ...] = (
    [("a", "i1"), ("b", ">f8", (2,))],
    [("a", "?"), ("n", [("x", "<U3"), ("y", "S2")]), ("t", "<M8[s]")],
    {"names": ["a", "b"], "formats": ["i1", "<i4"], "offsets": [4, 8], "itemsize": 16},
    [(("a title", "name"), "<i4"), ("it's", "u1"), ("\"both'", "u1"), ("é", "V5")],
    [("中", "<i2"), ("back\\slash", "<i2"), ("\U0001fae8", "<i2"), ("\n\x7f\xff\ud800", "i1"), ("", "i1")],
    [("axes", "u1", (1,) * 31 + (2,))],
)
LEARNED = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3b11fnuz",
    "float8_e4m3fnuz",
    "int4",
    "uint4",
)
NAMES = ("", ".", "..", "/", "a/b", "%", "%25", "%2F", "a\0b", "中", "é", "e\u0301", "x" * 300, " ", "\n")
VALUES: dict[str, Any] = {
    "bool": True, "int": -3, "exact": 2**53 - 1, "inexact": 2**53, "unsigned": 2**64 - 1, "least": -(2**63),
    "float": 0.1, "minus zero": -0.0, "huge": 1e308, "tiny": 5e-324, "whole": 3.0, "inf": math.inf,
    "-inf": -math.inf, "nan": math.nan, "str": "naïve \U0001f600", "nul": "a\0b", "": "empty key",
    "a/b%.": "escaped", "no text": "", "bytes": b"\0\xff", "like JSON": b'["str","a"]', "no bytes": b"", "bools": [True, False],
    "ints": [1, -1], "unsigneds": [1, 2**63], "mixed": [1, True], "floats": [0.5, math.inf],
    "strs": ["a", "", "é"], "nuls": ["a\0", "b"], "bytess": [b"", b"\0"], "list": [],
}  # fmt: skip
STORED: dict[str, Any] = {
    "bools": [True, False] * 60, "ints": list(range(-30, 30)), "unsigneds": [2**63] * 40, "floats": [0.1] * 40,
    "str": "é" * 200, "nul": "a\0" * 200, "bytes": b"\0\xff" * 300, "strs": ["é", ""] * 30,
    "bytess": [b"a", b""] * 50, "mixed": [1, False, 2**60] * 20, "small": 1,
}  # fmt: skip


def nans() -> dict[str, Any]:
    """Return NaNs of several bits, alone and in lists."""
    bits = (0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001, 0xFFFFFFFFFFFFFFFF)
    made = {f"{n:016x}": struct.unpack("<d", struct.pack("<Q", n))[0] for n in bits}
    return {**made, "all": [*made.values()]}


def context(state: Any, series_id: int = 0) -> archive.Context:
    return archive.Context(1, 2**63, {"partition-id": 3}, state, {"lr": 0.1, "on": True}, series_id)


WEIGHTS = np.arange(12, dtype="<f4").reshape(3, 4)
MIXED: dict[str, Record] = {
    "m": archive.MetricRecord({"loss": 1}),
    "a": record(w=WEIGHTS),
    "none": archive.ConfigRecord(),
}
RAW = archive.Array("float32", (2,), "raw.bytes", b"any bytes")
F4 = np.arange(6, dtype="<f4").reshape(2, 3)
OWN = "{'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}"


def arrays(**named: Any) -> archive.RecordSet:
    return archive.RecordSet({"model": record(**named)})


def numbered(found: list[Any]) -> archive.RecordSet:
    return arrays(**{str(number): array for number, array in enumerate(found)})


def attributed() -> archive.RecordSet:
    made = record(w=WEIGHTS)
    made.attributes.update({"packer": "list", "packer_version": 1, "role": "weights", "empty": []})
    return archive.RecordSet({"plain": record(w=WEIGHTS), "packed": made})


def same_names() -> archive.RecordSet:
    return archive.RecordSet(
        {"b": record(w=WEIGHTS), "a": record(), "c": record(w=WEIGHTS + 1, b=WEIGHTS[0])},
        {"b": archive.MetricRecord({"loss": 1})},
        {"b": archive.ConfigRecord({"x": "y"}), "none": archive.ConfigRecord()},
    )


def texts() -> dict[str, Any]:
    return {
        "ascii": np.array(["a", "bcd", ""], "<U5"), "big": np.array([["é中\U0001f600", "z"]], ">U3"),
        "scalar": np.array("naïve", "<U5"), "nothing": np.array([""], "<U4"), "empty": np.zeros((0, 2), "<U4"),
        "nul inside": np.array(["a\0b", "c"], "<U3"), "surrogate": np.array(["\ud800", "c"], "<U2"),
        "wide": np.array(["a"], "<U65"), "columns": np.asfortranarray([["a", "bé"], ["", "中文"], ["x", "y"]]),
    }  # fmt: skip


def orders() -> dict[str, Any]:
    cube = counted("<f4", (2, 3, 4))
    return {
        "columns": np.asfortranarray(cube), "rows": cube, "middle": cube.transpose(0, 2, 1),
        "strided": counted("<f4", (6, 4))[::2, ::-1], "both": np.asfortranarray(counted("<i2", (1, 5))),
        "fields": np.asfortranarray(counted([("a", "i1"), ("b", "<i2")], (2, 2))),
    }  # fmt: skip


def headers() -> dict[str, Any]:
    learned = npy("{'descr': '|V2', 'fortran_order': False, 'shape': (3,), }", b"abcdef")
    either = npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 6), }", F4.tobytes())
    later = npy(OWN, F4.tobytes(), version=2)
    return {
        "own": archive.Array("float32", (2, 3), "numpy.ndarray", npy(OWN, F4.tobytes())),
        "version 2": archive.Array("float32", (2, 3), "numpy.ndarray", later),
        "version 3": archive.Array("float32", (2, 3), "numpy.ndarray", npy(OWN, F4.tobytes(), version=3)),
        "either order": archive.Array("float32", (1, 6), "numpy.ndarray", either),
        "opaque": archive.Array("bfloat16", (3,), "numpy.ndarray", learned),
    }


HEADERS = (
    npy(OWN.replace("(2, 3)", "(3, 2)"), b""),
    npy(OWN.replace("<f4", "|O"), b""),
    npy(OWN.replace("False", "True"), b""),
    npy(OWN, b"", version=2)[:7] + b"\x30" + npy(OWN, b"", version=2)[8:],
    npy(OWN, b"")[:10],
    b"nothing",
)


def strange_headers(crafted: Crafted) -> None:
    """Give each array a header that numpy would not take, or would take for other elements."""
    for number, header in enumerate(HEADERS):
        row = crafted.type_of("model", str(number))
        row["npy_header_at"], row["npy_header_bytes"] = crafted.add_text(header)


def types_of_their_own() -> list[archive.Array]:
    """Return arrays that do not share a row of the type table: their headers differ."""
    return [
        archive.Array("float32", (2, 3), "numpy.ndarray", npy(OWN + " " * number, F4.tobytes()))
        for number in range(len(HEADERS))
    ]


def opaque() -> dict[str, Any]:
    return {
        "raw": RAW, "under numpy's name": archive.Array("float32", (2, 3), "numpy.ndarray", F4.tobytes()),
        "nonsense": archive.Array("no dtype", (7, 0), "", b"\x93NUMPY"),
        "pickle": archive.Array("object", (1,), "numpy.ndarray", b"\x80\x04cos\nsystem\n."),
        "64 axes": archive.Array("float32", (1,) * 64, "raw", b"abcd"),
        "no bytes": archive.Array("float32", (0,), "x", b""),
        "shown": archive.Array("float8_e4m3fn", (4,), "raw", b"abcd"),
    }  # fmt: skip


def shapes() -> dict[str, Any]:
    return {
        str(shape): counted("<i2", shape) for shape in [(), (5,), (0,), (3, 0, 2), (2, 3, 4), (1,) * 32]
    } | {"without size": np.zeros((2, 3), "V0"), "empty columns": np.zeros((0, 4), "<f4", "F")}


def later_minor(crafted: Crafted) -> None:
    """Add what a later minor version may."""
    crafted.footer[12:16] = (1).to_bytes(4, "little")
    crafted.document |= {"added later": {"x": [1, None]}, "zz": 1}


def plain_floats(crafted: Crafted) -> None:
    floats = [["a", ["float", 3]], ["b", ["float", 1e2]], ["c", ["floats", [1, 0.5]]], ["d", ["float", -9]]]
    crafted.document["values"] = [["metrics", "m", floats]]
    text = json.dumps(crafted.document, ensure_ascii=False, separators=(",", ":"))
    crafted.json = text.replace("-9", "-0").encode()


def deep_type() -> np.dtype[Any]:
    """Return a byte in 32 structured types."""
    kind: np.dtype[Any] = np.dtype("i1")
    for _ in range(32):
        kind = np.dtype([("a", kind)])
    return kind


def deep_document(crafted: Crafted) -> None:
    inner: list[Any] = []
    for _ in range(30):
        inner = [inner]
    crafted.document["later"] = inner


def spaced(crafted: Crafted) -> None:
    """Spell the document, and a value that is a row of JSON, with white space and escapes."""
    nbytes = int(crafted.sections["nbytes"][crafted.row("c", "strs")])
    text = json.dumps(["strs", ["é", "a\0"]], ensure_ascii=True, indent=1).encode()
    crafted.write_elements("c", "strs", text.ljust(nbytes))
    crafted.json = json.dumps(crafted.document, ensure_ascii=True, indent=1).encode()


def without_values(crafted: Crafted) -> None:
    del crafted.document["values"]


def bool_of_two(crafted: Crafted) -> None:
    crafted.write_elements("model", "bools", b"\0\1\2")


def column_major_without_elements(crafted: Crafted) -> None:
    crafted.sections["flags"][crafted.row("model", "none")] = 1


VALID: list[tuple[str, str, str, Callable[[], Any], Change | None, str]] = [
    ("empty", "An archive without records", ("FILE-5 FOOTER-2 FOOTER-3 FOOTER-4 FOOTER-5 FOOTER-6 FOOTER-7 "
     "INDEX-1 INDEX-3 LAYOUT-4 LAYOUT-6"), archive.RecordSet, None, ""),
    ("plain-types", "Every element type that is not structured", ("DTYPE-1 INDEX-5 INDEX-7 INDEX-8 INDEX-16 "
     "LAYOUT-1 LAYOUT-2"), lambda: arrays(**{name: counted(name) for name in PLAIN}), None, ""),
    ("structured-types", "Members, padding, titles, subarrays and odd names", "DTYPE-1 INDEX-17",
     lambda: numbered([counted(np.dtype(kind)) for kind in STRUCTURED]), None,
     "Padding between members is part of the elements, and kept."),
    ("learned-types", "Machine-learning types by name, as void in their headers", "DTYPE-1",
     lambda: arrays(**{name: counted(getattr(ml_dtypes, name), (3,)) for name in LEARNED}), None, ""),
    ("text", "Text as UTF-8 of fixed width, and the text that it cannot hold", "DTYPE-5 DTYPE-6 INDEX-16",
     lambda: arrays(**texts()), None, ""),
    ("orders", "Row-major and column-major elements", "DTYPE-8", lambda: arrays(**orders()), None, ""),
    ("data", "Bytes that are not one .npy of their dtype and shape", "DTYPE-7 INDEX-6",
     lambda: arrays(**opaque()), None, ""),
    ("headers", "Headers of .npy files that are not the canonical one", "DTYPE-9",
     lambda: arrays(**headers()), None, ""),
    ("strange-headers", "Headers that name other elements, or nothing", "DTYPE-9",
     lambda: numbered(types_of_their_own()), strange_headers,
     "The elements are those that the index describes; what a header says is not looked at."),
    ("shapes", "No axes, axes of 0, many axes, elements without size", "INDEX-6 INDEX-8 LAYOUT-7 READ-3",
     lambda: arrays(**shapes()), None, ""),
    ("ties", "One array under several names, in one record and two", "TIE-1 TIE-2 TIE-3 TIE-4 INDEX-12",
     lambda: archive.RecordSet({"one": record(a=WEIGHTS, b=WEIGHTS[0].copy(), c=WEIGHTS),
                                "two": record(a=WEIGHTS, d=WEIGHTS)}), None, ""),
    ("segments", "Arrays of one segment, just so, and of several", ("DIGEST-1 DIGEST-2 DIGEST-3 DIGEST-4 "
     "INDEX-12"), lambda: arrays(a=counted("u1", (200_000,)), b=counted("u1", (1 << 17,)), c=np.zeros(0),
                                 d=counted("u1", ((1 << 17) + 1,)), e=np.asfortranarray(counted("<f4", (600, 70)))),
     None, ""),
    ("page", "An array of 65,536 bytes begins a page", "LAYOUT-1 LAYOUT-2",
     lambda: arrays(a=np.ones(3, "u1"), b=np.zeros(1 << 16, "u1"), c=np.ones(3, "u1")), None, ""),
    ("names", "Keys and record names that HDF5 has to escape", "INDEX-9 INDEX-10 INDEX-17",
     lambda: archive.RecordSet({name: record(**{name: np.array(n)}) for n, name in enumerate(NAMES)}
                               | {"all": record(**{name: np.array(n) for n, name in enumerate(NAMES)})}), None,
     ""),
    ("recordset", "One name in three kinds, records without arrays or values",
     "INDEX-11 INDEX-13 INDEX-15 INDEX-19", same_names, None, ""),
    ("recorddict", "Kinds in mixed order", "INDEX-11 INDEX-13 INDEX-18", lambda: archive.RecordDict(MIXED), None,
     ""),
    ("context", "A Context over a recorddict", "INDEX-18", lambda: context(archive.RecordDict(MIXED), 5), None,
     ""),
    ("context-recordset", "A Context over a recordset, of no series", "INDEX-18",
     lambda: context(same_names()), None, ""),
    ("streamed", "Rows of two records in turn, as they came to the writer", "INDEX-13 INDEX-14",
     lambda: [("a", "x", WEIGHTS), ("b", "x", WEIGHTS[0]), ("a", "y", WEIGHTS[1]), ("b", "w", WEIGHTS)], None, ""),
    ("attributes", "What is said of an array record as a whole", "INDEX-19", attributed, None, ""),
    ("configs", "Every type of value", "VALUE-1 VALUE-2 VALUE-3 VALUE-4 VALUE-5 VALUE-6 VALUE-7 VALUE-8 VALUE-10",
     lambda: archive.RecordSet({}, {}, {"c": archive.ConfigRecord(VALUES)}), None, ""),
    ("metrics", "NaNs keep their bits", "VALUE-5 VALUE-11",
     lambda: archive.RecordSet({}, {"m": archive.MetricRecord(nans())}), None, ""),
    ("stored-values", "Values that are datasets", "INDEX-20 VALUE-13 VALUE-14",
     lambda: archive.RecordSet({"model": record(w=WEIGHTS)}, {"m": archive.MetricRecord({"h": [0.5] * 40})},
                               {"c": archive.ConfigRecord(STORED)}), None,
     "Smaller than writers keep as attributes, so that the file is small."),
    ("nesting", "Structured types and a document of 32 levels", "DTYPE-13 INDEX-18",
     lambda: arrays(deep=np.zeros(2, deep_type()), flat=np.zeros(1, np.dtype([]))), deep_document, ""),
    ("whole-floats", "Floats that are spelled without a point", "VALUE-4",
     lambda: archive.RecordSet({}, {"m": archive.MetricRecord({"a": 3.0})}), plain_floats,
     ""),
    ("white-space", "White space and escapes in the document and in a value that is a row of JSON", "INDEX-2 VALUE-15",
     lambda: archive.RecordSet({}, {}, {"c": archive.ConfigRecord({"one": "é", "strs": ["é", "a\0"] * 40})}), spaced,
     "Smaller than writers keep as attributes, so that the file is small."),
    ("no-values", "A document without values", "INDEX-18", lambda: arrays(w=WEIGHTS), without_values, ""),
    ("bool-of-two", "A bool that is neither 0 nor 1, handed out as it is", "DTYPE-1",
     lambda: arrays(bools=np.zeros(3, bool)), bool_of_two, "What it means as an element is not said."),
    ("column-major-without-elements", "Column-major order of axes 0, 2 and 3", "DTYPE-8",
     lambda: arrays(none=np.zeros((0, 2, 3), "<f4")), column_major_without_elements,
     "Writers do not set the flag there; the header says fortran_order."),
    ("later-minor", "A later minor version with members that version 1.0 does not know",
     "VERSION-1 VERSION-2 VERSION-3", lambda: archive.RecordDict(MIXED), later_minor, ""),
]  # fmt: skip
