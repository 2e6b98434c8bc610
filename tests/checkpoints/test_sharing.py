"""Several processes save, prune and read one store: no round is damaged, no answer is empty."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ExistsError, MissingError
from tests.checkpoints.sharers import CLIENTS, READERS_FROM, arrays
from tests.children import ROOT
from tests.faults.conftest import environment, figures
from tests.servers.s3 import BUCKET, s3_server

__all__ = ["figures"]  # a fixture
Places = Callable[[], archive.CheckpointStore]


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Open one store again and again: a folder, memory, or a bucket."""
    if request.param == "local":
        yield lambda: archive.CheckpointStore(tmp_path)
    elif request.param == "memory":
        url = f"memory://{uuid.uuid4().hex}"
        yield lambda: archive.CheckpointStore(url)
    else:
        pytest.importorskip("moto", reason="moto[server] is not installed")
        with s3_server() as server:
            options = server.options()
            yield lambda: archive.CheckpointStore(f"s3://{BUCKET}/sharing", storage_options=options)


def test_a_late_client_replaces_no_file_of_a_round(opened: Places) -> None:
    """Another process publishes the round while a client's file is written."""
    store, late = opened(), opened()
    store.save({"c": np.zeros(3)}, 1, client="a")

    def arrays() -> Iterator[tuple[str, Any]]:
        yield "c", np.ones(3)
        store.save({"w": np.zeros(3)}, 1)

    with pytest.raises(ExistsError, match="round 1 is there already") as caught:
        late.save(arrays(), 1, client="a")
    assert caught.value.remedy
    assert store.verify(1)
    assert store.open(1, client="a")["c"].numpy().tolist() == [0, 0, 0]
    assert store.gc(0) == [], "the late file is gone"


def test_two_processes_of_one_client_keep_both_files(opened: Places) -> None:
    stores = [opened(), opened()]
    for number, store in enumerate(stores):
        store.save({"c": np.full(3, number)}, 1, client="a")
    stores[0].save({"w": np.zeros(3)}, 1)
    with pytest.raises(ExistsError):
        stores[1].save({"w": np.zeros(3)}, 1)
    assert stores[1].verify(1)
    assert stores[1].open(1, client="a")["c"].numpy().tolist() == [0, 0, 0]
    assert len(opened().gc(0)) == 1
    assert stores[1].verify(1)


def test_two_files_at_the_same_moment(opened: Places) -> None:
    """Of two clients that find the same free name, the second is refused; the first keeps its file."""
    store, late = opened(), opened()

    def arrays() -> Iterator[tuple[str, Any]]:
        yield "c", np.ones(3)
        store.save({"c": np.zeros(3)}, 1, client="a")

    with pytest.raises(ExistsError) as caught:
        late.save(arrays(), 1, client="a")
    assert "again" in str(caught.value.remedy)
    late.save({"c": np.ones(3)}, 1, client="a")
    store.save({"w": np.zeros(3)}, 1)
    assert store.open(1, client="a")["c"].numpy().tolist() == [0, 0, 0]


def test_a_round_that_is_saved_again_while_its_files_are_removed(opened: Places) -> None:
    """Names are used again after a round was removed; what was named before does not count."""
    store = opened()
    for number in range(3):
        store.save({"c": np.full(3, number)}, 1, client="a")
        store.save({"w": np.full(3, number)}, 1)
        assert store.verify(1)
        assert store.open(1, client="a")["c"].numpy().tolist() == [number] * 3
        store.remove(1)
    assert store.rounds() == []
    with pytest.raises(MissingError):
        store.verify(1)


def share(
    url: str, writers: int, readers: int, seconds: float, options: dict[str, Any] | None = None
) -> tuple[Counter[str], list[str]]:
    """Let processes share a store; return how often each did what, and all that was wrong."""
    store = archive.CheckpointStore(url, storage_options=options)
    for client in CLIENTS:
        store.save(arrays(1, 0), 1, client=client)
    store.save(arrays(1, 0), 1, metrics={"loss": 1.0})
    numbers = [*range(writers), *range(READERS_FROM, READERS_FROM + readers)]
    command = [sys.executable, "-m", "tests.checkpoints.sharers", url]
    crowd = [
        subprocess.Popen(
            [*command, str(number), str(seconds), json.dumps(options)],
            cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in numbers
    ]  # fmt: skip
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for sharer in crowd:
        assert sharer.stdout is not None
        sharer.stdout.readline()
    for sharer in crowd:
        assert sharer.stdin is not None
        sharer.stdin.write("go\n")
        sharer.stdin.flush()
    for sharer in crowd:
        output, _ = sharer.communicate()
        answer = json.loads(output)
        counts.update(answer["counts"])
        wrong += answer["wrong"]
    for number in store.rounds():
        report = store.verify(number)
        wrong += report.failures
    return counts, wrong


@pytest.mark.parametrize("seconds", [1.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_three_processes_save_prune_and_read(
    tmp_path: Path, figures: Callable[[str], None], seconds: float
) -> None:
    counts, wrong = share(str(tmp_path / "run"), 3, 0, seconds)
    figures(f"store, three processes, {seconds:.0f} s: {dict(sorted(counts.items()))}, wrong: {len(wrong)}")
    assert wrong == []
    assert counts["saved"] >= 1


@pytest.mark.slow
def test_readers_beside_a_pruning_writer(tmp_path: Path, figures: Callable[[str], None]) -> None:
    counts, wrong = share(str(tmp_path / "run"), 1, 2, 20.0)
    figures(f"store, one writer and two readers, 20 s: {dict(sorted(counts.items()))}, wrong: {len(wrong)}")
    assert wrong == []
    assert counts["saved"] >= 1


@pytest.mark.slow
def test_three_processes_and_a_bucket(figures: Callable[[str], None]) -> None:
    pytest.importorskip("moto", reason="moto[server] is not installed")
    with s3_server() as server:
        counts, wrong = share(f"s3://{BUCKET}/crowd", 3, 0, 20.0, server.options())
    figures(f"store on S3, three processes, 20 s: {dict(sorted(counts.items()))}, wrong: {len(wrong)}")
    assert wrong == []
    assert counts["saved"] >= 1


def test_of_threads_that_share_memory_one_wins_each_round() -> None:
    url, start = f"memory://{uuid.uuid4().hex}", threading.Barrier(4)

    def race(writer: int) -> list[int]:
        store, won = archive.CheckpointStore(url), []
        for number in range(10):
            start.wait()
            with contextlib.suppress(ExistsError):
                store.save({"w": np.full(5, writer)}, number)
                won.append(number)
        return won

    with ThreadPoolExecutor(4) as pool:
        wins = list(pool.map(race, range(4)))
    assert sorted(number for won in wins for number in won) == list(range(10))
    store = archive.CheckpointStore(url)
    for writer, won in enumerate(wins):
        for number in won:
            assert store.open(number)["w"].numpy().tolist() == [writer] * 5
