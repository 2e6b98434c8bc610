"""``fedarchive extract``: one layer for other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from archive.cli.dispatch import main


def test_one_layer_in_each_format(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("npy", "csv", "npz", "safetensors"):
        out = tmp_path / f"w.{suffix}"
        assert main(["extract", str(saved), str(out), "fc.weight", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["arrays"] == 1
    assert np.load(tmp_path / "w.npy").tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert (tmp_path / "w.csv").read_text() == "0.0,1.0,2.0,3.0\n4.0,5.0,6.0,7.0\n8.0,9.0,10.0,11.0\n"


def test_mistakes(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(saved), str(tmp_path / "w.csv"), "fc.wieght"]) == 2
    assert "fc.wieght" in capsys.readouterr().err
    assert main(["extract", str(saved), str(tmp_path / "w.npy")]) == 2
    assert "arrays for one .npy" in capsys.readouterr().err
    assert main(["extract", str(saved), str(tmp_path / "w.xyz"), "fc.weight"]) == 2
    assert not [path for path in tmp_path.iterdir() if path != saved]
