"""One rule for every function over many archives: tasks in order, here or in an executor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, MissingError
from archive.tools.columns import read_row
from archive.tools.many import find_inputs, read_each, run_tasks


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
    assert len(executor.futures) == 2
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
