"""``python -m tests.acceptance.meanchild CASE``: a mean by one executor, in a process that can be killed.

The case is JSON: how it is computed (``serial``, ``pool``, ``dask``) and the arguments of `archive.mean`. The
first line of output says that it begins, and names the processes of the workers.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import archive


@contextlib.contextmanager
def executor_of(name: str) -> Iterator[tuple[Any, list[int]]]:
    """Start an executor of two processes, and return it and their numbers; none for ``serial``."""
    if name == "serial":
        yield None, []
    elif name == "pool":
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            yield pool, sorted({pool.submit(os.getpid).result() for _ in range(2)})
    else:
        import dask
        import distributed

        settings = {
            "temporary-directory": tempfile.gettempdir(),
            "distributed.admin.system-monitor.gil.enabled": False,
        }
        with dask.config.set(settings):
            cluster = distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
            )
            with cluster, distributed.Client(cluster) as client:
                pids = [worker.process.pid for worker in cluster.workers.values()]
                with client.get_executor() as executor:
                    yield executor, pids


def main() -> None:
    """Compute the mean that the case names."""
    case: dict[str, Any] = json.loads(sys.argv[1])
    with executor_of(case.pop("by")) as (executor, workers):
        sys.stdout.write(f"{json.dumps(workers)}\n")
        sys.stdout.flush()
        archive.mean(case.pop("urls"), executor=executor, **case)


if __name__ == "__main__":
    main()
