"""The app of examples/flower: killed in round 4, run again, and its best model loaded by its own script."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

import archive
from tests.flower.superlink import Simulation

EXAMPLE = Path(__file__).parents[2] / "examples/flower"
ROUNDS = 6

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def example(python: Path, folder: Path) -> Simulation:
    folder.mkdir()
    return Simulation(python, folder, app=EXAMPLE, DIGITS_RUNS=str(folder / "runs"))


def run_to_its_end(simulation: Simulation) -> dict[str, Any]:
    assert simulation.submit(ROUNDS).wait(600) == 0
    store = archive.CheckpointStore(simulation.folder / "runs")
    with store.open("latest") as last:
        arrays = {
            name: array.numpy().tobytes() for name, array in last.records.array_records["model"].items()
        }
    return {"arrays": arrays, "loss": store.history()["server/loss"].tolist()}


def test_example_is_killed_in_round_4_and_run_again(python: Path, tmp_path: Path) -> None:
    with example(python, tmp_path / "control").running() as simulation:
        control = run_to_its_end(simulation)
    with example(python, tmp_path / "killed").running() as simulation:
        simulation.submit(ROUNDS)
        simulation.wait((tmp_path / "killed/runs/default/rounds/00000003.h5").exists)
        simulation.kill_superlink()
        simulation.start_superlink()
        assert run_to_its_end(simulation) == control
        assert "resuming after round 3" in simulation.log()
    shown = subprocess.run(
        [python, EXAMPLE / "best.py"],
        env=simulation.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    print(shown.stdout)  # noqa: T201 shown by pytest -s
    assert "best model" in shown.stdout
