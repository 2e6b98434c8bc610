"""`flwr run` itself, with the simulation extra: killed by SIGKILL in round 3 of 5, run again, compared.

Needs an environment with flwr's newest release and its simulation extra, see `tests.interop.environments`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import archive
from tests.flower.superlink import Simulation

ROUNDS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def uninterrupted(python: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    with Simulation(python, folder).running() as simulation:
        simulation.submit(ROUNDS)
        return simulation.result() | {"states": states(simulation)}


def states(simulation: Simulation) -> dict[str, Any]:
    """Return the last state that every client kept."""
    found: dict[str, Any] = {}
    store = archive.CheckpointStore(simulation.url)
    for partition in range(simulation.nodes):
        state = store.context(f"partition-{partition}").state
        history: dict[str, Any] = dict(state.metric_records["history"])
        found[str(partition)] = {
            "history": {key: list(values) for key, values in history.items()},
            "momentum": state.array_records["momentum"]["v"].data.hex(),
        }
    return found


def test_killed_in_round_3_and_run_again(python: Path, tmp_path: Path) -> None:
    first, second = (uninterrupted(python, tmp_path / name) for name in ("first", "second"))
    assert first == second, f"the controls differ: {spread(first, second)}"
    (tmp_path / "killed").mkdir()
    simulation = Simulation(python, tmp_path / "killed")
    rounds, contexts = (simulation.url / "default" / name for name in ("rounds", "contexts"))
    with simulation.running():
        simulation.submit(ROUNDS)
        # some clients, not all, have trained in round 3
        simulation.wait(lambda: any(contexts.glob("*/00000003-1-*")))
        processes = simulation.kill()
    assert not simulation.out.exists()
    assert max(path.name for path in rounds.iterdir()) == "00000002.h5"
    ahead = len(list(contexts.glob("*/00000003-1-*")))
    assert 0 < ahead <= simulation.nodes
    with simulation.running():
        simulation.submit(ROUNDS)
        resumed = simulation.result() | {"states": states(simulation)}
    assert "resuming after round 2" in simulation.tail(200_000)
    assert resumed == first
    for state in resumed["states"].values():
        assert state["history"]["rounds"] == [1, 2, 3, 4, 5]
    sys.stdout.write(
        f"two controls and the resumed run agree bit for bit: {first['arrays'][:16]}; {processes} processes "
        f"killed, {ahead} of {simulation.nodes} clients were a round ahead\n"
    )


def spread(first: dict[str, Any], second: dict[str, Any]) -> str:
    return f"arrays begin {first['first']} and {second['first']}; train {first['train']} {second['train']}"
