"""The independent reader against what was saved: every dtype, value, tie and name; damage is refused."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import xxhash

import archive
from archive.dtypes import ML_DTYPES
from tests.spec.reader import SpecError, SpecReader

CREATED = "2026-01-01T00:00:00Z"
PLAIN = (
    "?", "i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8",
    "<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<f16", "<c8", ">c8", "<c16", ">c16", "<c32",
    "S1", "S7", "V3", "V16", "<M8[ns]", ">M8[25s]", "<M8[D]", "<m8", ">m8[us]",
)  # fmt: skip
STRUCTURED = (
    [("a", "i1"), ("b", ">f8", (2,))],
    [("a", "?"), ("n", [("x", "<U3"), ("y", "S2")]), ("t", "<M8[s]")],
    {"names": ["a", "b"], "formats": ["i1", "<i4"], "offsets": [4, 8], "itemsize": 16},
    {"names": ["p", "q"], "formats": [("<f4", (2, 3)), [("x", "u1"), ("y", "<c8")]], "offsets": [1, 30]},
    [(("a title", "name"), "<i4"), ("it's", "u1"), ("\"both'", "u1"), ("é", "V5")],
    [("中", "<i2"), ("back\\slash", "<i2")],
)


def filled(dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return elements made of counted bytes, so that no two look alike; bool stays 0 and 1."""
    kind = np.dtype(dtype)
    raw = np.resize(np.arange(251, dtype=np.uint8), math.prod(shape) * kind.itemsize)
    if kind.kind == "b":
        raw %= 2
    return raw.view(kind).reshape(shape)


def saved_npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read(path: Path, records: Any, **values: Any) -> SpecReader:
    archive.save(records, path, created=CREATED, **values)
    reader = SpecReader(path.read_bytes())
    assert reader.verify() == []
    return reader


def assert_arrays(path: Path, arrays: dict[str, Any]) -> SpecReader:
    reader = read(path, arrays)
    assert [row.key.decode() for row in reader.rows] == list(arrays)
    for key, array in arrays.items():
        row = reader.find("model", key)
        wanted = array.data if isinstance(array, archive.Array) else saved_npy(array)
        assert reader.data(row) == wanted, key
        assert (row.kind.dtype, row.shape, row.kind.stype) == (
            str(array.dtype), tuple(array.shape), getattr(array, "stype", "numpy.ndarray"),
        )  # fmt: skip
    return reader


@pytest.mark.must("DTYPE-1")
@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 0, 2), (2, 3, 4), (1,) * 32, (1,) * 33 + (2,)])
def test_plain_types(tmp_path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) > 32 and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("numpy 1 ends at 32 axes")
    assert_arrays(tmp_path / "a.h5", {dtype: filled(dtype, shape) for dtype in PLAIN})


def test_types_without_size(tmp_path: Path) -> None:
    assert_arrays(tmp_path / "a.h5", {dtype: np.zeros((2, 3), dtype) for dtype in ("V0", "S0", "<U0")})


@pytest.mark.must("DTYPE-1")
def test_structured_types(tmp_path: Path) -> None:
    arrays = {str(i): archive.Array(filled(dtype, (2, 3))) for i, dtype in enumerate(STRUCTURED)}
    assert_arrays(tmp_path / "a.h5", arrays)


@pytest.mark.must("DTYPE-1")
def test_machine_learning_types(tmp_path: Path) -> None:
    names = sorted(name for name in ML_DTYPES if hasattr(ml_dtypes, name))
    arrays = {name: archive.Array(filled(getattr(ml_dtypes, name), (3, 5))) for name in names}
    assert len(arrays) >= 8
    assert_arrays(tmp_path / "a.h5", arrays)


@pytest.mark.must("DTYPE-8")
def test_fortran_order(tmp_path: Path) -> None:
    arrays = {dtype: np.asfortranarray(filled(dtype, (2, 3, 4))) for dtype in (*PLAIN[:6], "S7", "V16")}
    arrays["text"] = np.asfortranarray([["a", "bé"], ["", "中文"], ["x", "y"]])
    arrays["transposed middle"] = filled("<f4", (2, 3, 4)).transpose(0, 2, 1)
    arrays["strided"] = filled("<f4", (6, 4))[::2, ::-1]
    reader = assert_arrays(tmp_path / "a.h5", arrays)
    assert sum(row.fortran for row in reader.rows) == len(arrays) - 2


