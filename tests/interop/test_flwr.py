"""Flower's own live objects, as its old and its newest release make them.

flwr is no dependency of the tests: it has its own ideas about protobuf and grpc. Environments with one
each are named in FEDARCHIVE_FLWR, as ``/tmp/flwr-1.17.0:/tmp/flwr-new``; without it the slow tests make
their own. Under each runs flwr_child.py, with this Python's packages behind those that flwr brought.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.interop import flwr_child

ROOT = Path(__file__).parents[2]
CHILD = Path(flwr_child.__file__)
RELEASES = ("flwr==1.13.*", "flwr==1.16.*", "flwr==1.17.*", "flwr")
"""The last with three name spaces that we test, the one between, the first of today's names, the newest."""
GIVEN = [Path(place) for place in os.environ.get("FEDARCHIVE_FLWR", "").split(os.pathsep) if place]
RUN = (
    "import json, runpy, sys; paths = json.loads(sys.argv.pop()); sys.argv.pop(0); sys.path += paths; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)

pytestmark = pytest.mark.timeout(900)  # pip fetches a hundred megabytes

Report = dict[str, Any]


@pytest.fixture(
    scope="module",
    params=[pytest.param(place, id=place.name) for place in GIVEN]
    or [pytest.param(release, id=release, marks=pytest.mark.slow) for release in RELEASES],
)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What the child says under one flwr."""
    if isinstance(request.param, Path):
        return run_child(request.param / "bin" / "python")
    return run_child(installed(request.param, tmp_path_factory.mktemp("flwr")))


def installed(release: str, folder: Path) -> Path:
    """Return the Python of a new environment with a release of flwr, and skip where there is no registry."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "-q"]
    made = subprocess.run([*pip, release], capture_output=True, text=True, timeout=800, check=False)
    if made.returncode:
        pytest.skip(f"pip could not install {release}: {made.stderr.strip()[-300:]}")
    return python


def run_child(python: Path) -> Report:
    """Run the child with the repository and our dependencies at the end of its path."""
    asked = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
    )
    # extension modules are those of one Python; an environment of another has to bring h5py and the rest
    same = asked.stdout.split() == [str(part) for part in sys.version_info[:2]]
    paths = [str(ROOT), *({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} if same else ())]
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
    done = subprocess.run(
        [python, "-c", RUN, CHILD, json.dumps(paths)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: Report = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", flwr_child.names())
def test_flower(report: Report, name: str) -> None:
    result = report["results"][name]
    if result.startswith("skip: "):
        pytest.skip(f"flwr {report['versions']['flwr']}: {result[6:]}")
    assert result == "ok", f"{report['versions']}\n{result}"


def test_every_check_was_run(report: Report) -> None:
    assert list(report["results"]) == flwr_child.names()
