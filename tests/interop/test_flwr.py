"""Flower's own live objects, as its old and its newest releases make them.

pytest runs the modules of ``flower/live`` under the interpreter of each environment (see `environments`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.environments import find_or_make, parameters, run_pytest

RELEASES = ("flwr==1.13.*", "flwr==1.16.*", "flwr==1.17.*", "flwr")
"""The last with three name spaces that we test, the one between, the first of today's names, the newest."""
MODULES = sorted(Path(__file__).parent.glob("flower/live/test_*.py"))

pytestmark = pytest.mark.timeout(900)  # pip fetches a hundred megabytes


@pytest.fixture(scope="module", params=parameters(*RELEASES))
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_or_make(request.param, tmp_path_factory.mktemp("flwr"))


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=[pytest.mark.slow] if path.stem in ("test_memory", "test_lineage") else [],
        )
        for path in MODULES
    ],
)
def test_live_objects(python: Path, module: Path) -> None:
    done = run_pytest(python, module)
    if done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
        why = done.stdout.splitlines()[-2]
        pytest.skip(why.partition(": ")[2])
    assert done.returncode == 0, done.stdout[-10_000:]
