"""``fedarchive info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main

KEYS = [
    "path",
    "container",
    "version",
    "writer",
    "created",
    "context",
    "records",
    "arrays",
    "array_bytes",
    "file_bytes",
    "access",
    "verified",
]


def test_json_says_what_info_says(saved: Path, fedarchive: Any) -> None:
    done = fedarchive("info", saved, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert list(told) == KEYS
    with archive.open(saved) as handle:
        info = handle.info
    assert [tuple(record.values()) for record in told.pop("records")] == list(info.records)
    assert told.pop("context") is None
    assert told == {name: getattr(info, name) for name in told}


def test_lines(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(saved)]) == 0
    told = capsys.readouterr().out
    for part in (str(saved), "recordset", "2025-11-21T08:00:00Z", "arrays/model, 5 arrays", "metrics/fit"):
        assert part in told
    assert f"fedarchive {archive.__version__}" in told
    assert str(saved.stat().st_size) in told


def test_a_context(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = archive.Context(run_id=5, node_id=7, node_config={}, state=archive.RecordDict(), run_config={})
    archive.save(context, saved)
    assert main(["info", str(saved)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["container", "context"] in lines
    assert ["context", "run 5, node 7"] in lines
    assert main(["info", str(saved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["context"] == {"run_id": 5, "node_id": 7}


def test_an_odd_record_name(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.save({"w": np.zeros(1)}, saved, name="a\x1b[2J\n")
    assert main(["info", str(saved)]) == 0
    assert r"arrays/a\x1b[2J\n, 1 arrays" in capsys.readouterr().out


def test_foreign(edited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(edited)]) == 2
    assert "--foreign" not in capsys.readouterr().out
    assert main(["info", str(edited), "--foreign", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arrays"] == 5
    assert told["access"] == "h5py"
    assert "nothing" in told["verified"]
