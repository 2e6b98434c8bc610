"""Threads: jobs side by side, and one job in the background.

One rule for all of them:

- A thread is an optimisation: where none can be started, the calling thread does the work.
- Threads are daemons, so that they serve a program until its last thread ends.
- An error is raised where the result is asked for, after the jobs under way have ended.
- The child of a fork has none of its parent's threads: it starts its own, and a job that its parent began
  raises ClosedError there.
- No lock is held here. Python 3.14 lets an interrupt in after a lock was acquired and before the `with` block
  that releases it: every later user of the lock would hang. Lists, deques and queues change by single calls.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from archive import system, tuning
from archive.owner import Owner

__all__ = ["Background", "Job", "Pool", "drop_oldest", "map_archives", "run_apart", "run_parallel"]

_LOOK_SECONDS = 1.0
"""How often a waiting thread looks whether a job has ended, beside being woken."""

T = TypeVar("T")
R = TypeVar("R")


class Job(Generic[R]):
    """A call that a thread makes: its result, or the error in which it ended.

    Parameters
    ----------
    call : callable
    owner : Owner
        The process whose threads make it.
    """

    __slots__ = ("_begun", "_call", "_ended", "_errors", "_results", "_waiting", "owner")

    def __init__(self, call: Callable[[], R], owner: Owner) -> None:
        self._call: Callable[[], R] | None = call
        self._results: list[R] = []
        self._errors: list[BaseException] = []
        self._begun, self._waiting = threading.Lock(), threading.Lock()
        self._waiting.acquire()
        self._ended = False
        self.owner: Owner = owner

    def run(self) -> None:
        """Make the call, unless the job was dropped."""
        if not self._begun.acquire(blocking=False):
            return
        call, self._call = self._call, None
        try:
            if call is not None:
                self._results.append(call())
        except BaseException as error:  # noqa: BLE001 `result` raises it
            self._errors.append(error)
        finally:
            call = (
                None  # before the waiting thread goes on: the call may be all that keeps an array in memory
            )
            self._end()

    def drop(self) -> None:
        """End the job unless it has begun."""
        if self._begun.acquire(blocking=False):
            self._call = None
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._waiting.release()

    def wait(self) -> bool:
        """Wait for the end, and return whether there is an outcome.

        A dropped job has none, nor has one that runs in the process that forked this one.
        """
        # an interrupt may come between the two calls: the flag tells the next that the job has ended
        while self.owner.is_here and not self._ended:
            if self._waiting.acquire(timeout=_LOOK_SECONDS):
                self._waiting.release()
        return bool(self._results or self._errors)

    def result(self) -> R:
        """Wait for the end, and return the result or raise the error; once, as neither is kept.

        Raises
        ------
        ClosedError
            The process that forked this one runs the job.
        """
        if not self.wait():
            self.owner.require_here()
        if self._errors:
            raise self._errors.pop()  # a name for the error would be a cycle: error, traceback, frame, error
        return self._results.pop()


class Pool:
    """Threads that take jobs in turn, each started when a job comes.

    Parameters
    ----------
    threads : int
        At most.
    name : str
        Of the threads.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._name, self._closed = name, False
        self._unstarted = deque(range(threads))  # whoever takes one starts a thread
        self._jobs: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.owner: Owner = Owner()
        """The process that made the pool."""
        self._end = weakref.finalize(self, _end, self._jobs, self._threads, self.owner)
        self._end.atexit = False

    def submit(self, call: Callable[[], R]) -> Job[R]:
        """Have a thread make a call; it is made now where no thread can be started.

        Raises
        ------
        ClosedError
            The pool belongs to the process that forked this one.
        """
        self.owner.require_here()
        job = Job(call, self.owner)  # of the pool's process, also where a signal handler forks here
        self._start_thread()
        if self._threads:
            self._jobs.put(job)
        if self._closed or not self._threads:  # asked after the job was put: `close` drops it, or it runs now
            job.run()
        return job

    def close(self) -> None:
        """Drop the jobs that have not begun, wait for the others, and end the threads."""
        if not self.owner.is_here:
            return
        self._closed = True
        self._unstarted.clear()
        with contextlib.suppress(Empty):
            while job := self._jobs.get_nowait():
                job.drop()
        self._end()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start_thread(self) -> None:
        try:
            number = self._unstarted.pop()
        except IndexError:
            return  # there are enough
        thread = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._unstarted.append(number)
            return  # the system allows no more threads, or the interpreter is ending
        self._threads.append(thread)


