"""``fedarchive demo``: the whole main job, from an empty folder."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.cli import main
from archive.cli.training import train


def test_in_an_empty_folder(tmp_path: Path, fedarchive: Any) -> None:
    done = fedarchive("demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["fedarchive-demo.h5"]
    told = done.stdout
    assert len(told.splitlines()) < 60
    assert max(map(len, told.splitlines())) < 200
    for part in ("round  6", "Saved:", "Opened in", "Verified: ok", "'model/fc2.weight'", "fc1.weight.bf16"):
        assert part in told
    assert str(tmp_path / "fedarchive-demo.h5") in told


def test_the_archive_holds_the_trained_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demo.h5"
    assert main(["demo", "--out", str(path), "--rounds", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["rounds", "path", "save", "open_seconds", "arrays", "verify", "damage"]
    assert told["verify"]["ok"] is True
    assert told["damage"]["array"] == "model/fc2.weight"
    *_, last = train(2)
    assert [after["round"] for after in told["rounds"]] == [1, 2]
    assert told["rounds"][-1]["accuracy"] == last.accuracy
    with archive.open(path) as handle:
        for key, weights in last.weights.items():
            assert (handle[key].numpy() == weights).all()
        assert handle["fc1.weight.bf16"].numpy().dtype == ml_dtypes.bfloat16
        assert handle["step"].numpy()[()] == last.steps
        assert handle["step"].shape == ()
        accuracy = handle.records.metric_records["test"]["accuracy"]
        assert isinstance(accuracy, list)
        assert accuracy[-1] == last.accuracy


def test_again_replaces_its_own_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demo.h5"
    for rounds in ("1", "2"):
        assert main(["demo", "--out", str(path), "--rounds", rounds, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["rounds"]) == int(rounds)


@pytest.mark.parametrize("content", [b"", b"thesis\n" * 2000, None])
def test_another_file_is_left_alone(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "thesis.h5"
    if content is None:
        archive.save({"round": np.array(80)}, path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    assert main(["demo", "--out", str(path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rounds", "1", "--out", str(tmp_path / "no" / "demo.h5")]) == 2
    assert "the folder does not exist" in capsys.readouterr().err


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        assert main(["demo", "--rounds", "1", "--out", str(tmp_path / "demo.h5")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr().err
    assert "File too large" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_h5ls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["demo", "--rounds", "1", "--out", str(tmp_path / "demo.h5")]) == 0
    told = capfd.readouterr().out
    assert "visititems" in told
    assert 'arrays/model/step <HDF5 dataset "step": shape (), type "<i8">' in told
    assert "-m archive verify" in told


def test_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--rounds", "1", "--out", "memory://demo/demo.h5"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("name a path with --out\n")
