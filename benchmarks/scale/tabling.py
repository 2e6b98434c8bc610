"""A table of 100,000 small archives: here, by two processes, by a Dask cluster that has started."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import multiprocessing
import os
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import archive

__all__ = ["table"]

Goal = tuple[str, float, float]
WORKERS = 2


def table(folder: Path, options: argparse.Namespace) -> list[Goal]:
    """Measure, interleaved, and return (what, found, most): 10 metrics and 5 configs an archive.

    Of each way the fastest run counts. Ratios mean little where other programs have the cores: the load is
    printed.
    """
    count = options.clients or 100_000
    _save_all(folder, count)
    with ExitStack() as stack:
        ways: dict[str, Executor | None] = {"serial": None}
        spawn = multiprocessing.get_context("spawn")
        ways["processes"] = stack.enter_context(ProcessPoolExecutor(WORKERS, mp_context=spawn))
        if importlib.util.find_spec("distributed") is not None:
            ways["dask"] = _dask(stack)
        wall, cpu = dict.fromkeys(ways, np.inf), dict.fromkeys(ways, np.inf)
        for name, executor in ways.items():  # workers start, and import
            _tabulate(f"{folder}/client00000[0-4]*.h5", executor)
            print(f"table: {name} is ready", flush=True)
        for _ in range(options.runs):
            for name, executor in ways.items():
                begin, spent = time.perf_counter(), time.process_time()
                rows = _tabulate(f"{folder}/*.h5", executor)
                wall[name] = min(wall[name], time.perf_counter() - begin)
                cpu[name] = min(cpu[name], time.process_time() - spent)
                assert rows == count
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else np.nan
    for name in ways:
        print(
            f"table: {count} archives, {name}: {wall[name]:.2f} s, {count / wall[name]:,.0f} a second; "
            f"processor time of this process {cpu[name] / count * 1e6:.1f} us an archive"
        )
    print(f"table: load {load:.1f} on {os.cpu_count()} cores; {_spin():.1f} us to add up 1,000 numbers")
    goals = [("us of processor an archive, serial", cpu["serial"] / count * 1e6, 60.0)]
    most = {"processes": 1 / 1.6, "dask": 1 / 1.5}
    return goals + [
        (f"of the serial time with {WORKERS} workers, {name}", wall[name] / wall["serial"], most[name])
        for name in ways
        if name in most
    ]


def _tabulate(urls: str, executor: Executor | None) -> int:
    found = archive.table(urls, executor=executor)
    assert found["metric1"].dtype == np.float64
    return len(found["path"])


def _dask(stack: ExitStack) -> Executor:
    distributed: Any = importlib.import_module("distributed")
    cluster = stack.enter_context(
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None
        )
    )
    client = stack.enter_context(distributed.Client(cluster))
    client.wait_for_workers(WORKERS)
    executor: Executor = client.get_executor()
    return executor


def _save_all(folder: Path, count: int) -> None:
    arrays = {"w": np.ones((8, 4), "f4"), "b": np.zeros(4, "f4"), "h": np.ones(16, "f4")}
    for number in range(count):
        metrics: dict[str, Any] = {f"metric{at}": number + at / 10 for at in range(9)}
        configs: Any = {"lr": 0.1, "epochs": 3, "name": f"client-{number}", "sizes": [1, 2], "flag": True}
        archive.save(
            arrays,
            folder / f"client{number:06d}.h5",
            metrics=metrics | {"num-examples": number},
            configs=configs,
            durable=False,
        )


def _spin() -> float:
    """Return the microseconds of an easy sum: what this processor is worth now."""
    best = np.inf
    for _ in range(200):
        begin = time.perf_counter()
        sum(range(1000))
        best = min(best, time.perf_counter() - begin)
    return float(best * 1e6)
