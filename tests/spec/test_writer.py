"""What ``spec/v1`` asks of writers: files of ours, looked at byte by byte and through libhdf5."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pyfive
import pytest

import archive
from archive.errors import HostileFileError, UnsupportedDtypeError, ValueRangeError
from archive.hdf5.checksum import lookup3
from tests.crafting import Crafted
from tests.spec.reader import SpecReader

CREATED = "2026-01-01T00:00:00Z"
WEIGHTS = np.arange(12, dtype="<f4").reshape(3, 4)
VALUES: dict[str, Any] = {
    "n": 1, "x": 0.1, "text": "naïve", "texts": ["a", "é"], "nul": "a\0b", "nuls": ["a\0", "b"],
    "blob": b"\0\xff", "nothing": b"", "json": b'["str","a"]', "bracket": b"[",
    "blobs": [b"", b"\0"], "large": [0.5] * 8000, "mixed": [1, True], "z": "last",
}  # fmt: skip
MESSAGES = {0x01: 0, 0x02: 0, 0x03: 1, 0x05: 1, 0x06: 0, 0x08: 0, 0x0A: 1, 0x0C: 0, 0x15: 4, 0x16: 0}
"""Flags of each message that section 5.4 has."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tied = archive.Array(WEIGHTS)
    many = {f"z{n % 7}{n}": archive.Array(np.full(n, n, "u1")) for n in range(20)}
    records = archive.RecordSet(
        {
            "zeta": archive.ArrayRecord({"w": tied, "a/b": tied, "": archive.Array(WEIGHTS[0])}),
            "alpha": archive.ArrayRecord(many),
            "tied": archive.ArrayRecord({"w": tied, ".": archive.Array(np.zeros(70_000, "u1"))}),
        },
        {"m": archive.MetricRecord({"loss": 0.5, "epochs": [1, 2]})},
        {"run": archive.ConfigRecord(VALUES)},
    )
    path = tmp_path_factory.mktemp("writer") / "a.h5"
    archive.save(records, path, created=CREATED, durable=False)
    return path


@pytest.fixture
def reader(saved: Path) -> SpecReader:
    return SpecReader(saved.read_bytes())


def save(path: Path, arrays: Any, **values: Any) -> SpecReader:
    archive.save(arrays, path, created=CREATED, durable=False, **values)
    return SpecReader(path.read_bytes())


def links(group: h5py.Group) -> list[str]:
    """Return link names in creation order."""
    found: list[bytes] = []
    group.id.links.iterate(found.append, idx_type=h5py.h5.INDEX_CRT_ORDER)
    return [name.decode() for name in found]


def headers(path: Path) -> Iterator[tuple[h5py.Group | h5py.Dataset, list[tuple[int, int, bytes]]]]:
    """Yield every object and the messages of its object header: type, flags, body."""
    data = path.read_bytes()
    with h5py.File(path) as file:
        found: list[Any] = [file]
        file.visititems(lambda _, item: found.append(item))
        for item in found:
            at = h5py.h5o.get_info(item.id).addr
            flags = data[at + 5]
            assert data[at : at + 5] == b"OHDR\2"
            assert flags == (0x02 if isinstance(item, h5py.Dataset) else 0x0E), "no times, no phase change"
            place, end = at + 10, at + 10 + int.from_bytes(data[at + 6 : at + 10], "little")
            assert lookup3(data[at:end]) == int.from_bytes(data[end : end + 4], "little")
            messages = []
            while place < end:
                kind, size, marks = struct.unpack_from("<BHB", data, place)
                place += 6 if flags & 4 else 4
                messages.append((kind, marks, data[place : place + size]))
                place += size
            yield item, messages


@pytest.mark.must("HDF5-1", "HDF5-4", "HDF5-7")
def test_objects_and_structures(saved: Path, reader: SpecReader) -> None:
    assert saved.read_bytes()[8] == 2
    expected = {"/", "/arrays", "/metrics", "/configs", "/index", "/metrics/m", "/configs/run"}
    expected |= {"/configs/run/large", *(f"/arrays/{name}" for name in ("zeta", "alpha", "tied"))}
    for item, messages in headers(saved):
        assert item.name in expected or item.name.count("/") == 3
        for kind, flags, _ in messages:
            assert MESSAGES[kind] == flags
        if isinstance(item, h5py.Dataset):
            assert (item.chunks, item.compression, item.id.get_create_plist().get_nfilters()) == (
                None,
                None,
                0,
            )
            assert isinstance(item[()], (np.ndarray, np.generic, bytes))
        else:
            assert all(isinstance(item.get(name, getlink=True), h5py.HardLink) for name in item)
            expected -= {item.name}
    assert expected == {"/index", "/configs/run/large"}
    with h5py.File(saved) as file:
        assert len(file["arrays/alpha"]) == 20
        assert sum(len(group) for group in file["arrays"].values()) + 1 == len(reader.rows)


