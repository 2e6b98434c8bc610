"""Runs killed at random moments with half of the clients selected: equal to the uninterrupted run.

The number of moments is that of the environment variable FEDARCHIVE_KILLS, by default three.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import archive
from archive.checkpoints.lineage import Version
from archive.interop.flower.contexts import NodeContexts
from archive.interop.flower.letters import KEY
from archive.interop.flower.nodestate import REFERENCE
from archive.storage.url import Location
from tests.interop.flower.live import legacyruns
from tests.interop.flower.live.killing import assert_same, forked, seed_all
from tests.interop.flower.live.names import require_today

require_today()

ROUNDS = 9
KILLS = int(os.environ.get("FEDARCHIVE_KILLS", "3"))
MESSAGES = 2 * ROUNDS * 3
"""About as many as a run sends."""


def legacy(url: str, run_id: int, trap: Any, **options: Any) -> dict[str, Any]:
    name = "FedAvgM of a sample"
    return legacyruns.run(name, url, ROUNDS, run_id, trap, **options)


def messages(url: str, run_id: int, trap: Any, **options: Any) -> dict[str, Any]:
    runs = pytest.importorskip("tests.interop.flower.live.messageruns")
    found: dict[str, Any] = runs.run("FedAvgM", url, ROUNDS, run_id, trap, **options)
    return found


def require(run: Callable[..., Any]) -> None:
    if run is messages:
        pytest.importorskip("flwr.serverapp.strategy")


def started(
    run: Callable[..., Any], url: Path, run_id: int, moment: int, **options: Any
) -> Callable[[], Any]:
    """Return a start of the server that is killed before its message of this number; 0: never."""
    left = [moment]

    def trap(partition: int, message: Any) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    def start() -> Any:
        # a resumed run restores the generators; one that begins anew has the script's seed
        seed_all(run_id if list((url / options.get("experiment", "default")).glob("rounds/*.h5")) else 1)
        result = run(str(url), run_id, trap, deterministic=True, **options)
        result["states"] = states(result.pop("contexts"), url)
        return result

    return start


def states(contexts: dict[int, Any], url: Path) -> dict[str, Any]:
    """Return the state that each node would go on from after the last round."""
    found: dict[str, Any] = {}
    for partition, context in enumerate(contexts.values()):
        node = f"partition-{partition}"
        record = context.state.config_records.get(REFERENCE)
        if record is not None:
            version = Version(*(record[name] for name in Version._fields))
            state: Any = NodeContexts(Location(str(url)), record["experiment"]).open(node, version).state
            found[node] = {
                name: {k: getattr(v, "data", v) for k, v in values.items()} for name, values in state.items()
            }
    return found


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("run", [messages, legacy])
def test_killed_at_random_moments(tmp_path: Path, run: Callable[..., Any], every: int) -> None:
    require(run)
    _, expected = forked(started(run, tmp_path / "whole", 1, 0, every=every), tmp_path)
    generator = random.Random(every)
    killed = 0
    for number in range(KILLS):
        url = tmp_path / f"killed-{number}"
        run_id = 2
        for _ in range(3):
            moment = generator.randrange(2, MESSAGES)
            status, found = forked(started(run, url, run_id, moment, every=every), tmp_path)
            run_id += 1
            if status == 0:
                break
            killed += 1
        else:
            _, found = forked(started(run, url, run_id, 0, every=every), tmp_path)
        for node, state in found.pop("states").items():
            assert_same(expected["states"][node], state, f"{url.name}: state of {node}")
        assert_same({k: v for k, v in expected.items() if k != "states"}, found, url.name)
    assert killed >= KILLS


@pytest.mark.parametrize("run", [messages, legacy])
def test_experiments_of_one_folder_share_nothing(tmp_path: Path, run: Callable[..., Any]) -> None:
    require(run)
    _, expected = forked(started(run, tmp_path / "whole", 1, 0), tmp_path)
    url = tmp_path / "shared"
    status, _ = forked(started(run, url, 2, 20, experiment="a"), tmp_path)
    assert os.WTERMSIG(status) == signal.SIGKILL
    _, other = forked(started(run, url, 3, 0, experiment="b"), tmp_path)
    _, found = forked(started(run, url, 4, 0, experiment="a"), tmp_path)
    for result in (other, found):
        for node, state in result.pop("states").items():
            assert_same(expected["states"][node], state, node)
        assert_same({k: v for k, v in expected.items() if k != "states"}, result, "shared")


@pytest.mark.parametrize("run", [messages, legacy])
def test_a_run_goes_back(tmp_path: Path, run: Callable[..., Any]) -> None:
    require(run)
    _, expected = forked(started(run, tmp_path, 1, 0, keep_last=None), tmp_path)
    store = archive.CheckpointStore(tmp_path / "default")
    for number in range(ROUNDS, 4, -1):
        store.remove(number)
    _, found = forked(started(run, tmp_path, 2, 0, keep_last=None), tmp_path)
    for node, state in found.pop("states").items():
        assert_same(expected["states"][node], state, node)
    assert_same({k: v for k, v in expected.items() if k != "states"}, found, "gone back")


@pytest.mark.parametrize("run", [messages, legacy])
def test_deterministic_runs_end_with_the_same_bits(tmp_path: Path, run: Callable[..., Any]) -> None:
    require(run)
    found = [forked(started(run, tmp_path / str(n), n, 0), tmp_path)[1] for n in (1, 2, 3)]
    for other in found[1:]:
        assert_same(found[0], other, "another run")
    _, seeded = forked(lambda: run(str(tmp_path / "s"), 4, None, deterministic=7), tmp_path)
    assert seeded["arrays"] != found[0]["arrays"]


@pytest.mark.parametrize("run", [messages, legacy])
def test_messages_to_known_nodes_do_not_list_all_nodes(tmp_path: Path, run: Callable[..., Any]) -> None:
    require(run)
    sizes = []

    def trap(partition: int, message: Any) -> None:
        values = next(iter(message.content.config_records.values()))
        sizes.append(len(values[KEY]))

    run(str(tmp_path), 1, trap)
    assert len(sizes) > 40
    assert max(sizes) - min(sizes) < 20  # the four nodes have eight letters each
