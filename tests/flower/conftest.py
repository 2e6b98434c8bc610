"""The environment of the tests that run Flower itself: its newest release and its simulation extra."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interop.environments import GIVEN, find_or_make, variables

NEEDED = "import archive, flwr.serverapp.strategy, ray"

collect_ignore_glob = ["app/*", "streamapp/*"]  # Flower loads them, where flwr is


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python that has all that a simulation needs."""
    for place in GIVEN:
        found = place / "bin" / "python"
        needed: list[str | Path] = [found, "-c", NEEDED]
        if not subprocess.run(needed, env=variables(), capture_output=True, check=False).returncode:
            return found
    if GIVEN:
        pytest.skip("no environment of FEDARCHIVE_FLWR has flwr[simulation] and fedarchive's dependencies")
    return find_or_make("flwr[simulation]", tmp_path_factory.mktemp("flwr"))