def run_parallel(
    function: Callable[[T], R], items: Iterable[T], *, network: int = 0, ahead: int = 0
) -> Generator[R, None, None]:
    """Yield the result of a function for every item, in order, computed in threads.

    The first error is raised after the calls under way have ended; the other calls are dropped.

    Parameters
    ----------
    function : callable
        Without ``network`` it must not call this function so: all threads could wait for one more.
    items : iterable
        Each is asked for when its call begins.
    network : int
        Threads that wait for a server, for this call alone: where one server is away, who reads from
        another would wait for threads. 0: those that hash and read files, shared by all.
    ahead : int
        Results begun and not yet taken, at most: this bounds the memory they hold. If not given, enough
        to keep all threads busy while one is slow.

    Raises
    ------
    ClosedError
        The process that forked this one began the work.
    """
    threads = network or tuning.THREADS
    waiting = iter(items)
    first = deque(itertools.islice(waiting, 2))
    few = len(first) < 2 or threads < 2
    # keep no item once its result is there: it may be all that keeps an array in memory
    waiting = itertools.chain((first.popleft() for _ in range(len(first))), waiting)
    if few:
        yield from map(function, waiting)
        return
    ahead = ahead or 4 * threads
    pool = Pool(network, "fedarchive-fetch") if network else _shared_pool()
    jobs: deque[Job[R]] = deque()
    try:
        for item in waiting:
            jobs.append(pool.submit(partial(function, item)))
            del item
            if len(jobs) >= ahead:
                jobs[0].wait()  # still among the jobs, so that an interrupt leaves it to be waited for
                yield jobs.popleft().result()
        while jobs:
            jobs[0].wait()
            yield jobs.popleft().result()
    finally:
        for job in jobs:
            job.drop()
        for job in jobs:
            job.wait()
        if network:
            pool.close()


def map_archives(function: Callable[[T], R], items: Iterable[T], *, remote: bool) -> list[R]:
    """Return ``function`` of each archive, in order; of remote ones several at once: each is a round trip."""
    return list(run_parallel(function, items, network=tuning.ARCHIVES) if remote else map(function, items))


def run_apart(call: Callable[[], object], name: str) -> None:
    """Make a call in a thread of its own, which the interpreter waits for; at exit, make it here.

    For what the collection of garbage sets off: any thread collects, in any line of it. To wait there for a
    server could be to wait for ever: the thread may be the one that answers, or hold a lock. Where no thread
    can be started, the call is not made.
    """
    if not threading.main_thread().is_alive():  # at exit no thread can be started, and nobody waits for us
        call()
        return
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=call, name=name, daemon=False).start()


def drop_oldest(kept: dict[Any, Any], most: int) -> None:
    """Make room for one more entry where there may be ``most``, while other threads do the same.

    ``next(iter(kept))`` fails where another thread changes the dict between the two calls.
    """
    for key in list(kept)[: max(0, len(kept) - most + 1)]:
        kept.pop(key, None)


class Background:
    """A thread with one job at a time, started with the first job.

    A second job waits for the first: two snapshots of a large model would be more memory than anybody
    planned for. The interpreter waits for the last job when it exits, and prints its error. Several threads
    may start jobs and wait for them: one of them gets the error of a job.
    """

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self._jobs: list[Job[object]] = []  # more than one where several threads start jobs

    def start(self, call: Callable[[], object]) -> None:
        """Wait for the job before, raise its error, then start this one."""
        self.settle()
        if self._pool is None or not self._pool.owner.is_here:
            self._pool = Pool(1 if _wait_at_exit(self) else 0, "fedarchive-save")
        self._jobs.append(self._pool.submit(call))

    def settle(self) -> None:
        """Wait for the job and raise its error, once; forget a job of the process that forked this one."""
        for job in list(self._jobs):
            there = job.wait()
            try:
                self._jobs.remove(job)
            except ValueError:
                continue  # another thread has raised its error
            if there and job.owner.is_here:
                job.result()

    def close(self) -> None:
        """Wait for the job, end the thread, and raise the job's error."""
        try:
            self.settle()
        finally:
            if self._pool is not None:
                self._pool.close()
            self._pool = None

    def report_at_exit(self) -> None:
        """Wait for jobs that nobody asked for again, and print their errors."""
        for _ in list(self._jobs):  # an interrupt ends the wait for one of them
            try:
                self.settle()
            except BaseException as error:  # noqa: BLE001 nobody is there to catch it
                arguments = (type(error), error, error.__traceback__, threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(arguments))


def _wait_at_exit(background: Background) -> bool:
    """Have the interpreter wait for a job when it exits, and return whether it will.

    ``atexit`` is too late: name resolution of asyncio uses the threads of concurrent.futures, which end
    before. What is registered later runs earlier, so that module must have been imported.
    """
    here = weakref.ref(background)

    def wait() -> None:
        found = here()
        if found is not None:
            found.report_at_exit()

    try:
        importlib.import_module("concurrent.futures.thread")
        threading._register_atexit(wait)  # type: ignore[attr-defined]  # not public by Python 3.14
    except RuntimeError:
        return False  # the interpreter is waiting for its last threads already
    return True


_pools: dict[str, Pool] = {}


def _shared_pool() -> Pool:
    """Return the pool of the process that hashes and reads files.

    It is made once: handles come and go by the thousand.
    """
    pool = _pools.get("fedarchive")
    return pool or _pools.setdefault("fedarchive", Pool(tuning.THREADS, "fedarchive"))


system.register_at_fork(after_in_child=_pools.clear)  # the child has none of the threads


def _work(jobs: SimpleQueue[Job[Any] | None]) -> None:
    for job in iter(jobs.get, None):
        job.run()
        del job  # it may be all that keeps an array in memory


def _end(jobs: SimpleQueue[Job[Any] | None], threads: list[threading.Thread], owner: Owner) -> None:
    if owner.is_here:
        for _ in threads:
            jobs.put(None)
