"""Keys as a tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.cli.keytree import tree_lines


def array(key: str, nbytes: int = 4, record: str = "model") -> dict[str, object]:
    return {"record": record, "key": key, "dtype": "int8", "shape": [nbytes], "nbytes": nbytes}


def test_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = {
        **{f"encoder.{layer}.{part}": np.zeros(4, "f4") for layer in range(2) for part in ("bias", "weight")},
        "head.weight": np.zeros(1000, "f4"),
    }
    archive.save(layers, tmp_path / "m.h5", metrics={"loss.test": 0.5})
    assert main(["ls", str(tmp_path / "m.h5"), "--tree"]) == 0
    assert (
        capsys.readouterr().out
        == """\
model               4.0 KiB   5 arrays
├── encoder         64 bytes  4 arrays
│   ├── 0           32 bytes  2 arrays
│   │   ├── bias    16 bytes  float32 (4,)
│   │   └── weight  16 bytes  float32 (4,)
│   └── 1           32 bytes  2 arrays
│       ├── bias    16 bytes  float32 (4,)
│       └── weight  16 bytes  float32 (4,)
└── head.weight     3.9 KiB   float32 (1000,)
metrics
└── loss.test                 0.5
"""
    )


def test_a_name_that_begins_another() -> None:
    assert [line.split()[:2] for line in tree_lines([array("fc"), array("fc.weight"), array("fc.bias")])] == [
        ["model", "12"],
        ["└──", "fc"],
        ["├──", "weight"],
        ["└──", "bias"],
    ]


def test_hostile_names() -> None:
    lines = tree_lines([array("." * 100_000), array("a\x1b[2J.b\n"), array(""), array("", record="a.b")])
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    nested = tree_lines([array(".".join("a" * depth)) for depth in range(1, 500)])
    assert len(nested) == 500
