"""Flower's strategies and clients, stopped by SIGKILL and resumed, under its old and its newest release.

flwr is no dependency of the tests. Environments with one each are named in FEDARCHIVE_FLWR, as
``/tmp/flwr-1.17:/tmp/flwr-new``; without it the slow tests make their own. Under each run three programs:
``resume_child`` (every strategy), ``checks_child`` (everything else) and ``memory_child``.
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

from tests.interop.test_flwr import GIVEN, ROOT, RUN, installed

HERE = Path(__file__).parent
RELEASES = ("flwr==1.17.*", "flwr")
LEGACY = [
    *("FedAvg", "FedAvg without evaluation", "FedAdam", "FedYogi", "FedAvgM", "QFedAvg"),
    *("DP server fixed", "DP server adaptive"),
    *("SCAFFOLD", "client-level DP", "adaptive constraint", "dynamic layers", "sparse"),
]
MESSAGE = [
    *("FedAvg", "FedAvg of a sample", "FedAvg without evaluation", "FedAdagrad", "FedAdam", "FedYogi"),
    *("FedAvgM", "FedProx", "FedMedian", "QFedAvg", "DP server fixed", "DP server adaptive"),
    *("DP client fixed", "DP client adaptive", "yours"),
]
MEMORY_MB = 32
"""What a persisted state may add to a client, however large it is."""

pytestmark = pytest.mark.timeout(900)

Report = dict[str, Any]


@pytest.fixture(
    scope="module",
    params=[pytest.param(place, id=place.name) for place in GIVEN]
    or [pytest.param(release, id=release, marks=pytest.mark.slow) for release in RELEASES],
)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if isinstance(request.param, str):
        return installed(request.param, tmp_path_factory.mktemp("flwr"))
    found: Path = request.param / "bin" / "python"
    old = "from flwr.common import RecordDict"
    if subprocess.run([found, "-c", old], capture_output=True, check=False).returncode:
        pytest.skip(f"{request.param.name} has a flwr before 1.17")
    return found


def run_child(python: Path, name: str, *arguments: str) -> Report:
    """Run a program with the repository and our dependencies at the end of its path."""
    asked = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
    )
    same = asked.stdout.split() == [str(part) for part in sys.version_info[:2]]
    paths = [str(ROOT), *({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} if same else ())]
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
    done = subprocess.run(
        [python, "-c", WITH_ARGUMENTS, HERE / name, json.dumps(list(arguments)), json.dumps(paths)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: Report = json.loads(done.stdout.splitlines()[-1])
    return found


WITH_ARGUMENTS = RUN.replace(
    "sys.argv.pop(0);", "given = json.loads(sys.argv.pop()); sys.argv.pop(0); sys.argv += given;"
)


@pytest.fixture(scope="module")
def resumed(python: Path) -> Report:
    return run_child(python, "resume_child.py")


@pytest.fixture(scope="module")
def checked(python: Path) -> Report:
    return run_child(python, "checks_child.py")


def require_ok(report: Report, name: str) -> None:
    result = report["results"][name]
    if result.startswith("skip: "):
        pytest.skip(f"flwr {report['versions']['flwr']}: {result[6:]}")
    assert result == "ok", f"{report['versions']}\n{result}"


@pytest.mark.parametrize("name", LEGACY)
def test_old_api_resumes_bit_for_bit(resumed: Report, name: str) -> None:
    require_ok(resumed, f"legacy: {name}")


@pytest.mark.parametrize("name", MESSAGE)
def test_message_api_resumes_bit_for_bit(resumed: Report, name: str) -> None:
    if not any(found.startswith("message: ") for found in resumed["results"]):
        pytest.skip(f"flwr {resumed['versions']['flwr']} has no message-based strategies")
    require_ok(resumed, f"message: {name}")


def test_every_strategy_was_run(resumed: Report) -> None:
    expected = {f"legacy: {name}" for name in LEGACY}
    if any(found.startswith("message: ") for found in resumed["results"]):
        expected |= {f"message: {name}" for name in MESSAGE}
    assert set(resumed["results"]) == expected


def test_checks(checked: Report) -> None:
    assert checked["results"]
    failed = {n: r for n, r in checked["results"].items() if r != "ok" and not r.startswith("skip: ")}
    assert not failed, "\n".join([str(checked["versions"]), *failed.values()])


@pytest.mark.slow
def test_half_a_gigabyte_of_state(python: Path) -> None:
    """The mod adds next to nothing; what Flower makes of an array that an app creates is its own."""
    report = run_child(python, "memory_child.py", "512")
    sys.stdout.write(json.dumps(report) + "\n")
    ours = ("mod, app looks", "mod, app notes", "mod, app reads", "mod, state made by the app")
    for name in (*ours, "to_flower, numpy() of all"):
        assert report[name]["peak"] < MEMORY_MB, (name, report)
    # one array of 64 MB, or of its 20 MB chunks, passes through Flower's serialisation at a time
    assert report["message, to_flower"]["peak"] < 160 < 500 < report["message, Flower's arrays"]["peak"]
