"""Threads: one save at a time, whose error the next call raises; and requests to a server side by side."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Background", "side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")
REQUESTS = 16
"""Remote archives read at once."""


class Background:
    """A thread with one job at a time, started with the first.

    A second job waits for the first: two snapshots of a large model would be more memory than anybody
    planned for. The interpreter waits for the last one when it exits, and prints its error.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._job: Future[object] | None = None
        self._pid = os.getpid()

    def start(self, job: Callable[[], object]) -> None:
        """Wait for the job before, raise its error, then start this one."""
        self.settle()
        if self._pool is None or self._pid != os.getpid():
            self._pool, self._pid = ThreadPoolExecutor(1, "fedarchive-save"), os.getpid()
            _wait_at_exit(self)
        self._job = self._pool.submit(job)

    def settle(self) -> None:
        """Wait for the job and raise its error, once."""
        job = self._job
        if job is None:
            return
        if self._pid == os.getpid():  # else it is the parent's, and its thread is not in this process
            try:
                job.result()
            finally:
                if job.done():
                    self._job = None
        else:
            self._job = None

    def close(self) -> None:
        """Wait for the job, end the thread, and raise the job's error."""
        try:
            self.settle()
        finally:
            if self._pool is not None and self._pid == os.getpid():
                self._pool.shutdown()
            self._pool = None

    def say_at_exit(self) -> None:
        """Wait for a job that nobody asked for again, and print its error."""
        job, self._job = self._job, None
        if job is not None and self._pid == os.getpid():
            error = job.exception()
            if error is not None:
                thread = threading.current_thread()
                threading.excepthook(
                    threading.ExceptHookArgs((type(error), error, error.__traceback__, thread))
                )


def _wait_at_exit(background: Background) -> None:
    """Have the interpreter wait before it refuses new threads, which a save starts (``atexit`` is later)."""
    register = getattr(threading, "_register_atexit", None)  # as concurrent.futures does; not public by 3.14
    if register is not None:
        here = weakref.ref(background)

        def wait() -> None:
            found = here()
            if found is not None:
                found.say_at_exit()

        register(wait)


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], *, remote: bool) -> list[Result]:
    """Return ``function`` of each item, in order; of remote ones, some at once, as each is a round trip."""
    if not remote:
        return [function(item) for item in items]
    with ThreadPoolExecutor(REQUESTS, "fedarchive-checkpoints") as pool:
        return list(pool.map(function, items))