def test_groups_are_there_even_when_empty(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", archive.RecordSet())
    with h5py.File(tmp_path / "a.h5") as file:
        assert links(file) == ["arrays", "metrics", "configs", "index"]
        assert [len(file[name]) for name in ("arrays", "metrics", "configs")] == [0, 0, 0]


@pytest.mark.must("HDF5-2")
def test_links_are_in_the_order_of_the_index(saved: Path, reader: SpecReader) -> None:
    with h5py.File(saved) as file:
        assert links(file) == ["arrays", "metrics", "configs", "index"]
        assert links(file["arrays"]) == ["zeta", "alpha", "tied"]
        assert links(file["arrays/alpha"]) == [f"z{n % 7}{n}" for n in range(20)]
        assert links(file["arrays/zeta"]) == ["w", "a%2Fb", "%"]
        assert list(file["configs/run"].attrs) == [key for key in VALUES if key != "large"]


@pytest.mark.must("HDF5-3")
def test_datasets_are_where_the_index_says(saved: Path, reader: SpecReader) -> None:
    escaped = {b"a/b": "a%2Fb", b"": "%", b".": "%2E"}
    with h5py.File(saved) as file:
        for row in reader.rows:
            kind, name = reader.records[row.record]
            found = file[("arrays", "metrics", "configs")[kind]][name][escaped.get(row.key, row.key.decode())]
            assert (found.id.get_offset() or 0, found.id.get_storage_size()) == (row.offset, row.nbytes)
        index = file["index"]
        assert index.id.get_offset() == reader.index_at
        assert index.id.get_offset() + index.nbytes == saved.stat().st_size


@pytest.mark.must("HDF5-5")
def test_strings_have_objects_of_their_own(saved: Path) -> None:
    places = []
    for _, messages in headers(saved):
        for kind, _, body in messages:
            if kind != 0x0C:
                continue
            name_bytes, type_bytes, space_bytes = struct.unpack_from("<HHH", body, 2)
            at = 9 + name_bytes
            if body[at] == 0x19:
                values = body[at + type_bytes + space_bytes :]
                places += [values[at + 4 : at + 16] for at in range(0, len(values), 16)]
    assert len(places) > 40
    assert len(set(places)) == len(places)


@pytest.mark.must("HDF5-6")
def test_tied_datasets_have_a_link_each(saved: Path) -> None:
    counts = {}
    for item, messages in headers(saved):
        counts[item.name] = [struct.unpack("<xI", body)[0] for kind, _, body in messages if kind == 0x16]
    with h5py.File(saved) as file:
        names = ("/arrays/zeta/w", "/arrays/zeta/a%2Fb", "/arrays/tied/w")
        assert len({h5py.h5o.get_info(file[name].id).addr for name in names}) == 1
        assert h5py.h5o.get_info(file[names[0]].id).rc == 3
    assert sorted(filter(None, counts.values())) == [[3]]


@pytest.mark.must("LAYOUT-2", "LAYOUT-3", "LAYOUT-4", "LAYOUT-7")
def test_rows_are_placed_as_the_text_says(saved: Path, reader: SpecReader) -> None:
    end = 4096
    for row in reader.rows:
        if row.alias != 0xFFFFFFFF:
            continue
        align = 4096 if row.nbytes >= 65536 else 64
        assert row.offset == (-(-end // align) * align if row.nbytes else 0)
        end = row.offset + row.nbytes if row.nbytes else end
    (meta_at,) = struct.unpack_from("<Q", saved.read_bytes(), saved.stat().st_size - 216)
    assert meta_at == -(-end // 64) * 64


@pytest.mark.must("INDEX-9", "INDEX-14")
def test_index_is_in_the_order_of_the_text(reader: SpecReader) -> None:
    records = [row.record for row in reader.rows]
    assert records == sorted(records)
    names = list(zip(reader.columns["name_hash"], reader.columns["name_row"], strict=True))
    assert names == sorted(names), "equal hashes in row order"
    assert len({hashed for hashed, _ in names}) < len(names)


@pytest.mark.must("DTYPE-5")
def test_text_that_is_stored_as_text(tmp_path: Path) -> None:
    empty = {"none": np.zeros(0, "<U3"), "no rows": np.zeros((2, 0, 3), ">U5")}
    fits = {"a": ["a", "é中"], "b": ["", ""], "c": ["\U0001f600"], "at 256": ["a".ljust(2, "b")]}
    arrays = {key: np.array(texts, "<U3") for key, texts in fits.items()} | empty
    arrays |= {"widest": np.array(["a"], "<U64"), "no item": np.zeros((1 << 50, 0), "<U8")}
    not_text = {
        "nul": np.array(["a\0b"]), "surrogate": np.array(["\ud800"]), "nothing": np.ndarray((0,), "<U0"),
        "too wide": np.array(["a"], "<U65"),
        "beyond": np.array([0x110000], "<u4").view("<U1"), "too many": np.zeros((1 << 52, 0), "<U8"),
    }  # fmt: skip
    reader = save(tmp_path / "a.h5", arrays | not_text)
    modes = {row.key.decode(): row.kind.mode for row in reader.rows}
    assert modes == dict.fromkeys(arrays, 1) | dict.fromkeys(not_text, 0)
    sizes = {row.key.decode(): row.kind.itemsize for row in reader.rows}
    assert [sizes[key] for key in arrays] == [5, 1, 4, 2, 3, 5, 1, 8]
    with h5py.File(tmp_path / "a.h5") as file:
        shown = {key: file["arrays/model"][key] for key in empty}
        kinds = [h5py.check_string_dtype(dataset.dtype) for dataset in shown.values()]
        assert kinds == [("utf-8", 3), ("utf-8", 5)]
        assert [shown[key].shape for key in empty] == [(0,), (2, 0, 3)]
        assert file["arrays/model/nothing"].shape == (0,)
    with archive.open(tmp_path / "a.h5") as handle:
        for key, array in arrays.items():
            assert handle[key].data == archive.Array(array).data


@pytest.mark.must("DTYPE-8")
def test_flag_of_column_major_arrays(tmp_path: Path) -> None:
    cube = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    flagged = {
        "columns": np.asfortranarray(cube),
        "transposed": cube.T,
        "text": np.asfortranarray([["a", "b"]] * 2),
    }
    body = io_bytes(np.asfortranarray(cube))
    plain = {
        "rows": cube, "middle": cube.transpose(0, 2, 1), "row": np.asfortranarray(cube[:1, :1]),
        "one": cube[0, 0],
        "data": archive.Array("float32", (2, 3, 4), "raw", body),
        "nothing": np.zeros((0, 3, 4), "<f4", order="F"),
    }  # fmt: skip
    reader = save(tmp_path / "a.h5", flagged | plain)
    found = {row.key.decode(): row.fortran for row in reader.rows}
    assert found == dict.fromkeys(flagged, True) | dict.fromkeys(plain, False)


def io_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return archive.Array(array).data


@pytest.mark.must("DTYPE-4")
@pytest.mark.parametrize(
    "dtype",
    [
        [("a", "V0"), ("b", "<i4")],
        [("a\0b", "<i4")],
        [("\ud800", "<i4")],
        [(f"field{n:05}", "<i4") for n in range(3000)],
    ],
    ids=["size 0", "NUL", "surrogate", "too many"],
)
def test_structured_types_that_hdf5_does_not_show(tmp_path: Path, dtype: Any) -> None:
    kind = np.dtype(dtype)
    save(tmp_path / "a.h5", {"a": np.zeros(3, kind), "b": np.zeros(3, [("x", "<i4"), ("y", "u1")])})
    with h5py.File(tmp_path / "a.h5") as file:
        shown = file["arrays/model/a"]
        assert (shown.dtype, shown.shape) == (np.dtype("u1"), (3 * kind.itemsize,))
        assert file["arrays/model/b"].dtype.names == ("x", "y")


@pytest.mark.must("DTYPE-12")
@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1 ends at 32 axes")
def test_members_of_more_axes_than_every_numpy_has(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedDtypeError, match="more than 32 axes"):
        archive.save({"w": np.zeros(2, [("a", "<i4", (1,) * 33)])}, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.must("DTYPE-11")
@pytest.mark.parametrize("offsets", [(0, 2), (4, 0)])
def test_structured_types_that_no_npy_holds(tmp_path: Path, offsets: tuple[int, int]) -> None:
    kind = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i4"], "offsets": offsets, "itemsize": 8})
    with pytest.raises(UnsupportedDtypeError):
        archive.save({"w": np.zeros(2, kind)}, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.must("NAME-1", "NAME-2", "NAME-3", "NAME-5")
def test_link_names(tmp_path: Path) -> None:
    escaped = {
        "a%/\0é": "a%25%2F%00é", ".": "%2E", "..": "..", "": "%", "%": "%25", "%2E": "%252E", "a.": "a.",
        "\n ~": "\n ~",
    }  # fmt: skip
    save(tmp_path / "a.h5", {name: np.zeros(1) for name in escaped}, configs=dict.fromkeys(escaped, 1))
    with h5py.File(tmp_path / "a.h5") as file:
        assert links(file["arrays/model"]) == list(escaped.values())
        assert list(file["configs/configs"].attrs) == list(escaped.values())
        for name, link in escaped.items():
            key = file["arrays/model"][link].attrs.get("key", link)
            assert (key if "\0" not in name else key.tobytes().decode()) == name
    read_back = archive.open(tmp_path / "a.h5")
    assert [key for _, key in read_back] == list(escaped)


@pytest.mark.must("HDF5-8")
def test_strings_with_nul(tmp_path: Path) -> None:
    tied = archive.Array(WEIGHTS)
    odd = archive.Array("d\0", (1,), "\0s", b"x")
    long = archive.Array("d" * 60_000 + "\0", (1,), "s", b"x")
    save(tmp_path / "a.h5", {"k\0": odd, "long": long, "t\0": tied, "u\0": tied, "a/b": WEIGHTS})
    with h5py.File(tmp_path / "a.h5") as file:
        group = file["arrays/model"]
        attrs = group["k%00"].attrs
        for name, text in (("stype", b"\0s"), ("dtype", b"d\0"), ("key", b"k\0")):
            assert (attrs[name].dtype, attrs[name].tobytes()) == (np.dtype("u1"), text)
        assert attrs["encoding"] == "data"
        assert group["long"].attrs["dtype"] == "d" * 60_000, "too long for an attribute of fixed type"
        assert "key" not in group["t%00"].attrs
        assert group["a%2Fb"].attrs["key"] == "a/b"


@pytest.mark.must("NAME-4")
@pytest.mark.parametrize("name", ["x" * 32769, "/" * 10923, "a\ud800"])
def test_names_that_no_archive_holds(tmp_path: Path, name: str) -> None:
    for saving in (
        lambda: archive.save({name: WEIGHTS}, tmp_path / "a.h5"),
        lambda: archive.save({"w": WEIGHTS}, tmp_path / "a.h5", name=name),
        lambda: archive.save({}, tmp_path / "a.h5", configs={name: 1}),
    ):
        with pytest.raises(ValueRangeError):
            saving()
    assert not list(tmp_path.iterdir())
    assert save(tmp_path / "a.h5", {"x" * 32768: WEIGHTS}).rows


@pytest.mark.must("VALUE-9")
def test_values_that_hdf5_has_no_type_for(saved: Path) -> None:
    with h5py.File(saved) as file:
        attrs = file["configs/run"].attrs
        for key, said in (
            ("nul", '["str","a\\u0000b"]'), ("nuls", '["strs",["a\\u0000","b"]]'),
            ("blobs", '["bytess",["","AA=="]]'), ("json", '["bytes","WyJzdHIiLCJhIl0="]'),
        ):  # fmt: skip
            assert (attrs[key].dtype, attrs[key].tobytes().decode()) == (np.dtype("u1"), said)
        for key in ("blob", "bracket"):
            assert attrs[key].dtype == np.dtype("u1")
            assert attrs[key].tobytes() == VALUES[key]
        assert (attrs["nothing"], attrs["nothing"].dtype) == (h5py.Empty("u1"), np.dtype("u1"))


def test_other_readers_take_bytes(saved: Path) -> None:
    with pyfive.File(saved) as file, netCDF4.Dataset(saved) as tree:
        attrs, variables = dict(file["configs/run"].attrs), tree["configs/run"].__dict__
    assert set(VALUES) - {"large"} == set(attrs)
    for key in ("blob", "bracket"):
        assert attrs[key].tobytes() == VALUES[key]
        assert np.asarray(variables[key], "u1").tobytes() == VALUES[key]


@pytest.mark.must("VALUE-3", "VALUE-4", "VALUE-5", "INDEX-18")
def test_numbers_in_the_document(tmp_path: Path) -> None:
    (odd,) = struct.unpack("<d", b"\1" + bytes(5) + b"\xf8\xff")
    values = {"exact": 2**53 - 1, "least": 1 - 2**53, "large": 2**53, "small": -(2**53), "tenth": 0.1}
    values |= {"inf": math.inf, "nan": math.nan, "odd": odd}
    reader = save(tmp_path / "a.h5", {}, metrics=values)
    said = dict(reader.document["values"][0][2])
    assert said == {
        "exact": ["int", 2**53 - 1], "least": ["int", 1 - 2**53], "large": ["int", str(2**53)],
        "small": ["int", str(-(2**53))], "tenth": ["float", 0.1],
        "inf": ["float", "inf"], "nan": ["float", "nan"],
        "odd": ["float", "fff8000000000001"],
    }  # fmt: skip
    assert b'["float",0.1]' in (tmp_path / "a.h5").read_bytes()


@pytest.mark.must("VALUE-10")
@pytest.mark.parametrize("value", [[-1, 2**63], [2**64], [-(2**63) - 1], 2**64])
def test_integers_that_no_type_holds(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueRangeError):
        archive.save({}, tmp_path / "a.h5", metrics={"n": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.must("VALUE-12")
def test_values_that_become_datasets(tmp_path: Path) -> None:
    configs: dict[str, Any] = {
        "fits": [0.5] * 7499, "floats": [0.5] * 7500, "bools": [True] * 2500, "mixed": [1, True] * 1250,
        "str": "é" * 29993, "bytes": b"a" * 44991,
    }  # fmt: skip
    reader = save(tmp_path / "a.h5", {}, configs=configs)
    assert [row.key.decode() for row in reader.rows] == list(configs)[1:]
    crowd = save(tmp_path / "b.h5", {}, configs={str(n): n for n in range(4098)})
    assert [row.key for row in crowd.rows] == [b"4096", b"4097"]


@pytest.mark.must("OPEN-3")
def test_equal_hashes_are_no_proof(tmp_path: Path) -> None:
    """The table leads from the hash of a key that is not there to a row of another key."""
    save(tmp_path / "a.h5", {"there": WEIGHTS})
    other = save(tmp_path / "b.h5", {"absent": WEIGHTS})
    (hashed,) = other.columns["name_hash"]
    crafted = Crafted(tmp_path / "a.h5")
    crafted.sections["name_hash"][0] = hashed
    with archive.open(crafted.write(tmp_path / "c.h5")) as handle:
        assert "absent" not in handle
        with pytest.raises((KeyError, HostileFileError)):
            handle["absent"]


@pytest.mark.must("VERIFY-1", "VERIFY-2", "READ-2", "LAYOUT-5")
def test_every_failure_is_reported_with_its_place(saved: Path, tmp_path: Path, reader: SpecReader) -> None:
    data = bytearray(saved.read_bytes())
    first, last = reader.rows[0], reader.rows[-1]
    for at in (100, first.offset + 3, first.offset + first.nbytes, last.offset):
        data[at] ^= 1
    path = tmp_path / "a.h5"
    path.write_bytes(data)
    with archive.open(path) as handle:
        found = [(failure.record, failure.key, failure.offset) for failure in handle.verify().failures]
        with pytest.raises(archive.errors.DigestError) as caught:
            _ = handle["zeta", "w"].data
    assert (caught.value.offset, caught.value.key) == (first.offset, "zeta/w")
    assert found == [
        ("", "padding", 100),
        ("zeta", "w", first.offset),
        ("", "padding", first.offset + first.nbytes),
        ("run", "large", last.offset),
    ]
