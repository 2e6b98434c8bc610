"""Threads as an optimisation: without new threads, at exit, after a fork, after an error."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.errors import ClosedError
from archive.workers import Background, Pool, run_parallel
from tests.children import child_environment

SAVE_AND_LOAD = """
import threading
import numpy as np
import archive

arrays = {f"layer{number}": np.full(1 << 20, number, "f8") for number in range(4)}

def work():
    archive.save(arrays, "model.h5")
    loaded = archive.load("model.h5")["model"]
    assert all((loaded[f"layer{number}"].numpy() == number).all() for number in range(4))
    assert archive.verify("model.h5")
    store = archive.CheckpointStore("store", background=True)
    store.save(arrays, 1)
    assert store.rounds() == [1]
    print("done")
"""

AFTER_THE_MAIN_THREAD = """
def wait_and_work():
    threading.main_thread().join()
    work()

threading.Thread(target=wait_and_work).start()
"""

USED_BEFORE = "archive.save(arrays, 'before.h5'); archive.load('before.h5')"

NO_THREADS = """
threading.stack_size(1 << 46)  # more than there are addresses: no thread can be started
work()
"""


@pytest.mark.parametrize(
    "program",
    [AFTER_THE_MAIN_THREAD, USED_BEFORE + AFTER_THE_MAIN_THREAD, NO_THREADS],
    ids=["after the main thread", "after the main thread, threads there", "no threads"],
)
def test_a_save_and_load_go_without_new_threads(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_LOAD + program],
        capture_output=True,
        check=False,
        text=True,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_job_in_the_background_ends_before_the_program(tmp_path: Path) -> None:
    program = """
    store = archive.CheckpointStore("store", background=True)
    store.save(arrays, 1)
    """
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_LOAD + program.replace("    ", "")],
        capture_output=True,
        check=False,
        text=True,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert archive.verify(tmp_path / "store/rounds/00000001.h5")


def in_a_child(call: object) -> int:
    """Run a call in the child of a fork, and return 0 where it returned True."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if call() else 2  # type: ignore[operator]
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
class TestForks:
    def test_a_child_starts_its_own_threads(self) -> None:
        assert list(run_parallel(abs, range(100))) == list(range(100))
        assert in_a_child(lambda: list(run_parallel(abs, range(100))) == list(range(100))) == 0

    def test_a_child_cannot_go_on_with_its_parents_jobs(self) -> None:
        go_on = threading.Event()
        pool = Pool(1, "test")
        job = pool.submit(go_on.wait)

        def refused() -> bool:
            for call in (job.result, lambda: pool.submit(int)):
                with pytest.raises(ClosedError):
                    call()
            pool.close()
            return True

        assert in_a_child(refused) == 0
        go_on.set()
        assert job.result()
        pool.close()

    def test_a_child_ends_its_parents_generator_at_once(self) -> None:
        go_on = threading.Event()
        begun = run_parallel(lambda item: not item or go_on.wait(), range(9), network=3, ahead=2)
        assert next(begun) is True

        def closed() -> bool:
            begun.close()
            return True

        assert in_a_child(closed) == 0
        go_on.set()
        assert all(begun)

    def test_a_child_forgets_a_job_in_the_background(self) -> None:
        go_on = threading.Event()
        background, made = Background(), []
        background.start(go_on.wait)

        def forgotten() -> bool:
            background.start(lambda: made.append(1))
            background.close()
            return made == [1]

        assert in_a_child(forgotten) == 0
        go_on.set()
        background.close()

    def test_an_error_of_a_job_is_raised_in_the_process_that_began_it(self) -> None:
        def fail() -> None:
            raise ValueError("mine")

        background, ended = Background(), threading.Event()
        background.start(fail)
        background._pool.submit(ended.set)  # type: ignore[union-attr]  # by the same thread, after it
        assert ended.wait(10)

        def silent() -> bool:
            background.settle()
            return True

        assert in_a_child(silent) == 0
        with pytest.raises(ValueError, match="mine"):
            background.close()


