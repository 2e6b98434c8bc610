"""A server whose clients reply with 20 MB each: its memory, and its bits when it is killed.

Two nodes get a message for each client (see `quicknode`). FEDARCHIVE_CLIENTS is the number of clients (50) by
which memory is measured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.flower.deployment import Deployment
from tests.flower.superlink import Simulation, wait_for

CLIENTS = int(os.environ.get("FEDARCHIVE_CLIENTS", "50"))
MODEL_MB = 20
LIMIT_MB = MODEL_MB + 64
APP = Path(__file__).parent / "streamapp"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


class Quick(Deployment):
    """A SuperLink and its ServerApp as in any deployment; of the nodes each is one process."""

    def start_supernode(self, partition: int) -> None:
        before = self.log().count("SuperNode ID:")
        node = Path(__file__).with_name("quicknode.py")
        self._supernodes[partition] = self.spawn(["python", str(node), f"127.0.0.1:{self.port}"])
        wait_for(lambda: self.log().count("SuperNode ID:") > before, 90, self.tail)


@contextmanager
def deployment(python: Path, folder: Path) -> Iterator[Deployment]:
    done = folder / "done"
    done.mkdir(parents=True)
    made = Quick(python, folder, app=APP, STREAMAPP_SCRATCH=str(folder / "scratch"), STREAMAPP_DONE=str(done))
    with made.running() as running:
        yield running


def test_memory_does_not_grow_with_clients(python: Path, tmp_path: Path) -> None:
    rises, means = {}, {}
    with deployment(python, tmp_path) as server:
        for name, streaming in (("Streaming", True), ("FedAvg", False)):
            server.submit(1, clients=CLIENTS, megabytes=MODEL_MB, streaming=streaming)
            found = server.result(3600)
            rises[name], means[name] = found["rise"], found["mean"]
    sys.stdout.write(
        f"{CLIENTS} clients of {MODEL_MB} MB: RssAnon of the ServerApp rises by {rises['Streaming']:.0f} MB "
        f"with Streaming, by {rises['FedAvg']:.0f} MB with Flower's FedAvg\n"
    )
    assert means["Streaming"] == pytest.approx(means["FedAvg"], rel=1e-6)
    assert rises["FedAvg"] > CLIENTS * MODEL_MB / 2
    assert rises["Streaming"] <= LIMIT_MB


def test_killed_in_round_2_and_run_again(python: Path, tmp_path: Path) -> None:
    clients, config = 8, {"clients": 8, "megabytes": 2}
    with deployment(python, tmp_path) as server:
        server.submit(2, experiment="control", **config)
        control = server.result()
        for mark in (tmp_path / "done").iterdir():
            mark.unlink()
        server.submit(2, experiment="killed", **config)
        server.wait(lambda: len(list((tmp_path / "done").glob("2-*"))) >= clients // 2, 600)
        assert server.kill_serverapp() == 1
        server.stop_runs()
        assert not server.out.exists()
        rounds = tmp_path / "checkpoints/killed/rounds"
        assert [path.name for path in rounds.glob("*.h5")] == ["00000001.h5"]
        server.submit(2, experiment="killed", **config)
        resumed = server.result()
        assert "resuming after round 1" in server.log()
    assert {key: resumed[key] for key in ("arrays", "metrics")} == {
        key: control[key] for key in ("arrays", "metrics")
    }
    assert list((tmp_path / "scratch").glob("*.h5")) == [], "what the killed run left there is gone"


def test_a_simulation_is_killed_in_round_2_and_run_again(python: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    simulation = Simulation(python, tmp_path, BITSAPP_SCRATCH=str(scratch))
    with simulation.running():
        simulation.submit(3, experiment="control")
        control = simulation.result()
        simulation.submit(3, experiment="killed")
        trained = simulation.url / "killed/contexts"
        simulation.wait(lambda: any(trained.glob("*/00000002-1-*")))
        simulation.kill_superlink()
        assert not simulation.out.exists()
        simulation.start_superlink()
        simulation.submit(3, experiment="killed")
        assert simulation.result() == control
        assert "resuming after round 1" in simulation.log()
    assert [path.name for path in scratch.iterdir()] == ["writer.lock"]
