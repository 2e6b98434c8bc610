"""Which rounds and client states a run goes on from: simulations killed, rewound, and started again.

A client's step depends on how many steps its Context.state knows of (`bitsapp.model`), and every reply has a
checksum of that state: what a run ends with is the control's only where each client found its own state of
the right round. FEDARCHIVE_KILLS is the number of kills for each test and API (2), FEDARCHIVE_RUNS the number
of runs which are to have one digest (2).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import archive
from tests.flower.superlink import Simulation
from tests.flower.verdicts import KILLS, SEED, Result, Verdicts

RUNS = int(os.environ.get("FEDARCHIVE_RUNS", "2"))
ROUNDS = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


class Lineage(Simulation):
    """A simulation whose uninterrupted runs are done once."""

    nodes = 4

    def __init__(self, python: Path, folder: Path, api: str) -> None:
        super().__init__(python, folder, api)
        self.control = cache(self._control)

    def _control(self, rounds: int, fraction: float = 1.0) -> Result:
        self.submit(rounds, experiment=f"control-{rounds}-{fraction}", fraction=fraction)
        return self.result()

    def rounds(self, experiment: str) -> list[int]:
        return [int(path.stem) for path in sorted((self.url / experiment / "rounds").glob("*.h5"))]

    def has_trained(self, experiment: str, number: int) -> bool:
        """Tell whether a client has kept its state of the training of a round."""
        return any((self.url / experiment / "contexts").glob(f"*/{number:08d}-1-*"))


@pytest.fixture(scope="module", params=["messages", "legacy"])
def simulation(
    request: pytest.FixtureRequest, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lineage]:
    with Lineage(python, tmp_path_factory.mktemp(request.param), request.param).running() as started:
        yield started


def killed_and_run_again(
    simulation: Lineage, title: str, rounds: int, at: int, *, fraction: float = 1.0, every: int = 1
) -> None:
    """Kill runs at random moments from the training of round ``at`` on, run them again, and compare."""
    verdicts = Verdicts(simulation.control(rounds, fraction), f"{title}, {simulation.api}")
    draw = random.Random(f"{SEED} {title} {simulation.api}")
    for number in range(KILLS):
        config: dict[str, Any] = {
            "experiment": f"{title.replace(' ', '-')}-{number}",
            "fraction": fraction,
            "every": every,
        }
        mark = len(simulation.log())
        simulation.submit(rounds, **config)
        simulation.wait(lambda: simulation.has_trained(config["experiment"], at))  # noqa: B023 used at once
        time.sleep(later := draw.uniform(0, 1.5))
        simulation.kill_superlink()
        done = simulation.rounds(config["experiment"])
        simulation.start_superlink()
        simulation.submit(rounds, **config)
        found, said = simulation.result_or_none(), simulation.log()[mark:]
        verdicts.add(found, said, f"killed {later:.1f} s after the first state of round {at}, {done} kept")
    print(verdicts)  # noqa: T201 shown by pytest -s


def test_half_of_the_clients_take_part(simulation: Lineage) -> None:
    killed_and_run_again(simulation, "sampling", 8, 5, fraction=0.5)


def test_every_fifth_round_is_saved(simulation: Lineage) -> None:
    killed_and_run_again(simulation, "every fifth", 12, 8, every=5)


def test_two_experiments_on_one_url(simulation: Lineage) -> None:
    control = simulation.control(ROUNDS)
    for experiment, rounds in (("a", 3), ("b", ROUNDS), ("a", ROUNDS)):
        simulation.submit(rounds, experiment=experiment)
        assert (simulation.result() == control) == (rounds == ROUNDS)


@pytest.mark.parametrize("how", ["rewind", "remove"])
def test_rounds_taken_back(simulation: Lineage, how: str) -> None:
    experiment = f"taken-back-{how}"
    simulation.submit(ROUNDS, experiment=experiment, keep_last=ROUNDS)
    assert simulation.result() == simulation.control(ROUNDS)
    store = archive.CheckpointStore(simulation.url, experiment=experiment)
    if how == "rewind":
        store.rewind(2)
    else:
        for number in (3, 4, 5):
            store.remove(number)
    assert store.rounds() == [1, 2]
    mark = len(simulation.log())
    simulation.submit(ROUNDS, experiment=experiment, keep_last=ROUNDS)
    assert simulation.result() == simulation.control(ROUNDS)
    assert "resuming after round 2" in simulation.log()[mark:]


def test_runs_that_are_not_interrupted_have_one_digest(simulation: Lineage) -> None:
    found: list[Any] = []
    for number in range(RUNS):
        simulation.submit(ROUNDS, experiment=f"digest-{number}")
        found.append(simulation.result()["arrays"])
    print(f"{simulation.api}: {RUNS} runs, {len(set(found))} digest: {found[0]}")  # noqa: T201 shown by pytest -s
    assert len(set(found)) == 1


def test_three_servers_start_one_run(simulation: Lineage) -> None:
    mark = len(simulation.log())
    runs = [simulation.submit(ROUNDS, experiment="three") for _ in range(3)]
    for run in runs:
        run.wait(600)
    said = simulation.log()[mark:]
    assert simulation.result() == simulation.control(ROUNDS)
    assert said.count("LockedError: ") == 2, said


def test_a_complete_run_is_started_with_another_setting(simulation: Lineage) -> None:
    simulation.submit(3, experiment="complete")
    first, mark = simulation.result(), len(simulation.log())
    simulation.submit(3, experiment="complete", eta=0.5)
    assert simulation.result() == first
    said = simulation.log()[mark:]
    assert "complete" in said
    assert "eta" in said


def test_fewer_rounds_than_are_done(simulation: Lineage) -> None:
    simulation.submit(4, experiment="fewer")
    simulation.result()
    mark = len(simulation.log())
    simulation.submit(2, experiment="fewer")
    assert simulation.result_or_none() is None
    assert "rewind" in simulation.log()[mark:]
