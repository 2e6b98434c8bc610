"""``--workers`` and ``--dask``: where the tasks of a command over many archives run."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from archive.errors import ArchiveError

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["chosen_executor", "define_executor"]

GRACE_S = 1.0
"""Seconds that workers have after an interrupt."""


def define_executor(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--dask``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", metavar="N", type=_workers, default=1, help="processes that share the work; default: 1"
    )
    where.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="the scheduler of a Dask cluster that does the work, such as tcp://host:8786",
    )


@contextlib.contextmanager
def chosen_executor(arguments: argparse.Namespace) -> Iterator[Executor | None]:
    """Provide the executor that was asked for, None for this process alone.

    Raises
    ------
    ArchiveError
        Dask is not installed, or no scheduler answers.
    """
    if arguments.dask is not None:
        with _dask_client(arguments.dask) as client:
            yield client.get_executor()
    elif arguments.workers > 1:
        futures: Any = importlib.import_module("concurrent.futures")
        processes: Any = importlib.import_module("multiprocessing")
        others = processes.active_children()
        pool = futures.ProcessPoolExecutor(
            arguments.workers, mp_context=processes.get_context("spawn"), initializer=_begin_worker
        )
        try:
            with pool:
                try:
                    yield pool
                except KeyboardInterrupt:
                    _end_workers(pool, others)
                    raise
        except KeyboardInterrupt:  # also while the block's end waits for tasks after another error
            _end_workers(pool, others)
            raise
    else:
        yield None


def _begin_worker() -> None:
    """Leave Ctrl-C to the process that asks, which ends its workers; and end with it where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    processes: Any = importlib.import_module("multiprocessing")
    processes.parent_process().join()
    os._exit(1)  # a worker waits for tasks for ever, as it holds both ends of their queue


def _end_workers(pool: Any, others: Sequence[Any]) -> None:
    """End the child processes that are no others, after a second: a batch of large archives takes minutes.

    The pool needs that time: Python 3.11 prints a traceback where a worker is gone before tasks that were
    cancelled.
    """
    pool.shutdown(wait=False, cancel_futures=True)
    processes: Any = importlib.import_module("multiprocessing")
    last = time.monotonic() + GRACE_S
    for worker in processes.active_children():
        if worker in others:
            continue
        worker.join(max(0.0, last - time.monotonic()))
        worker.terminate()


def _dask_client(address: str) -> Any:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise ArchiveError(
            "Dask is not installed", path=address, remedy="pip install 'fedarchive[dask]'"
        ) from error
    try:
        return distributed.Client(address)
    except (OSError, ValueError) as error:
        raise ArchiveError(
            f"no scheduler answers: {error}", path=address, remedy="start `dask scheduler`, or use --workers"
        ) from error


def _workers(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a number of processes, not {text!r}")
    return int(text)
