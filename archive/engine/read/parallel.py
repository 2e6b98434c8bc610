"""Digests checked: which segments were, and the pool of threads that checks many at once."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, TypeVar

from archive.dtypes import NDArray
from archive.format.digests import digest

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["THREADS", "Segment", "failed_segments", "run_parallel"]

T = TypeVar("T")
R = TypeVar("R")

THREADS = min(8, os.cpu_count() or 1)
PARALLEL_FROM = 8 << 20
"""Bytes from which threads pay: starting one costs as much as hashing 1 MiB."""

Segment = tuple[int, NDArray, bytes]
"""Position, bytes and expected digest."""


def run_parallel(
    function: Callable[[T], R], items: Iterable[T], *, network: int = 0, ahead: int = 0
) -> Generator[R, None, None]:
    """Yield the result of a function for every item, in order, computed in threads.

    The first exception is raised after the calls that were under way have ended; the rest is dropped.

    Parameters
    ----------
    function : callable
        Must not call this function with the same ``network``: all threads could wait for one more.
    items : iterable
        Asked for as they are begun.
    network : int
        Threads that wait for a server, in a pool of their own; 0: those that hash and read files.
    ahead : int
        Results begun and not yet taken, at most: what bounds the memory they hold. If not given, enough
        to keep all threads busy while one is slow.
    """
    threads = network or THREADS
    waiting = iter(items)
    begun = deque(itertools.islice(waiting, 2))
    few = len(begun) < 2 or threads < 2
    # no item is kept once its result is there: it may be all that keeps an array in memory
    waiting = itertools.chain((begun.popleft() for _ in range(len(begun))), waiting)
    if few:
        yield from map(function, waiting)
        return
    from concurrent.futures import wait  # with logging and more 8 ms, which few bytes do without

    ahead = ahead or 4 * threads
    pool = _pool.get(network)
    futures: deque[Future[R]] = deque()
    try:
        for item in waiting:
            futures.append(pool.submit(function, item))
            del item
            if len(futures) >= ahead:
                futures[
                    0
                ].result()  # waited for where it stands, so that an interrupt leaves it to be awaited
                yield futures.popleft().result()
        while futures:
            futures[0].result()
            yield futures.popleft().result()
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
    """Pools of threads for the process, made when first needed: handles come and go by the thousand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executors: dict[int, ThreadPoolExecutor] = {}

    def get(self, network: int) -> ThreadPoolExecutor:
        """Return the pool of that many threads for a server, or for 0 the one that hashes."""
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            if network not in self._executors:
                label = "fedarchive-fetch" if network else "fedarchive"
                self._executors[network] = ThreadPoolExecutor(network or THREADS, thread_name_prefix=label)
            return self._executors[network]

    def forget(self) -> None:
        """Start afresh: the child of a fork has none of its parent's threads."""
        self._lock, self._executors = threading.Lock(), {}


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)
