"""Some arrays of an archive as files of other programs."""

from __future__ import annotations

import csv
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import ValueRangeError
from archive.tools import extract


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    arrays = {
        "fc.weight": rng.normal(size=(300, 7)).astype("f4"),
        "fc.bias": rng.normal(size=300).astype("f8"),
        "half": np.arange(6).reshape(3, 2).astype(ml_dtypes.bfloat16),
        "names": np.array(["a,b", 'c"d', "é"]),
        "step": np.array(3, "i8"),
        "cube": np.zeros((2, 2, 2)),
        "none": np.zeros((0, 4), "f4"),
    }
    archive.save(arrays, tmp_path / "run.h5", metrics={"loss": 0.5})
    return tmp_path / "run.h5"


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_numbers_of_csv_are_those_of_the_array(path: Path, tmp_path: Path) -> None:
    with archive.open(path) as handle:
        for key, kind in (("fc.weight", "f4"), ("fc.bias", "f8")):
            report = extract(path, tmp_path / "t.csv", key)
            assert (report.arrays, report.to, report.lossless) == (1, "csv", True)
            found = np.array(rows(tmp_path / "t.csv"), kind)
            np.testing.assert_array_equal(found.reshape(handle[key].shape), handle[key].numpy())


def test_other_elements_of_csv(path: Path, tmp_path: Path) -> None:
    found = {}
    for key in ("half", "names", "step", "none"):
        extract(path, tmp_path / "t.csv", key)
        found[key] = rows(tmp_path / "t.csv")
    assert found["half"] == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert found["names"] == [["a,b"], ['c"d'], ["é"]]
    assert found["step"] == [["3"]]
    assert found["none"] == []


def test_one_array_as_npy_and_several_as_npz(path: Path, tmp_path: Path) -> None:
    report = extract(path, tmp_path / "w.npy", "fc.weight")
    assert report.lossless  # nobody asked for the metrics
    with archive.open(path) as handle:
        np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), handle["fc.weight"].numpy())
    extract(path, tmp_path / "fc.npz", ["fc.*", "step"])
    assert sorted(np.load(tmp_path / "fc.npz").files) == ["fc.bias", "fc.weight", "step"]
    extract(path, tmp_path / "all.npz", ["fc.weight"])
    assert (tmp_path / "w.npy").read_bytes()[:128] == np.lib.format.magic(1, 0) + (
        tmp_path / "w.npy"
    ).read_bytes()[8:128]


@pytest.mark.parametrize(
    ("name", "keys"), [("t.npy", None), ("t.csv", "fc.*"), ("t.csv", "cube"), ("t.npy", "half")]
)
def test_what_is_no_single_table_is_refused(path: Path, tmp_path: Path, name: str, keys: str | None) -> None:
    with pytest.raises(ValueRangeError):
        extract(path, tmp_path / name, keys)
    assert not (tmp_path / name).exists()


def test_the_name_of_an_array_is_not_in_a_npy(tmp_path: Path) -> None:
    archive.save({"a\0b": np.arange(3)}, tmp_path / "m.h5")
    extract(tmp_path / "m.h5", tmp_path / "m.npy", "*")
    assert np.load(tmp_path / "m.npy").tolist() == [0, 1, 2]


def test_a_key_that_is_missing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        extract(path, tmp_path / "t.csv", "fc.wieght")


def test_a_table_does_not_take_the_place_of_its_archive(tmp_path: Path) -> None:
    archive.save({"w": np.ones(2)}, tmp_path / "m.csv")
    with pytest.raises(ValueRangeError, match="read from there"):
        extract(tmp_path / "m.csv", tmp_path / "m.csv")
    assert archive.verify(tmp_path / "m.csv").ok
