"""SuperLink, SuperNodes and ServerApp killed by SIGKILL at random moments, brought back, and run again.

FEDARCHIVE_KILLS is the number of kills for each API (2), FEDARCHIVE_SEED the seed of the moments.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.flower.deployment import Deployment
from tests.flower.verdicts import KILLS, SEED, Verdicts

ROUNDS = 4
VICTIMS = ("superlink", "supernode and serverapp", "serverapp", "supernode")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("api", ["messages", "legacy"])
def test_each_process_is_killed_and_brought_back(python: Path, tmp_path: Path, api: str) -> None:
    draw = random.Random(f"{SEED} {api}")
    with Deployment(python, tmp_path, api).running() as deployment:
        started = time.monotonic()
        deployment.submit(ROUNDS, experiment="control", evaluate=False)
        verdicts = Verdicts(deployment.result(), f"deployment, {api}")
        seconds = time.monotonic() - started
        for number in range(KILLS):
            victim = VICTIMS[number % len(VICTIMS)]
            experiment, mark = f"{number}-{victim.replace(' ', '-')}", len(deployment.log())
            rounds = deployment.url / experiment / "rounds"
            deployment.submit(ROUNDS, experiment=experiment, evaluate=False)
            deployment.wait((rounds / "00000001.h5").exists)
            done = wait_for_moment(rounds, later := draw.uniform(0, seconds * (ROUNDS - 1.5) / ROUNDS))
            if not kill(deployment, victim, draw.randrange(deployment.nodes)):
                deployment.submit(ROUNDS, experiment=experiment, evaluate=False)
            found, said = deployment.result_or_none(), deployment.log()[mark:]
            verdicts.add(found, said, f"{victim} killed {later:.1f} s after round 1, {done} rounds done")
    print(verdicts)  # noqa: T201 shown by pytest -s


def wait_for_moment(rounds: Path, seconds: float) -> int:
    """Wait for a moment, but not for the last round; return how many rounds are done."""
    deadline = time.monotonic() + seconds
    while (done := len(list(rounds.glob("*.h5")))) < ROUNDS - 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


def kill(deployment: Deployment, victim: str, partition: int) -> bool:
    """SIGKILL a process and bring it back; return whether the run goes on without being run again.

    A message that was at work in a killed SuperNode is not delivered to the one that comes back: after a
    minute Flower gives the ServerApp an error in its place, and the round goes on without this client.
    """
    if victim == "superlink":
        deployment.kill_superlink()
        deployment.start_superlink()
    if "supernode" in victim:
        deployment.kill_supernode(partition)
        deployment.start_supernode(partition)
    if "serverapp" in victim:
        assert deployment.kill_serverapp() == 1
        deployment.stop_runs()
    return victim == "supernode"
