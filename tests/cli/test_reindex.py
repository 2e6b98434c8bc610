"""``fedarchive reindex``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import archive
from archive.cli import main


def test_to_another_file(saved: Path, edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = edited.read_bytes()
    out = edited.with_name("again.h5")
    assert main(["reindex", str(edited), str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert edited.read_bytes() == before
    assert archive.verify(out)
    # the edit gave the record an attribute, which is kept
    assert dict(archive.load(out)["model"]) == dict(archive.load(saved)["model"])


def test_in_place(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reindex", str(edited), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["path", "arrays", "array_bytes", "file_bytes", "seconds", "digest"]
    assert told["path"] == str(edited)
    assert archive.verify(edited)


def test_no_hdf5_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing of interest\n")
    assert main(["reindex", str(notes)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert notes.read_text() == "nothing of interest\n"