@pytest.mark.parametrize("order", "<>")
def test_text(tmp_path: Path, order: str) -> None:
    arrays = {
        "ascii": np.array(["a", "bcd", ""], f"{order}U5"),
        "wide": np.array([["é中\U0001f600", "z"]], f"{order}U3"),
        "scalar": np.array("naïve", f"{order}U5"),
        "nothing": np.array([""], f"{order}U4"),
        "empty": np.zeros((0, 2), f"{order}U4"),
        "nul inside": np.array(["a\0b", "c"], f"{order}U3"),
        "surrogate": np.array(["\ud800", "c"], f"{order}U2"),
        "much wider than its text": np.array(["a"], f"{order}U5000"),
    }
    reader = assert_arrays(tmp_path / "a.h5", arrays)
    assert [row.kind.mode for row in reader.rows] == [1, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.must("DTYPE-7", "DTYPE-9")
def test_data_that_is_no_canonical_npy(tmp_path: Path) -> None:
    body = np.arange(6, dtype="<f4").tobytes()
    header = b"{'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}\n"
    npy = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + body
    arrays = {
        "own header": archive.Array("float32", (2, 3), "numpy.ndarray", npy),
        "raw": archive.Array("float32", (2, 3), "torch.raw", body),
        "raw under numpy's name": archive.Array("float32", (2, 3), "numpy.ndarray", body),
        "nonsense": archive.Array("no dtype", (7, 0), "", b"\x93NUMPY"),
        "no bytes": archive.Array("float32", (0,), "x", b""),
        "fp8 bytes": archive.Array("float8_e4m3fn", (4,), "raw", b"abcd"),
    }
    reader = assert_arrays(tmp_path / "a.h5", arrays)
    assert [row.kind.mode for row in reader.rows] == [0, 2, 2, 2, 2, 2]
    assert [bool(row.kind.header) for row in reader.rows] == [True] + 5 * [False]


def test_long_headers(tmp_path: Path) -> None:
    names = [f"field{i:05}" for i in range(3000)]
    arrays = {"version 2": archive.Array(np.zeros(1, [(name, "<M8[s]") for name in names]))}
    assert_arrays(tmp_path / "a.h5", arrays)
    assert arrays["version 2"].data[6] == 2


@pytest.mark.must("TIE-1")
def test_ties(tmp_path: Path) -> None:
    weight = np.arange(6, dtype="<f4").reshape(2, 3)
    reader = assert_arrays(tmp_path / "a.h5", {"a": weight, "other": weight + 1, "b": weight, "a/c%": weight})
    assert [row.alias for row in reader.rows] == [0xFFFFFFFF, 0xFFFFFFFF, 0, 0]


def test_segments(tmp_path: Path) -> None:
    lengths = {"large": 4_400_000, "whole segments": 4 << 20, "b": 3}
    reader = assert_arrays(tmp_path / "a.h5", {key: filled("u1", (n,)) for key, n in lengths.items()})
    assert [len(row.digests) for row in reader.rows] == [34, 32, 1]
    assert [row.offset % 4096 for row in reader.rows[:2]] == [0, 0]


def test_names(tmp_path: Path) -> None:
    names = [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "%",
        "%25",
        "a\0b",
        "中",
        "e\u0301",
        "x" * 30000,
        *map(str, range(50)),
    ]
    reader = assert_arrays(tmp_path / "a.h5", {name: np.array(i) for i, name in enumerate(names)})
    with pytest.raises(KeyError):
        reader.find("model", "missing")
    with pytest.raises(KeyError):
        reader.find("other", "a/b")


VALUES = {
    "bool": True, "int": -3, "big int": 2**63 - 1, "unsigned": 2**64 - 1, "least": -(2**63), "exact": 2**53,
    "float": 0.1, "minus zero": -0.0, "huge": 1e308, "tiny": 5e-324, "whole": 3.0, "inf": math.inf,
    "-inf": -math.inf, "str": "naïve \U0001f600", "nul": "a\0b", "": "empty key", "a/b%.": "escaped",
    "no text": "",
    "bytes": b"\0\xff", "no bytes": b"", "bools": [True, False], "ints": [1, -1], "unsigneds": [1, 2**63],
    "floats": [0.5, math.inf], "strs": ["a", "", "é"], "nuls": ["a\0", "b"], "bytess": [b"", b"\0"],
    "list": [],
    "mixed": [1, True], "many ints": list(range(20000)), "many unsigneds": [2**63] * 20000,
    "many floats": [0.1] * 20000, "many bools": [True, False] * 30000, "long": "é" * 40000,
    "long nul": "a\0" * 40000, "long bytes": b"\0\xff" * 40000, "many strs": ["é", "b"] * 5000,
    "many bytess": [b"a", b""] * 5000, "many mixed": [1, False, 2**60] * 5000,
}  # fmt: skip


@pytest.mark.must("VALUE-1", "VALUE-8", "VALUE-13")
def test_values(tmp_path: Path) -> None:
    metrics = {key: value for key, value in VALUES.items() if is_metric(value)}
    reader = read(tmp_path / "a.h5", {"w": np.ones(3)}, metrics=metrics, configs=VALUES)
    assert reader.records == [(0, "model"), (1, "metrics"), (2, "configs")]
    values = reader.values()
    assert repr(values) == repr({1: metrics, 2: VALUES})
    assert [row.key.decode() for row in reader.rows if row.record == 2] == [
        key for key in VALUES if key.startswith(("many", "long"))
    ]


def is_metric(value: object) -> bool:
    first = value[0] if isinstance(value, list) and value else 0 if isinstance(value, list) else value
    return isinstance(first, (int, float)) and not isinstance(first, bool)


@pytest.mark.must("VALUE-5")
@pytest.mark.parametrize(
    "bits", [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001, 0xFFFFFFFFFFFFFFFF]
)
def test_nan_keeps_its_bits(tmp_path: Path, bits: int) -> None:
    (nan,) = struct.unpack("<d", struct.pack("<Q", bits))
    reader = read(tmp_path / "a.h5", {}, metrics={"one": nan, "more": [nan, 1.0]})
    one, (first, second) = reader.values()[0 if reader.records[0][0] == 1 else 1].values()
    assert [struct.unpack("<Q", struct.pack("<d", found))[0] for found in (one, first)] == [bits, bits]
    assert second == 1.0


@pytest.mark.parametrize("container", [archive.RecordSet, archive.RecordDict])
def test_containers(tmp_path: Path, container: Any) -> None:
    if container is archive.RecordDict:
        records: Any = archive.RecordDict({
            "m": archive.MetricRecord({"loss": 1}),
            "a": archive.ArrayRecord({"w": archive.Array(np.ones(2))}),
            "none": archive.ConfigRecord(),
        })  # fmt: skip
        wanted = [(1, "m"), (0, "a"), (2, "none")]
    else:
        weights = archive.ArrayRecord({"w": archive.Array(np.ones(2))})
        arrays = {"b": weights, "a": archive.ArrayRecord()}
        records = archive.RecordSet(arrays, {"b": archive.MetricRecord({"loss": 1})})
        wanted = [(0, "b"), (0, "a"), (1, "b")]
    reader = read(tmp_path / "a.h5", records)
    assert reader.records == wanted
    assert reader.document["container"] == container.__name__.lower()
    assert {"loss": 1} in reader.values().values()


def test_empty(tmp_path: Path) -> None:
    reader = read(tmp_path / "a.h5", archive.RecordSet())
    assert (reader.records, reader.rows, reader.values()) == ([], [], {})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("spec") / "a.h5"
    weight = np.arange(20, dtype="<f4")
    arrays = {"w": weight, "tied": weight, "t": np.array(["a", "é"]), "a/b": np.asfortranarray(np.eye(3))}
    archive.save(arrays, path, created=CREATED, metrics={"loss": 0.5}, configs={"name": "x"})
    return path.read_bytes()


def outcome(data: bytes) -> str:
    try:
        failures = SpecReader(data).verify()
    except SpecError as error:
        failures = [(error, 0)]
    return str(failures[0][0].args[0]) if failures else "read"


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_flipped_bytes_are_refused(small: bytes, mask: int) -> None:
    assert outcome(small) == "read"
    dense = {*range(48), *range(len(small) - 256, len(small))}
    for at in sorted(dense | set(range(mask % 7, len(small), 7))):
        flipped = bytearray(small)
        flipped[at] ^= mask
        assert outcome(bytes(flipped)) in ("Damaged", "Digest"), at


def test_other_lengths_are_refused(small: bytes) -> None:
    for size in {*range(0, len(small), 97), *range(len(small) - 300, len(small))}:
        assert outcome(small[:size]) in ("Truncated", "NotAnArchive"), size
    assert outcome(small[:5000]) == "Truncated"
    assert outcome(small + b"\0") == "NotAnArchive"
    assert outcome(small[:4096] + small[4160:]) == "Truncated"
    assert outcome(b"") == outcome(b"\0" * 8192) == "NotAnArchive"


@pytest.mark.parametrize(
    ("at", "new", "wanted"),
    [
        (0, b"x", "Hostile [INDEX-1]"),
        (8, b"\2", "Version [INDEX-1]"),
        (12, b"\0", "Hostile [INDEX-1]"),
        (21, b"\1", "Hostile [INDEX-4]"),
        (32, b"\xff" * 8, "Hostile [INDEX-4]"),
        (33, b"\1", "Hostile [INDEX-3] [INDEX-5]"),
        (56, b"\xff" * 8, "Hostile [INDEX-3] [INDEX-5]"),
        (64, b"\1", "Hostile [INDEX-1]"),
        (96, b"\1", "Hostile [LAYOUT-7] [LAYOUT-2]"),
        (105, b"\x40", "Hostile [TIE-2]"),
        (97, b"\0", "Hostile [LAYOUT-1]"),
    ],
)
def test_rules_hold_where_digests_do(small: bytes, at: int, new: bytes, wanted: str) -> None:
    begin, length = struct.unpack_from("<QQ", small, len(small) - 200)
    index = bytearray(small[begin : begin + length])
    index[at : at + len(new)] = new
    footer = bytearray(small[-256:])
    footer[168:184] = xxhash.xxh3_128_digest(index)
    footer[232:248] = xxhash.xxh3_128_digest(footer[:232])
    with pytest.raises(SpecError) as caught:
        SpecReader(small[:begin] + index + small[begin + length : -256] + footer)
    assert " ".join(caught.value.args) == wanted
