"""An archive to look at, and the command run the way a user runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from tests.children import child_environment

CREATED = "2025-11-21T08:00:00Z"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def model() -> archive.RecordSet:
    """Records with one of everything, odd names and values that JSON lacks among them."""
    arrays = {
        "fc.weight": np.arange(12, dtype="f4").reshape(3, 4),
        "evil\x1b[31m\n\u202e\x7f": np.ones(4, ml_dtypes.bfloat16),
        "step": np.array(7, np.int64),
        "empty": np.zeros((0, 3)),
    }
    opaque = archive.Array("", (), "my.own", b"abc")
    record = archive.ArrayRecord({key: archive.Array(array) for key, array in arrays.items()})
    record["opaque"] = opaque
    return archive.RecordSet(
        {"model": record},
        {"fit": archive.MetricRecord({"loss": float("nan"), "accuracy": [0.5, float("inf")], "n": 3})},
        {
            "fit": archive.ConfigRecord({"lr": 0.1, "blob": b"\x00\xff", "none": []}),
            "run": archive.ConfigRecord({"name": "a\x1b[2Jb", "flags": [True, False], "long": "x" * 500}),
        },
    )


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what whoever runs the tests likes to see."""
    for name in ("NO_COLOR", "FORCE_COLOR", "FEDARCHIVE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A good archive."""
    path = tmp_path / "good.h5"
    archive.save(model(), path, created=CREATED)
    return path


@pytest.fixture
def flipped(saved: Path) -> Path:
    """The same with one byte of ``model/fc.weight`` changed."""
    with archive.open(saved) as handle:
        offset = handle["fc.weight"].payload.where[1]  # type: ignore[attr-defined]
    return changed(saved, "flipped.h5", offset + 5)


@pytest.fixture
def cut(saved: Path) -> Path:
    """The first half of it."""
    path = saved.with_name("cut.h5")
    path.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])
    return path


@pytest.fixture
def edited(saved: Path) -> Path:
    """The same after another tool wrote to it."""
    h5py: Any = pytest.importorskip("h5py")
    path = saved.with_name("edited.h5")
    path.write_bytes(saved.read_bytes())
    with h5py.File(path, "r+") as file:
        file["arrays/model"].attrs["note"] = "from a notebook" * 20
    return path


def changed(path: Path, name: str, offset: int) -> Path:
    """Return a copy with one byte flipped."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    copy = path.with_name(name)
    copy.write_bytes(data)
    return copy


@pytest.fixture
def environment() -> dict[str, str]:
    """What the command needs to find this tree, from any folder."""
    return child_environment()


@pytest.fixture
def command() -> list[str]:
    """``fedarchive`` as a process of its own."""
    return [sys.executable, "-W", "error", "-m", "archive"]


@pytest.fixture
def fedarchive(tmp_path: Path, environment: dict[str, str], command: list[str]) -> Run:
    """Run the command in ``tmp_path``, as a process of its own."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {"cwd": tmp_path, "env": environment, **options}
        return subprocess.run(
            [*command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **settings,
        )

    return run
