"""Whose an archive of a store is: what it says itself, and what its path says where it cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.checkpoints.paths import client_path, context_path, round_path
from archive.tools.provenance import Provenance, provenance_columns, provenance_of
from archive.tools.spelling import CHECKPOINT, spell

NAMES = ["Berlin", "Köln/A", "", "..", "=", "rounds", "x" * 120]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", ["", "0123456789abcdef"])
def test_a_path_of_the_store_is_read_back(name: str, write: str) -> None:
    path = f"/runs/adam/{client_path(7, spell(name), write)}"
    shortened = len(f"{spell(name)}=={write}") > 128
    client = None if write and shortened else name
    assert provenance_of(path, None) == Provenance("adam", 7, client)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/runs/adam/{round_path(7)}", Provenance("adam", 7)),
        (f"s3://bucket/{round_path(7)}", Provenance("bucket", 7)),
        (f"/a:b/{context_path('n')}", Provenance("a:b")),
        (f"/{round_path(7)}", Provenance()),
        (f"memory://{round_path(7)}", Provenance(None, 7)),
        ("/runs/adam/rounds/7.h5", Provenance()),
        ("/runs/adam/rounds/00000007/deep/a.h5", Provenance()),
        ("/rounds/00000001/adam/rounds/00000007.h5", Provenance("adam", 7)),
        ("/runs/adam/rounds/00000007/=zz.h5", Provenance("adam", 7)),
        ("/m.h5", Provenance()),
    ],
)
def test_what_a_path_says(path: str, found: Provenance) -> None:
    assert provenance_of(path, None) == found


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        ({"round": 3, "client": "Oslo"}, Provenance("adam", 3, "Oslo")),
        ({"round": "3", "client": "=zz"}, Provenance("adam")),
        ({"round": True, "client": 5}, Provenance("adam")),
        ({}, Provenance()),
    ],
)
def test_the_archive_says_it_and_not_its_path(marks: dict[str, Any], found: Provenance) -> None:
    row: Any = {("configs", CHECKPOINT, key): value for key, value in marks.items()}
    assert provenance_of(f"/runs/adam/{round_path(7)}", row) == found


def test_columns_that_no_archive_has_are_left_out() -> None:
    assert list(provenance_columns([Provenance(), Provenance()])) == []
    columns = provenance_columns([Provenance("a", 1), Provenance(None, None)])
    assert list(columns) == ["run", "round"]
    assert np.array_equal(columns["round"], [1, np.nan], equal_nan=True)
    assert columns["run"].tolist() == ["a", None]


def test_a_relative_pattern_knows_the_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ("adam", "sgd"):
        store = archive.CheckpointStore(tmp_path / run)
        store.save({}, 1, client="Köln", metrics={"loss": 0.5})
        store.save({}, 1, metrics={"loss": 0.5})
    monkeypatch.chdir(tmp_path / "adam/rounds")
    assert archive.table("*.h5")["run"].tolist() == ["adam"]
    found = archive.table(f"{tmp_path}/*/rounds/**/*.h5")
    assert found["run"].tolist() == ["adam", "adam", "sgd", "sgd"]
    assert sorted(found["client"], key=str) == ["Köln", "Köln", None, None]
