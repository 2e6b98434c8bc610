"""Lazy arrays of Dask on worker processes: over S3, with a worker that dies, and in bounded memory."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import archive
from archive.errors import DigestError, StorageError
from archive.interop.dask import stack, to_dask
from tests.interop.flipping import damage
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET, S3Server

dask: Any = pytest.importorskip("dask", reason="dask is not installed")
distributed: Any = pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of tornado, and of a cluster whose worker was killed
]


def arrays(count: int, shape: tuple[int, ...] = (200, 300)) -> list[Any]:
    return [np.random.default_rng(number).normal(size=shape).astype("f4") for number in range(count)]


@pytest.fixture
def options(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options without secrets: workers find theirs in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    return {"endpoint_url": server.endpoint, "client_kwargs": {"region_name": "us-east-1"}}


@pytest.fixture
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A client of a cluster of two worker processes."""
    if "options" in request.fixturenames:
        request.getfixturevalue("options")  # workers inherit the environment
    settings = {"temporary-directory": str(tmp_path), "distributed.admin.system-monitor.gil.enabled": False}
    with dask.config.set(settings):
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        )
        with cluster, distributed.Client(cluster) as client:
            yield client


def save_clients(folder: str, options: dict[str, Any] | None, values: list[Any]) -> list[str]:
    urls = [f"{folder}/client-{number}.h5" for number in range(len(values))]
    for url, value in zip(urls, values, strict=True):
        archive.save({"w": value, "b": value[0]}, url, storage_options=options)
    return urls


def test_processes_over_s3(client: Any, options: dict[str, Any]) -> None:
    values = arrays(6)
    urls = save_clients(f"s3://{BUCKET}/{uuid4()}", options, values)
    array = stack(urls, "w", chunks=(2, 200, 300), storage_options=options)
    assert len(array.__dask_graph__()) == 4
    assert np.array_equal(array.compute(), np.stack(values))
    assert np.allclose(array.mean(axis=0).compute(), np.mean(values, axis=0), atol=1e-6)
    assert np.array_equal(array[:, 3, :5].compute(), np.stack(values)[:, 3, :5])
    with archive.open(urls[1], storage_options=options) as opened:
        record = to_dask(opened.records.array_records["model"], chunks=-1)
        future = client.submit(lambda one: float(one[0, 0]), opened["w"])
        assert future.result() == float(values[1][0, 0]), "an Array itself goes by reference"
        assert client.submit(lambda one: one["b"].shape, opened).result() == (300,)
    found = dask.compute(record)[0]
    assert np.array_equal(found["w"], values[1])
    assert np.array_equal(found["b"], values[1][0])


def test_requests_are_two_an_archive_and_chunk(server: S3Server) -> None:
    urls = save_clients(f"s3://{BUCKET}/{uuid4()}", server.options(), arrays(8, (500, 1000)))
    with Proxy(server.endpoint) as proxy:
        options = server.options(proxy.endpoint)
        array = stack(urls, "w", storage_options=options)
        across = stack(urls, "w", chunks=(8, 125, 1000), storage_options=options)
        assert len(proxy.seen) == 2 * (8 + 1), "each for its version, and the first for its shape"
        for lazy, requests in ((array, 16), (array[:, :10], 16), (array[3], 2), (across, 4 * 16)):
            proxy.reset()
            lazy.compute(scheduler="threads")
            assert len(proxy.seen) == requests
        proxy.reset()
        dask.base.tokenize(array, across)
        assert proxy.seen == []


def test_secrets_stay_here(client: Any, server: S3Server) -> None:
    urls = save_clients(f"s3://{BUCKET}/{uuid4()}", server.options(), arrays(1))
    array = stack(urls, "w", storage_options=server.options())
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    client.run(lambda: [os.environ.pop(name, None) for name in names])
    with pytest.raises(StorageError) as caught:
        array.compute()
    assert "a pickle holds no secrets" in str(caught.value)
    assert server.secret not in str(caught.value)


def test_a_worker_that_dies_changes_nothing(client: Any, options: dict[str, Any]) -> None:
    values = arrays(24)
    urls = save_clients(f"s3://{BUCKET}/{uuid4()}", options, values)

    def slowly(block: Any) -> Any:
        time.sleep(0.3)
        return block

    array = stack(urls, "w", chunks=(1, 200, 300), storage_options=options).map_blocks(slowly)
    (future,) = client.compute([array.sum(axis=0, dtype="f8")])
    processes = client.run(os.getpid)
    time.sleep(1.5)
    assert not future.done()
    os.kill(next(iter(processes.values())), signal.SIGKILL)
    assert np.allclose(future.result(timeout=60), np.sum(values, axis=0, dtype="f8"))
    alive = set(client.run(os.getpid).values())
    assert alive != set(processes.values()), "one was killed"


def test_damage_is_a_typed_error(client: Any, tmp_path: Path) -> None:
    urls = save_clients(str(tmp_path), None, arrays(3))
    damage(urls[1])
    array = stack(urls, "w", chunks=(1, 200, 300))
    for scheduler in (client, "processes", "threads"):
        with pytest.raises(DigestError) as caught:
            array.sum().compute(scheduler=scheduler)
        assert (caught.value.path, caught.value.key) == (urls[1], "model/w")
        assert np.array_equal(array[2].compute(scheduler=scheduler), arrays(3)[2])


def test_processes_scheduler(tmp_path: Path) -> None:
    values = arrays(5)
    urls = save_clients(str(tmp_path), None, values)
    array = stack(urls, "w", chunks=(2, 200, 300))
    with dask.config.set(scheduler="processes", num_workers=2):
        assert np.array_equal(array.compute(), np.stack(values))
        with archive.open(urls[0]) as opened:
            assert to_dask(opened["b"]).max().compute() == values[0][0].max()


def test_memory_is_that_of_workers_and_chunks(tmp_path: Path) -> None:
    """64 clients of 100 MB each: two threads hold a few chunks of 100 MB, not 6.4 GB.

    Over the axis of clients, of chunks that have all clients: a tree of sums of whole arrays holds twenty.
    """
    count, elements, files, workers = 64, 25_000_000, 4, 2
    made = [str(tmp_path / f"{number}.h5") for number in range(files)]
    for number, path in enumerate(made):
        archive.save({"w": np.full(elements, number + 1, "f4")}, path)
    urls = [made[number % files] for number in range(count)]
    whole, across = stack(urls, "w"), stack(urls, "w", chunks=(count, elements // count))
    assert (whole.numblocks, across.numblocks) == ((count, 1), (1, count))
    with dask.config.set(scheduler="threads", num_workers=workers):
        for lazy, expected in ((whole.max(), 4.0), (across.sum(axis=0, dtype="f4")[:5].max(), 160.0)):
            found, peak = _peak(lazy)
            assert found == expected
            assert peak < 1.5 * workers * 100e6
        found, peak = _peak(across.mean(axis=0).max())
        assert found == 2.5
        assert peak < 3 * workers * 100e6


def _peak(lazy: Any) -> tuple[float, int]:
    """Return what is computed, and how much anonymous memory this process took meanwhile."""
    peak, before, ended = [0], _private(), threading.Event()
    watch = threading.Thread(target=_watch, args=(ended, peak))
    watch.start()
    found = float(lazy.compute())
    ended.set()
    watch.join()
    return found, peak[0] - before


def _private() -> int:
    """Return the anonymous memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def _watch(ended: threading.Event, peak: list[int]) -> None:
    while not ended.wait(0.01):
        peak[0] = max(peak[0], _private())
