"""A difference is noticed wherever it is, and is theirs only where the control has it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from tests.hdf5tools.comparing import Difference, Loose, Outcome, compare, form_of, judge
from tests.hdf5tools.control import CONTROLS, write_control
from tests.hdf5tools.drivers import readh5py
from tests.hdf5tools.drivers.canon import canon
from tests.hdf5tools.expected import Tree, expect

ALL = Loose()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    records = archive.RecordSet(
        {
            "model": archive.ArrayRecord(
                {"w": archive.Array(np.arange(3.0)), "t": archive.Array(np.array(["a"]))}
            )
        },
        {"fit": archive.MetricRecord({"loss": 0.5, "none": []})},
        {"run": archive.ConfigRecord({"names": ["a", "b"]})},
    )
    archive.save(records, tmp_path / "archive.h5", durable=False)
    return expect(tmp_path / "archive.h5")


@pytest.mark.parametrize("options", CONTROLS.values(), ids=CONTROLS)
def test_archive_and_control_are_read_as_what_was_saved(
    tree: Tree, tmp_path: Path, options: dict[str, Any]
) -> None:
    data = tree["/arrays/model/w"].data
    assert data is not None
    assert data.tolist() == [0.0, 1.0, 2.0]
    write_control(tmp_path / "control.h5", tree, **options)
    for name in ("archive.h5", "control.h5"):
        assert compare(form_of(tree), readh5py.read(tmp_path / name), ALL) == ()


def change_element(file: h5py.File) -> None:
    file["arrays/model/w"][1] = 1.0000000000000002


def change_attribute(file: h5py.File) -> None:
    file["configs/run"].attrs["names"] = ["a", "c"]


def drop(file: h5py.File) -> None:
    del file["arrays/model/w"]


def add(file: h5py.File) -> None:
    file["metrics/fit"].attrs["more"] = 1


def make_integers(file: h5py.File) -> None:
    drop(file)
    file["arrays/model/w"] = np.arange(3)


@pytest.mark.parametrize(
    ("plant", "place"),
    [
        (change_element, "/arrays/model/w"),
        (change_attribute, "/configs/run@names"),
        (drop, "/arrays/model/w"),
        (add, "/metrics/fit@more"),
        (make_integers, "/arrays/model/w"),
    ],
)
def test_a_planted_difference_is_noticed(
    tree: Tree, tmp_path: Path, plant: Callable[[h5py.File], None], place: str
) -> None:
    write_control(tmp_path / "control.h5", tree)
    with h5py.File(tmp_path / "control.h5", "r+") as file:
        plant(file)
    found = compare(form_of(tree), readh5py.read(tmp_path / "control.h5"), ALL)
    assert place in [difference.place for difference in found]
    assert all(difference.place.startswith(place) for difference in found)
    assert judge(Outcome(found), Outcome()) == "wrong"


@pytest.mark.parametrize(
    ("ours", "control", "verdict"),
    [
        (Outcome(), None, "right"),
        (Outcome(failure="SIGSEGV"), Outcome(failure="SIGSEGV"), "theirs"),
        (Outcome(failure="SIGSEGV"), Outcome(), "wrong"),
        (Outcome(failure="OSError: no link"), Outcome(failure="TypeError: no type"), "wrong"),
        (Outcome(failure="OSError: at 5"), Outcome(failure="OSError: at 7"), "theirs"),
        (Outcome((Difference("/a", "int () [1]", "int () [2]"),)), Outcome(), "wrong"),
        (
            Outcome((Difference("/a", "empty", "float () [1e-9]"),)),
            Outcome((Difference("/a", "empty", "float () [5]"), Difference("/b", "empty", "nothing"))),
            "theirs",
        ),
        (
            Outcome((Difference("/a", "int () [1]", "nothing"), Difference("/b", "int () [1]", "nothing"))),
            Outcome((Difference("/a", "int () [1]", "nothing"),)),
            "wrong",
        ),
    ],
)
def test_a_failure_is_theirs_only_where_the_control_fails_alike(
    ours: Outcome, control: Outcome | None, verdict: str
) -> None:
    assert judge(ours, control) == verdict


def test_what_a_language_cannot_say_is_no_difference() -> None:
    saved = {"/a b": {"data": canon(np.array([[1], [2]])), "attrs": {"n": canon(1)}}}
    said = {"/a_b": {"data": canon(np.array([1.0, 2.0])), "attrs": {}}}
    assert compare(saved, said, Loose(attributes=True, axes=("data",), numbers=True, names=True)) == ()
    assert len(compare(saved, said, ALL)) == 3
    said["/a_b"]["data"] = canon(np.array([1.0, 3.0]))
    assert len(compare(saved, said, Loose(attributes=True, axes=("data",), numbers=True, names=True))) == 1


def test_values_have_one_form() -> None:
    assert canon(np.array([1, 2], ">i2")) == canon(np.array([1, 2], "<i8"))
    assert canon(np.array([1.5], "<f2")) == canon(np.array([1.5]))
    assert canon(np.array([1])) != canon(np.array([1.0]))
    assert canon(np.array([-0.0])) != canon(np.array([0.0]))
    assert canon(np.array([b"ab\0"])) == canon(np.array(["ab"], object))
    assert canon(np.array([(1.0, 2.0)], [("r", "f4"), ("i", "f4")])) == canon(np.array([1 + 2j]))
