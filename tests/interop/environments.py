"""Environments with one release of flwr each, and pytest run under their interpreters.

flwr is no dependency of the tests: it pins releases of protobuf and grpc. The variable FEDARCHIVE_FLWR names
environments, as ``/tmp/flwr-1.17:/tmp/flwr-new``; without it the slow tests make their own with pip. To make
one that is kept::

    python -m tests.interop.environments /tmp/flwr-1.17 'flwr==1.17.*'
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
GIVEN = [Path(place) for place in os.environ.get("FEDARCHIVE_FLWR", "").split(os.pathsep) if place]


def parameters(*requirements: str) -> list[Any]:
    """Return the environments of FEDARCHIVE_FLWR as parameters of a fixture, else what pip is to install."""
    return [pytest.param(place, id=place.name) for place in GIVEN] or [
        pytest.param(requirement, id=requirement, marks=pytest.mark.slow) for requirement in requirements
    ]


def find_or_make(place: Path | str, folder: Path) -> Path:
    """Return the interpreter of a given environment, or of one made in a folder; skip without a registry."""
    if isinstance(place, str):
        try:
            make(folder, place)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"pip could not install {place}: {error.stderr.strip()[-300:]}")
        place = folder
    return place / "bin" / "python"


def make(folder: Path, requirement: str) -> None:
    """Make an environment of a requirement and, after its packages on the path, of this interpreter's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "-q"]
    needed = [requirement, "pytest>=9.0", "pytest-timeout>=2.4"]
    subprocess.run([*pip, *needed], capture_output=True, text=True, timeout=1500, check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(packages, "fedarchive-tests.pth").write_text("\n".join(ours))


def environment() -> dict[str, str]:
    """Return the variables of a process under another interpreter: this checkout on its path, Flower offline."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
    }


def run_pytest(python: Path, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Run pytest under an interpreter; standard error is part of its output."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
