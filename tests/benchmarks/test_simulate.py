"""The simulated mean has the tasks, partial sums and requests of a real one, and its arithmetic is right."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from benchmarks.scale import costs
from benchmarks.scale.costs import RESULTS, fit
from benchmarks.scale.given import values_with
from benchmarks.scale.simulate import Outcome, SimulatedExecutor, cut_shape, main, simulate
from benchmarks.scale.tasktimes import Place, Shape, task_work

TASK = {"archive": 1.0, "byte": 0.0, "written": 0.0, "task": 0.5}
COSTS: dict[str, Any] = {
    "command": "none",
    "moment": "never",
    "machine": {"cpu": "none"},
    "overhead": 4000,
    "files": {"batch": TASK, "group": TASK, "anon": 10**7, "open": 70},
    "s3": {"batch": TASK, "group": TASK, "anon": 10**8, "open": 20},
    "caller": {"name": 0.0, "name_bytes": 400},
}


class Watching(Executor):
    """Does tasks at once, and notes which, and which partial sums are there afterwards."""

    def __init__(self, scratch: Path) -> None:
        self.tasks: Counter[str] = Counter()
        self.files: set[str] = set()
        self._scratch = scratch

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args))
        self.tasks[fn.__name__] += 1
        self.files |= {path.name for path in self._scratch.glob("*")}
        return done


def save_tiny(url: Any, number: int, elements: int = 10, **options: Any) -> None:
    archive.save({"w": np.full(elements, number, "f4")}, url, durable=False, **options)


def simulated(clients: int, batch: int, nbytes: int, workers: int = 1, *, remote: bool = False) -> Outcome:
    shape = Shape(clients, nbytes, COSTS["overhead"])
    return simulate(cut_shape(clients, batch, remote=remote), shape, workers, COSTS, values_with([]))


@pytest.mark.parametrize(
    ("clients", "batch"), [pytest.param(300, 4, marks=pytest.mark.slow), (65, 64), (21, 4), (16, 4)]
)
def test_tasks_and_partial_sums_are_those_of_a_real_mean(clients: int, batch: int, tmp_path: Path) -> None:
    for number in range(clients):
        save_tiny(tmp_path / f"{number:05d}.h5", number)
    real = Watching(tmp_path / "scratch")
    out, scratch = tmp_path / "mean", tmp_path / "scratch"
    archive.mean(f"{tmp_path}/*.h5", out=out, batch=batch, scratch=scratch, executor=real, durable=False)
    found = simulated(clients, batch, 40)
    assert {"sum_batch": found.batches, "sum_group": found.groups} == {
        name: real.tasks[name] for name in ("sum_batch", "sum_group")
    }
    assert found.batches + found.groups == len(real.files)


@pytest.mark.slow
@pytest.mark.parametrize(("clients", "nbytes"), [(22, 40), (5, 400_000), (5, 12_000_000)])
def test_requests_are_those_of_a_real_mean(clients: int, nbytes: int) -> None:
    from tests.servers.proxy import Proxy
    from tests.servers.s3 import BUCKET, s3_server

    with s3_server() as server, Proxy(server.endpoint) as proxy:
        urls = [f"s3://{BUCKET}/simulated/{number:05d}.h5" for number in range(clients)]
        for number, url in enumerate(urls):
            save_tiny(url, number, nbytes // 4, storage_options=server.options())
        archive.mean(
            urls,
            out=f"s3://{BUCKET}/mean.h5",
            batch=4,
            scratch=f"s3://{BUCKET}/simulated-sums",
            executor=Watching(Path("/nowhere")),
            storage_options=server.options(proxy.endpoint),
        )
        seen = Counter(request.method for request in proxy.seen)
    found = simulated(clients, 4, nbytes, remote=True)
    assert found.gets == seen["GET"] + seen["HEAD"]
    assert found.puts == seen["PUT"] + seen["POST"] + seen["DELETE"]


def test_workers_share_the_batches_and_wait_for_each_level() -> None:
    # 1,024 inputs by 4: 256 batches of 4.5 s, 64 groups, 16, 4, of 4.5 s, and the mean of 4 by the caller
    one, eight = (simulated(1024, 4, 40, workers) for workers in (1, 8))
    assert one.seconds == pytest.approx((256 + 64 + 16 + 4 + 1) * 4.5, rel=0.01)
    assert eight.seconds == pytest.approx((256 / 8 + 64 / 8 + 16 / 8 + 1 + 1) * 4.5, rel=0.01)
    assert one.bottleneck == eight.bottleneck == "processors"


def test_no_more_than_256_tasks_are_under_way() -> None:
    """The real `run_tasks` waits for the first of 256: more workers than that have nothing to do."""
    given = values_with(["latency=0"])
    batches = cut_shape(4 * 1024, 4, remote=True)
    shape = Shape(4 * 1024, 40, 4000)
    times = [simulate(batches, shape, workers, COSTS, given).seconds for workers in (256, 1024)]
    assert times[1] == pytest.approx(times[0], rel=0.01)


def test_a_slow_prefix_is_the_bottleneck() -> None:
    batches, shape = cut_shape(6400, 64, remote=True), Shape(6400, 40, 4000)
    given = values_with(["get_rate=10", "latency=0"])
    found = simulate(batches, shape, 64, COSTS, given)
    assert found.bottleneck == "GET of clients"
    assert found.seconds == pytest.approx(6500 / 10, rel=0.25)
    more = simulate(batches, shape, 64, COSTS, given | {"prefixes": 100.0})
    assert more.seconds < found.seconds


def test_a_disk_is_shared_by_workers() -> None:
    batches, shape = cut_shape(640, 64, remote=False), Shape(640, 10**9, 4000)
    times = [simulate(batches, shape, workers, COSTS, values_with([])).seconds for workers in (8, 64)]
    assert times[0] == pytest.approx(640e9 / 2e9, rel=0.3)
    assert times[1] == pytest.approx(times[0], rel=0.3)


def test_memory_scratch_and_dollars() -> None:
    found = simulated(256, 64, 10**6, 2, remote=True)
    assert (found.batches, found.groups) == (4, 0)
    assert found.scratch == 4 * (2 * 10**6 + 4000)
    assert found.memory == 3 * 10**8 + 256 * 400
    assert found.dollars == pytest.approx(found.gets * 0.4e-6 + (4 + 1) * 5e-6, rel=0.01)


def test_a_costs_fit_finds_what_was_spent() -> None:
    rows = [(2.0 + 3 * a + 0.5 * b, (a, b, 1)) for a, b in ((1, 10), (64, 10), (1, 100), (64, 100))]
    assert fit(rows) == pytest.approx([3, 0.5, 2])
    assert min(fit([(1.0, (1, 5)), (0.9, (1, 9))])) >= 0


def test_a_task_over_s3_takes_the_parts_of_a_large_sum() -> None:
    place = Place(True, COSTS["s3"], values_with([]))
    work = task_work(place, Shape(4, 10**9, 4000), "batch", 4, written=2 * 10**9, template=True)
    assert work.gets["clients"] == 5 + 4 * math.ceil(10**9 / (8 << 20))
    assert work.puts == math.ceil((2 * 10**9 + 4000) / (16 << 20)) + 2


def test_an_executor_gives_results_at_their_time() -> None:
    place = Place(False, COSTS["files"], values_with([]))
    executor = SimulatedExecutor(place, Shape(8, 40, 4000), 2)
    batches = cut_shape(8, 4, remote=False)
    first, second = (executor.submit(simulated, batch) for batch in batches)  # type: ignore[arg-type]
    assert executor.now == 0
    assert first.result().key != second.result().key
    assert executor.now == pytest.approx(4.5)


def test_the_command_prints_the_tables_of_committed_costs(tmp_path: Path) -> None:
    out = tmp_path / "found"
    assert main(["--shapes", "1e4x14e9", "--workers", "1", "8", "--out", str(out)]) == 0
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    committed = json.loads(RESULTS.with_name("scale-simulated.json").read_text())["rows"]
    assert [row for row in committed if row["nbytes"] == 14e9 and row["workers"] in (1, 8)] == [
        pytest.approx(row) if isinstance(row, float) else row for row in rows
    ]
    with pytest.raises(SystemExit, match="no parameter 'speed'"):
        main(["--given", "speed=3"])


@pytest.mark.slow
def test_costs_that_are_measured_now_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "MANY", 10)
    monkeypatch.setattr(costs, "NAMES", 1000)
    monkeypatch.setattr(costs, "COUNTS", (2, 8))
    found = costs.measure(str(tmp_path), 1, sizes=(20_000, 400_000))
    assert list(tmp_path.iterdir()) == []
    assert set(found["functions"]) == set(costs.FUNCTIONS)
    assert found["files"]["open"] > 8, "a batch is open at once"
    for remote, storage in ((False, "files"), (True, "s3")):
        assert found[storage]["anon"] > 10**7
        shape = Shape(100, 20_000, found["overhead"])
        done = simulate(cut_shape(100, 8, remote=remote), shape, 2, found, values_with([]))
        assert done.storage == storage
        assert 0 < done.seconds < 1000
