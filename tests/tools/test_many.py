"""One rule for every function over many archives: tasks in order, here or in an executor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, MissingError
from archive.tools.columns import read_row
from archive.tools.many import find_inputs, read_batches, read_each, run_tasks
from tests.children import child_environment


class Later(Executor):
    """Runs tasks when they are asked for, and says what was cancelled."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        result = future.result

        def run(timeout: float | None = None) -> Any:
            if not future.done():
                try:
                    future.set_result(call(*arguments, **named))
                except ArchiveError as error:
                    future.set_exception(error)
            return result(timeout)

        future.result = run  # type: ignore[method-assign]
        self.futures.append(future)
        return future


def half(number: int) -> float:
    if number == 3:
        raise MissingError("no three", path=str(number))
    if number == 7:
        raise BrokenExecutor("it is gone")
    return number / 2


def test_results_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for executor in (None, Later()):
        assert list(run_tasks(half, [0, 5, 1, 2], executor)) == [0, 2.5, 0.5, 1]
    monkeypatch.setattr("archive.tuning.TASKS", 2)
    asked: list[int] = []

    def tasks() -> Iterator[int]:
        for number in (0, 1, 2, 4, 5):
            asked.append(number)
            yield number

    found = run_tasks(half, tasks(), Later())
    assert next(found) == 0
    assert asked == [0, 1], "no more tasks wait than may"
    assert list(found) == [0.5, 1, 2, 2.5]


def test_the_first_error_cancels_the_rest() -> None:
    executor = Later()
    with pytest.raises(MissingError, match="no three"):
        list(run_tasks(half, [1, 3, 4, 7], executor))
    assert [future.cancelled() for future in executor.futures] == [False, False, True, True]
    with pytest.raises(ArchiveError, match="a process of the executor died: it is gone; run it again"):
        list(run_tasks(half, [7], broken()))


def test_an_executor_that_was_shut_down_is_an_error_of_ours() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(ArchiveError, match=r"the executor takes no task: .*; pass one"):
        list(run_tasks(half, [1], executor))


def broken() -> Executor:
    class Broken(Later):
        def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("it is gone"))
            return future

    return Broken()


def save_rows(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.h5" for number in range(count)]
    for number, path in enumerate(paths):
        archive.save({"x": np.zeros(1)}, path, metrics={"loss": float(number)}, durable=False)
    return paths


def test_archives_are_read_in_batches(tmp_path: Path) -> None:
    paths = save_rows(tmp_path, 70)
    paths[66].unlink()
    inputs = find_inputs(paths)
    told: list[tuple[int, int]] = []
    executor = Later()
    outcomes = list(
        read_each(read_row, inputs, errors="skip", executor=executor, progress=lambda *at: told.append(at))
    )
    assert len(executor.futures) == 18, "four archives a task: as many tasks as workers end together"
    assert [outcome.input for outcome in outcomes] == inputs
    losses = [(outcome.result or {}).get(("metrics", "metrics", "loss")) for outcome in outcomes]
    assert losses == [None if number == 66 else float(number) for number in range(70)]
    assert isinstance(outcomes[66].error, MissingError)
    assert told == [(done, 70) for done in range(1, 71)]
    with pytest.raises(MissingError):
        list(read_each(read_row, inputs, executor=Later()))


@pytest.mark.slow
def test_archives_are_read_by_processes(tmp_path: Path) -> None:
    paths = save_rows(tmp_path, 70)
    paths[66].unlink()
    here = list(read_each(read_row, find_inputs(paths), errors="skip"))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = list(read_each(read_row, find_inputs(paths), errors="skip", executor=pool))
    assert [outcome.result for outcome in there] == [outcome.result for outcome in here]
    assert isinstance(there[66].error, MissingError)


def end_this_process(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_a_process_that_is_killed_is_an_error_that_says_what_to_do() -> None:
    with (
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(
            ArchiveError, match=r"a process of the executor died: .*; run it again with a new executor"
        ),
    ):
        list(run_tasks(end_this_process, range(40), pool))


def test_a_caller_that_stops_cancels_what_has_not_begun(tmp_path: Path) -> None:
    inputs = find_inputs(save_rows(tmp_path, 20))

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    executor = Later()
    with pytest.raises(KeyboardInterrupt):
        list(read_each(read_row, inputs, executor=executor, progress=stop))
    assert [future.cancelled() for future in executor.futures] == [False, False, True, True, True]
    executor = Later()
    with pytest.raises(KeyboardInterrupt):
        list(read_batches(read_row, len, inputs, executor=executor, progress=stop, batch=80))
    assert [future.cancelled() for future in executor.futures] == [False, True, True, True]


INTERRUPTED = """
import os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from archive.tools.many import Input, read_each
from archive.storage.url import parse_url

def wait(place):
    Path(place.path).touch()
    time.sleep(0.2)

if __name__ == "__main__":
    folder = sys.argv[1]
    inputs = [Input(name, parse_url(name)) for name in (f"{folder}/{n}" for n in range(200))]
    def interrupt():
        while not os.listdir(folder):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with ProcessPoolExecutor(2) as pool:
            list(read_each(wait, inputs, executor=pool))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_an_interrupt_ends_a_call_with_workers(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "begun"
    script.write_text(INTERRUPTED)
    folder.mkdir()
    child = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, check=True, env=child_environment()
    )
    assert child.stdout == "interrupted\n"
    assert len(list(folder.iterdir())) < 100, "tasks that had not begun are cancelled"
