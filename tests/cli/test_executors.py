"""``--dask`` and executors of Dask: equal bits, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.errors import ArchiveError
from archive.tools.many import run_tasks
from tests.acceptance.samples import CREATED
from tests.tools.test_batches import save_clients

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as found:
        yield found


def test_the_same_bits(tmp_path: Path, cluster: Any) -> None:
    paths = save_clients(tmp_path, 40)
    archive.mean(paths, "num-examples", out=tmp_path / "serial.h5", batch=3, created=CREATED)
    with distributed.Client(cluster) as client:
        archive.mean(
            paths,
            "num-examples",
            out=tmp_path / "shared.h5",
            batch=3,
            created=CREATED,
            executor=client.get_executor(),
        )
    assert (tmp_path / "serial.h5").read_bytes() == (tmp_path / "shared.h5").read_bytes()
    assert (
        main(["mean", str(tmp_path / "c.h5"), f"{tmp_path}/client*.h5", "--dask", cluster.scheduler_address])
        == 0
    )


def test_a_worker_that_is_killed(tmp_path: Path, cluster: Any) -> None:
    paths = save_clients(tmp_path, 90, large=(1000, 1000))
    archive.mean(paths, out=tmp_path / "serial.h5", batch=3, created=CREATED)
    killed: list[int] = []

    def kill() -> None:
        while len(list((tmp_path / ".shared.h5.sums").glob("*.sum.h5"))) < 4:
            time.sleep(0.01)
        pid = next(iter(cluster.workers.values())).process.pid
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with distributed.Client(cluster) as client:
        archive.mean(
            paths, out=tmp_path / "shared.h5", batch=3, created=CREATED, executor=client.get_executor()
        )
    killer.join(1)
    assert killed
    assert (tmp_path / "serial.h5").read_bytes() == (tmp_path / "shared.h5").read_bytes()


def test_a_table_is_the_same(tmp_path: Path, cluster: Any) -> None:
    paths = save_clients(tmp_path, 40)
    paths[7].unlink()
    here = archive.table(paths, errors="column")
    with distributed.Client(cluster) as client:
        there = archive.table(paths, errors="column", executor=client.get_executor())
        wrong = archive.tools.verify_all(paths, errors="column", executor=client.get_executor())
    assert list(here) == list(there)
    assert all(repr(here[name].tolist()) == repr(there[name].tolist()) for name in here)
    assert [number for number, ok in enumerate(wrong["ok"]) if not ok] == [7]
    assert main(["verify", *map(str, paths), "--dask", cluster.scheduler_address]) == 2


def give_up(number: int) -> int:
    raise distributed.scheduler.KilledWorker("task", SimpleNamespace(address="tcp://127.0.0.1:1"), 3)


def test_workers_that_die_again_and_again(cluster: Any) -> None:
    with (
        distributed.Client(cluster) as client,
        pytest.raises(ArchiveError, match=r"a process of the executor died: .*; run it again with a new"),
    ):
        list(run_tasks(give_up, [1], client.get_executor()))


def test_a_history_is_the_same(tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    for number in range(12):
        store.save({"w": np.zeros(2)}, number, client="Oslo", metrics={"n": number})
        store.save({"w": np.zeros(2)}, number, metrics={"loss": 1 / (1 + number)})
    (tmp_path / "run/catalogue.h5").unlink(missing_ok=True)
    (tmp_path / "run/rounds/00000003/Oslo.h5").unlink()
    here = store.history(clients=True, errors="column")
    with distributed.Client(cluster) as client:
        there = store.history(clients=True, errors="column", executor=client.get_executor())
    assert list(here) == list(there)
    assert all(repr(here[name].tolist()) == repr(there[name].tolist()) for name in here)
    command = ["runs", "history", str(tmp_path / "run"), "--clients", "--csv"]
    assert main(command) == 2
    told = capsys.readouterr().out
    assert main([*command, "--dask", cluster.scheduler_address]) == 2
    assert capsys.readouterr().out == told
