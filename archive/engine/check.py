"""Digests checked: which segments were, and the pool of threads that checks many at once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numpy as np

from archive.format.digests import digest

__all__ = ["THREADS", "Segment", "failed_segments", "run_parallel"]

NDArray = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")
R = TypeVar("R")

THREADS = min(8, os.cpu_count() or 1)
PARALLEL_FROM = 8 << 20
"""Bytes from which threads pay: starting one costs as much as hashing 1 MiB."""

Segment = tuple[int, NDArray, bytes]
"""Position, bytes and expected digest."""


def run_parallel(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield the result of a function for every item, in order, computed in threads.

    The first exception is raised after the calls that were under way have ended; the rest is dropped.
    """
    if len(items) < 2 or THREADS < 2:
        yield from map(function, items)
        return
    futures = deque(_pool.get().submit(function, item) for item in items)
    try:
        while futures:
            yield futures[0].result()
            futures.popleft()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def failed_segments(segments: Iterable[Segment], nbytes: int) -> list[int]:
    """Return the positions of segments whose bytes do not match, in order.

    Parameters
    ----------
    segments : iterable of (position, bytes, digest)
    nbytes : int
        Their total; small totals are checked in the calling thread.
    """
    if nbytes < PARALLEL_FROM or THREADS < 2:
        return [position for position, data, wanted in segments if digest(data) != wanted]
    everything = list(segments)
    shares = [everything[start::THREADS] for start in range(THREADS)]

    def check(share: list[Segment]) -> list[int]:
        # xxhash lets go of the interpreter lock, so that threads add up
        return [position for position, data, wanted in share if digest(data) != wanted]

    return sorted(position for failed in run_parallel(check, shares) for position in failed)


class _Pool:
    """One pool of threads for the process, made when first needed: handles come and go by the thousand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def get(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="fedarchive")
            return self._executor

    def forget(self) -> None:
        """Start afresh: the child of a fork has none of its parent's threads."""
        self._lock, self._executor = threading.Lock(), None


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)
