"""Environments with one release of flwr each, and pytest run under their interpreters.

flwr is no dependency of the tests: it pins releases of protobuf and grpc. The variable FEDARCHIVE_FLWR names
environments, as ``/tmp/flwr-1.17:/tmp/flwr-new``; without it the slow tests make their own with pip. To make
an environment that is kept::

    python -m tests.interop.environments /tmp/flwr-1.17 'flwr==1.17.*'

Any environment with pytest, pytest-timeout, hypothesis and the dependencies of fedarchive will do.
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
    python = place / "bin" / "python"
    subprocess.run([python, "-c", "import archive, flwr, pytest"], env=variables(), check=True)
    return python


def make(folder: Path, requirement: str) -> None:
    """Make an environment of a requirement and pytest.

    The packages of this interpreter, fedarchive's dependencies and torch among them, come after its own.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--disable-pip-version-check",
        "install",
        "-q",
    ]
    needed = [requirement, "pytest>=9.0", "pytest-timeout>=2.4"]
    subprocess.run([*pip, *needed], capture_output=True, text=True, timeout=1500, check=True)
    base = {"base": str(folder), "platbase": str(folder)}
    own = sysconfig.get_path("purelib", "venv", base)
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(own, "fedarchive-tests.pth").write_text("\n".join(ours))


def variables() -> dict[str, str]:
    """Return the environment variables of another interpreter: this checkout on its path, Flower offline."""
    offline = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    return os.environ | {"PYTHONPATH": str(ROOT), **offline}


def run_pytest(python: Path, module: Path) -> subprocess.CompletedProcess[str]:
    """Run a module's tests under an interpreter; standard error is part of the output."""
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", module]
    to = subprocess.PIPE
    return subprocess.run(
        command, cwd=ROOT, env=variables(), text=True, check=False, stdout=to, stderr=subprocess.STDOUT
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2])