class TestErrors:
    def test_the_first_is_raised_after_what_is_under_way_has_ended(self) -> None:
        ended: list[int] = []
        second = threading.Event()

        def work(item: int) -> None:
            if not item:
                assert second.wait(60)
                raise ValueError("the first item")
            second.set()
            ended.append(item)

        with pytest.raises(ValueError, match="the first item"):
            list(run_parallel(work, range(100), network=2, ahead=4))
        before = len(ended)
        assert 1 <= before <= 3
        assert list(run_parallel(abs, range(3), network=2)) == [0, 1, 2]
        assert len(ended) == before

    def test_of_a_job_it_is_raised_where_the_result_is_asked_for(self) -> None:
        for threads in (0, 1):
            pool = Pool(threads, "test")
            with pytest.raises(ZeroDivisionError):
                pool.submit(lambda: 1 // 0).result()
            assert pool.submit(lambda: 1).result() == 1
            pool.close()


def test_a_server_that_is_away_keeps_nobody_from_another() -> None:
    before = set(threading.enumerate())
    go_on, begun = threading.Event(), threading.Barrier(3)
    waited: list[bool] = []

    def wait(_: int) -> None:
        begun.wait(60)
        waited.append(go_on.wait(10))

    away = threading.Thread(target=lambda: list(run_parallel(wait, range(2), network=2)))
    away.start()
    begun.wait(60)
    assert list(run_parallel(abs, range(9), network=2)) == list(range(9))
    go_on.set()
    away.join()
    assert waited == [True, True]
    assert set(threading.enumerate()) <= before


def test_closing_a_pool_drops_what_has_not_begun_and_ends_the_threads() -> None:
    go_on, begun = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert go_on.wait(60)
        return "begun"

    pool = Pool(1, "fedarchive-test")
    first, second = pool.submit(work), pool.submit(lambda: "not begun")
    assert begun.wait(60)
    threading.Timer(0.05, go_on.set).start()
    pool.close()
    assert first.result() == "begun"
    assert not second.wait(), "dropped"
    assert not [thread for thread in threading.enumerate() if thread.name == "fedarchive-test"]
    assert pool.submit(lambda: "without threads").result() == "without threads"


def test_threads_of_a_forgotten_pool_end() -> None:
    pool = Pool(2, "fedarchive-forgotten")
    pool.submit(int).result()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "fedarchive-forgotten"]
    del pool
    thread.join(60)
    assert not thread.is_alive()


INTERRUPTED = """
import signal, sys, time
from archive.workers import run_parallel

class Interrupt(Exception):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
sys.unraisablehook = lambda unraisable: None  # an interrupt in a finaliser
arrived = 0
for turn in range(300):
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + turn * 1e-6)
            for _ in run_parallel(time.sleep, [0.0002] * 20):
                pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        arrived += 1
assert arrived > 100, arrived
print(*run_parallel(str, range(5)))
"""


@pytest.mark.needs("signal.setitimer")
def test_an_interrupt_while_waiting_leaves_nothing_locked() -> None:
    """Python 3.14 lets it in after a lock was acquired, before it can be released: every later wait hung."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0 1 2 3 4\n"), done.stderr


def test_no_item_is_kept() -> None:
    import weakref

    class Item(np.ndarray):
        pass

    kept: list[weakref.ref[Item]] = []

    def items() -> Iterator[Item]:
        for _ in range(20):
            item = np.zeros(1).view(Item)
            kept.append(weakref.ref(item))
            yield item
            del item

    for number, _ in enumerate(run_parallel(len, items(), network=2, ahead=3)):
        assert sum(item() is not None for item in kept[: number + 1]) <= 2


FORK_WITHIN_SUBMIT = """
import os, signal, sys
from archive.errors import ClosedError
from archive.workers import Pool

def fork(frame, event, arg):
    # as a signal handler may, in the middle of a call
    if event == "call" and frame.f_code.co_name == "__init__" and "call" in frame.f_locals:
        sys.setprofile(None)
        if not os.fork():
            signal.alarm(20)

pool = Pool(1, "forked")
pid = os.getpid()
sys.setprofile(fork)
job = pool.submit(lambda: 3)
try:
    assert job.result() == 3
except ClosedError:
    os._exit(7 if os.getpid() != pid else 8)
assert os.getpid() == pid, "a thread of the parent did the work of its child"
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_fork_within_submit_waits_for_no_thread_of_the_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_WITHIN_SUBMIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


TWO_FORKS = """
import os, threading
inside, late = threading.Event(), threading.Event()

def linger():
    # runs after the package's own hook, which was registered later
    if threading.current_thread().name == "first":
        inside.set()
        assert late.wait(20)
    else:
        late.set()

os.register_at_fork(before=linger)
from archive import owner
owner.FORK_WAIT_S = 0.05

def fork():
    if not os.fork():
        os._exit(0)
    os.wait()

first = threading.Thread(target=fork, name="first")
first.start()
assert inside.wait(20)
fork()
first.join()
print(owner.unforked().acquire(timeout=5))
"""


def test_a_fork_that_waits_no_longer_leaves_the_lock_of_another() -> None:
    """Two threads forked, one slowly: no file could be opened in any other thread again."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TWO_FORKS], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


class OfNumberError(Exception):
    pass


def test_several_threads_use_one_background() -> None:
    """Each error is raised once. Of two threads that waited for one job, one ended in an IndexError."""
    background, found = Background(), list[int]()

    def fail(number: int) -> None:
        raise OfNumberError(number)

    def collect(call: Callable[[], None]) -> None:
        while True:
            try:
                return call()
            except OfNumberError as error:
                found.append(error.args[0])

    def use(numbers: range) -> None:
        for number in numbers:
            collect(lambda number=number: background.start(partial(fail, number)))

    threads = [
        threading.Thread(target=use, args=(range(first, first + 100),)) for first in range(0, 400, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collect(background.close)
    assert sorted(found) == list(range(400))
