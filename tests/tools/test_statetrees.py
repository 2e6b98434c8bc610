"""Edits of archives that hold a saved state: the tree stays true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import archive
from archive.errors import HostileFileError, ValueRangeError, VersionError
from archive.tools import edit
from tests.optional import torch

STATE = "fedarchive.state"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    from archive.interop.torch import save_state

    make = torch()
    tied = make.arange(3.0)
    state = {
        "model": {"fc.weight": make.ones(2, 2).t(), "head": tied, "tail": tied, "half": make.ones(2)},
        "optimizer": {"state": {0: {"m": make.ones(1)}}, "parts": [make.zeros(1)]},
        "sparse": {"s": make.eye(2).to_sparse()},
        "epoch": 3,
    }
    save_state(state, tmp_path / "state.h5")
    return tmp_path / "state.h5"


def load(path: Path) -> Any:
    from archive.interop.torch import load_state

    with archive.open(path) as handle:
        assert handle.verify().ok
    return load_state(path)


def test_a_layer_gets_another_name(path: Path) -> None:
    with edit(path) as e:
        e.rename("fc.weight", "dense.weight")
        e.rename(("model", "head"), ("model", "neck"))
    found = load(path)
    assert list(found["model"]) == ["dense.weight", "neck", "tail", "half"]
    assert found["model"]["dense.weight"].stride() == (1, 2)
    assert found["model"]["neck"] is found["model"]["tail"]
    with archive.open(path) as handle:
        assert list(handle)[:2] == [("model", "dense.weight"), ("model", "neck")]


def test_a_moment_gets_another_name_within_its_mapping(path: Path) -> None:
    with edit(path) as e:
        e.rename("state.0.m", "state.0.exp_avg")
        for new in ("state.1.m", "m", ("model", "state.0.m")):
            with pytest.raises(ValueRangeError, match="no place for it"):
                e.rename("state.0.exp_avg", new)
    assert list(load(path)["optimizer"]["state"][0]) == ["exp_avg"]


def test_layers_are_deleted_replaced_and_added(path: Path) -> None:
    with edit(path) as e:
        del e["model", "head"]
        e["fc.weight"] = torch().zeros(5)
        e["model", "new"] = torch().full((2,), 7.0)
        e["elsewhere", "x"] = torch().ones(1)
        e.cast("bfloat16", "half")
    found = load(path)
    assert list(found["model"]) == ["fc.weight", "tail", "half", "new"]
    assert found["model"]["fc.weight"].tolist() == [0] * 5
    assert found["model"]["tail"].tolist() == [0, 1, 2]
    assert found["model"]["half"].dtype == torch().bfloat16
    assert found["model"]["new"].tolist() == [7, 7]
    assert "elsewhere" not in found
    with edit(path) as e:
        del e["model", "new"]
        e.rename(("elsewhere", "x"), ("elsewhere", "y"))
    assert list(load(path)["model"]) == ["fc.weight", "tail", "half"]


def test_patterns_delete_all_or_nothing(path: Path) -> None:
    with edit(path) as e:
        with pytest.raises(ValueRangeError, match="lack a part of a value"):
            del e["optimizer/*"]  # one array is an item of a list
        assert sum(record == "optimizer" for record, _ in e) == 2
        del e["*/h*"]
    found = load(path)
    assert list(found["model"]) == ["fc.weight", "tail"]
    assert found["model"]["tail"].tolist() == [0, 1, 2]
    assert list(found["optimizer"]["state"][0]) == ["m"]


def test_a_part_is_deleted_whole(path: Path) -> None:
    with edit(path) as e:
        e.delete_record("optimizer")
        with pytest.raises(KeyError, match="no record of arrays 'optimizer'"):
            e.delete_record("optimizer")
    found = load(path)
    assert list(found) == ["model", "sparse", "epoch"]
    with archive.open(path) as handle:
        assert "optimizer" not in handle.records.array_records


def test_a_cast_leaves_an_optimizer_as_it_is(tmp_path: Path) -> None:
    from archive.interop.torch import load_state, save_model

    make = torch()
    module = make.nn.Linear(2, 1)
    optimizer = make.optim.Adam(module.parameters())
    module(make.ones(1, 2)).sum().backward()
    optimizer.step()
    save_model(module, tmp_path / "m.h5", optimizer=[optimizer, optimizer])
    with edit(tmp_path / "m.h5") as e:
        assert e.cast("bfloat16") == [("model", "weight"), ("model", "bias")]
        e.cast("float16", "optimizer/*.exp_avg")
    found = load_state(tmp_path / "m.h5")
    assert found["model"]["weight"].dtype == make.bfloat16
    assert found["optimizer"][0]["state"][0]["step"].dtype == make.float32
    assert found["optimizer"][1]["state"][0]["exp_avg"].dtype == make.float16


CHANGES: dict[str, Callable[[Any], object]] = {
    "delete an element of a list": lambda e: e.__delitem__(("optimizer", "parts.0")),
    "rename an element of a list": lambda e: e.rename("parts.0", "parts.1"),
    "delete the values of a sparse tensor": lambda e: e.__delitem__(("sparse", "s.values")),
    "rename over another": lambda e: e.rename(("model", "head"), ("model", "half")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_that_the_state_has_no_place_for(path: Path, name: str) -> None:
    before = path.read_bytes()
    with edit(path, path.with_name("out.h5")) as e, pytest.raises(ValueRangeError):
        CHANGES[name](e)
    assert load(path.with_name("out.h5"))["epoch"] == 3
    assert path.read_bytes() == before


def test_without_its_tree_an_archive_is_edited_freely(path: Path) -> None:
    with edit(path) as e:
        del e.configs[STATE]
        e.rename("parts.0", "first")
    assert list(load(path)["optimizer"]) == ["state.0.m", "first"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"version": 2, "tree": "{}"}, VersionError),
        ({"version": 1}, HostileFileError),
        ({"version": 1, "tree": "no JSON"}, HostileFileError),
        ({"version": 1, "tree": '{"$": "dict", "items": [5]}'}, HostileFileError),
        ({"version": 1, "tree": "[" * 20_000 + "]" * 20_000}, HostileFileError),
    ],
)
def test_trees_that_nobody_writes(path: Path, values: dict[str, Any], error: type[Exception]) -> None:
    records = archive.load(path)
    records.config_records[STATE] = archive.ConfigRecord(values)
    archive.save(records, path)
    before = path.read_bytes()
    with pytest.raises(error) as caught, edit(path) as e:
        e.rename("fc.weight", "x")
    assert getattr(caught.value, "path", "") == str(path)
    assert path.read_bytes() == before
