"""NumPy's files: arrays come back as `numpy.load` reads them, and hostile ones are refused."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, HostileFileError, TruncatedError
from archive.tools import convert

ARRAYS: dict[str, Any] = {
    "a/b.c": np.arange(1000.0),
    "text": np.array(["é", "bb"]),
    "bytes": np.array([b"x", b"yz"]),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "when": np.array(["2026-01-01", "NaT"], "M8[D]"),
    "struct": np.array([(1.5, 2)], [("x", "f4"), ("y", "i2")]),
    "empty": np.zeros((0, 3)),
    "scalar": np.float64(3),
    "big": np.arange(3, dtype=">i4"),
    "complex": np.array([1 + 2j]),
    "negative": np.array([-0.0, np.nan, np.inf]),
    "size": np.zeros(3, "V5"),
}


def npy(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_every_kind_come_back(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "m.npz", **ARRAYS)
    assert convert(tmp_path / "m.npz", tmp_path / "m.h5").lossless
    assert convert(tmp_path / "m.h5", tmp_path / "back.npz").lossless
    found = np.load(tmp_path / "back.npz")
    assert found.files == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert found[key].dtype == array.dtype
        assert npy(found[key]) == npy(np.ascontiguousarray(array).reshape(np.shape(array)))
    with archive.open(tmp_path / "m.h5") as handle:
        assert handle["fortran"].numpy(copy=True).flags.f_contiguous


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", plain=np.ones(2), objects=np.array([None, {}], object))
    with zipfile.ZipFile(tmp_path / "m.npz", "a") as made:
        made.writestr("README", "not an array")
    report = convert(tmp_path / "m.npz", tmp_path / "m.h5")
    assert report.arrays == 1
    assert report.left_out == (
        ("objects", "Python objects, which are never unpickled"),
        ("README", "a member that is no array"),
    )


def test_one_array_of_a_npy(tmp_path: Path) -> None:
    for number, array in enumerate([np.arange(5), ARRAYS["fortran"], ARRAYS["text"], ARRAYS["scalar"]]):
        np.save(tmp_path / f"a{number}.npy", array)
        convert(tmp_path / f"a{number}.npy", tmp_path / "m.h5")
        convert(tmp_path / "m.h5", tmp_path / "back.npy", keys=f"a{number}")
        np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), array)


def zipped(folder: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "bad.npz", "w", kind) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return folder / "bad.npz"


def refused(path: Path, kind: type[ArchiveError] = HostileFileError, **options: Any) -> str:
    before = sorted(os.listdir(path.parent))
    with pytest.raises(kind) as caught:
        convert(path, path.parent / "m.h5", **options)
    assert sorted(os.listdir(path.parent)) == before
    return str(caught.value)


def test_bombs_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    bomb = zipped(tmp_path, {"a.npy": npy(np.zeros(9 << 20, "u1"))}, zipfile.ZIP_DEFLATED)
    assert "decoded_bytes=9437312" in refused(bomb, decoded_bytes=9 << 20)
    report = convert(bomb, tmp_path / "m.h5", decoded_bytes=10 << 20, durable=False)
    assert report.array_bytes == 9 << 20


def test_members_that_lie_are_refused(tmp_path: Path) -> None:
    good = npy(np.arange(8.0))
    assert "no .npy" in refused(zipped(tmp_path, {"a.npy": b"nothing of the kind"}))
    assert "more or fewer bytes" in refused(zipped(tmp_path, {"a.npy": good[:-1]}))
    assert "more or fewer bytes" in refused(zipped(tmp_path, {"a.npy": good + b"x"}))
    assert "header" in refused(zipped(tmp_path, {"a.npy": b"\x93NUMPY\2\0" + b"\xff" * 40}))
    huge = good.replace(b"(8,), }  ", b"(8,9999999999999999,)}")
    refused(zipped(tmp_path, {"a.npy": huge}))
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as made:
        made.writestr("a.npy", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a.npy", good)
    assert "two arrays of one name" in refused(tmp_path / "bad.npz")
    head = good[:128].replace(b"False", b"True ").replace(b"(8,), }         ", b"(9999999999, 9)}")
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as made:  # it would take memory for all of it
        made.writestr("a.npy", head + bytes(64))
        made.infolist()[0].file_size = 128 + 9999999999 * 72
    assert f"{128 + 9999999999 * 72} bytes in 192" in refused(tmp_path / "bad.npz")


def test_damage_in_a_member_is_found(tmp_path: Path) -> None:
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = zipped(tmp_path, {"a.npy": npy(np.arange(1000.0))}, kind)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
        assert "damaged in the zip" in refused(path) or "not a .npz" in refused(path)


def test_a_zip_that_is_cut_or_no_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.npy": npy(np.arange(100.0))})
    data = path.read_bytes()
    for length in (0, 3, 100, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:length])
        assert "not a .npz" in refused(path)
    (tmp_path / "b.npy").write_bytes(b"\x93NUM")
    refused(tmp_path / "b.npy", TruncatedError)
    (tmp_path / "b.npy").write_bytes(npy(np.arange(5))[:-3])
    refused(tmp_path / "b.npy")
