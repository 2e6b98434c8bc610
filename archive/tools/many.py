"""One rule for every function over many archives: which they are, several read at once, what errors do."""

from __future__ import annotations

import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, get_args

from archive import tuning
from archive.engine.progress import Report
from archive.errors import ArchiveError
from archive.storage.redaction import redact_url
from archive.storage.url import URL, Cache, Location, local_location, parse_pattern, parse_url
from archive.tools.leftout import is_bad_input, without_traceback
from archive.tools.patterns import match_urls
from archive.workers import run_parallel

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = [
    "Errors",
    "Input",
    "Outcome",
    "Task",
    "find_inputs",
    "read_batches",
    "read_each",
    "require_errors",
    "run_tasks",
]

Errors: TypeAlias = Literal["raise", "skip", "column"]
"""What a damaged or missing archive of many does: it ends the call, is left out, or gets a row that has its
error in the column ``error``. A server that does not answer ends the call (`leftout.is_bad_input`)."""
Handling: TypeAlias = Literal["raise", "skip", "column", "report"]
"""The same, or ``"report"``: every error is an outcome, for commands that report each and leave none out."""

T = TypeVar("T")
R = TypeVar("R")
G = TypeVar("G")


@dataclass(frozen=True, slots=True)
class Input:
    """One archive of many."""

    path: str
    """As the caller named it, without secrets."""
    place: Location


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of one archive of many: it has a result or an error."""

    input: Input
    result: R | None = None
    error: ArchiveError | None = None


def require_errors(errors: object, allowed: Sequence[str] = get_args(Errors)) -> None:
    """Raise ValueError for a word that ``errors=`` does not take."""
    if errors not in allowed:
        raise ValueError(f"errors must be one of {', '.join(map(repr, allowed))}, not {errors!r}")


def find_inputs(
    urls: URL | Iterable[URL],
    storage_options: Mapping[str, Any] | None = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    *,
    folders: bool = False,
) -> list[Input]:
    """Return the archives of a pattern, or those that were named, in their order.

    Parameters
    ----------
    urls, folders
        As for `match_urls`.
    storage_options, cache, cache_bytes
        For those that are remote.

    Raises
    ------
    MissingError
        A pattern matches nothing.
    """
    paths = match_urls(urls, storage_options, folders=folders)
    if isinstance(urls, (str, os.PathLike)) and not parse_pattern(urls, storage_options).remote:
        return [Input(path, local_location(path)) for path in paths]
    inputs = []
    for path in paths:
        place = parse_url(path)
        if place.remote:
            place = parse_url(path, storage_options, cache, cache_bytes)
            path = redact_url(path).address
        inputs.append(Input(path, place))
    return inputs


class Task:
    """Work for an executor that Dask takes as a whole, and as new whenever it is asked for.

    Dask names a task by a digest of all that it holds: of the names of 2,048 archives that takes the process
    that asks as long as the workers take to read them.
    """

    __slots__ = ()

    def __dask_tokenize__(self) -> str:
        return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class _Reading(Task):
    """Archives that are read by one task."""

    inputs: Sequence[Input]


def run_tasks(
    function: Callable[[T], R], tasks: Iterable[T], executor: Executor | None = None
) -> Generator[R, None, None]:
    """Yield the results of tasks, in order.

    Parameters
    ----------
    function : callable
        Of a module, and what it takes and returns can be pickled: other processes may run it.
    tasks : iterable
    executor : Executor, optional
        None: the tasks run here, one after the other.

    Raises
    ------
    ArchiveError
        A process of the executor died, or it was shut down. Other errors are those of the first task that
        failed. Tasks that have not begun are cancelled then, also by an interrupt; who stops asking for
        results must close the iterator for that.
    """
    if executor is None:
        yield from map(function, tasks)
        return
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(_submit(executor, function, task))
            if len(waiting) >= tuning.TASKS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except _ends_of_executors() as error:
        raise ArchiveError(
            f"a process of the executor died: {str(error) or type(error).__name__}",
            remedy="run it again with a new executor; with fewer workers, where memory was short",
        ) from error
    finally:
        for future in waiting:
            future.cancel()


def _submit(executor: Executor, function: Callable[[T], R], task: T) -> Future[R]:
    try:
        return executor.submit(function, task)
    except RuntimeError as error:
        if isinstance(error, _ends_of_executors()):
            raise
        raise ArchiveError(
            f"the executor takes no task: {error}", remedy="pass one that was not shut down"
        ) from error


def _ends_of_executors() -> tuple[type[BaseException], ...]:
    """Return what the results of an executor raise that lost its processes; asked for after an error."""
    futures: Any = importlib.import_module("concurrent.futures")
    scheduler: Any = sys.modules.get("distributed.scheduler")
    killed = () if scheduler is None else (scheduler.KilledWorker,)
    return futures.BrokenExecutor, futures.CancelledError, *killed


def read_each(
    read: Callable[[Location], R],
    inputs: Sequence[Input],
    *,
    errors: Handling = "raise",
    progress: Report | None = None,
    executor: Executor | None = None,
) -> Generator[Outcome[R], None, None]:
    """Yield what a function reads of each archive, in order; of remote ones several are read at once.

    Parameters
    ----------
    read : callable
        Takes a location.
    inputs : sequence of Input
    errors : {"raise", "skip", "column", "report"}
        But for ``"raise"``, an error of an archive is its outcome.
    progress : callable, optional
        Called with (archives read, archives in all).
    executor : Executor, optional
        What has the archives read, a batch of them a task: ``read`` must be a function of a module then.

    Raises
    ------
    ArchiveError
        The first, with ``"raise"``. With ``"skip"`` and ``"column"`` the first that is not about an archive.
    """
    if executor is None:
        yield from _report(_read_here(read, errors, inputs), len(inputs), progress)
        return
    outcomes = _read_there(read, _results, errors, inputs, executor, tuning.BATCH)
    with closing(outcomes):
        found = (pair for batch in outcomes for pair in batch)
        each = (Outcome(one, *pair) for one, pair in zip(inputs, found, strict=True))
        yield from _report(each, len(inputs), progress)


def read_batches(
    read: Callable[[Location], R],
    gather: Callable[[Sequence[Outcome[R]]], G],
    inputs: Sequence[Input],
    *,
    errors: Errors = "raise",
    progress: Report | None = None,
    executor: Executor | None = None,
    batch: int = tuning.BATCH,
) -> Generator[G, None, None]:
    """Yield what a function makes of the outcomes of each batch of archives, in order.

    Parameters
    ----------
    read, inputs, errors, progress, executor
        As for `read_each`. Of batches that an executor reads, ``progress`` is told once each.
    gather : callable
        Takes the outcomes of a batch, where they were read: what it returns crosses processes instead.
    batch : int
        Archives of a batch, at most.
    """
    size = _batch_size(len(inputs), batch)
    if executor is None:
        outcomes = _report(_read_here(read, errors, inputs), len(inputs), progress)
        with closing(outcomes):
            while some := list(islice(outcomes, size)):
                yield gather(some)
        return
    with closing(_read_there(read, gather, errors, inputs, executor, batch)) as made:
        for number, result in enumerate(made, start=1):
            if progress is not None:
                progress(min(number * size, len(inputs)), len(inputs))
            yield result


def _batch_size(inputs: int, most: int) -> int:
    """Return how many archives a task has: enough tasks that workers end together, and few that are tiny."""
    return max(most // 16, min(most, inputs // 32))


def _report(
    outcomes: Iterable[Outcome[R]], total: int, progress: Report | None
) -> Generator[Outcome[R], None, None]:
    for done, outcome in enumerate(outcomes, start=1):
        if progress is not None:
            progress(done, total)
        yield outcome


def _read_there(
    read: Callable[[Location], R],
    gather: Callable[[Sequence[Outcome[R]]], G],
    errors: Handling,
    inputs: Sequence[Input],
    executor: Executor,
    most: int,
) -> Generator[G, None, None]:
    size = _batch_size(len(inputs), most)
    batches = (_Reading(inputs[at : at + size]) for at in range(0, len(inputs), size))
    return run_tasks(partial(_read_batch, read, gather, errors), batches, executor)


def _read_batch(
    read: Callable[[Location], R],
    gather: Callable[[Sequence[Outcome[R]]], G],
    errors: Handling,
    task: _Reading,
) -> G:
    return gather(list(_read_here(read, errors, task.inputs)))


def _results(outcomes: Sequence[Outcome[R]]) -> list[tuple[R | None, ArchiveError | None]]:
    """Return outcomes without their archives, which the other side knows."""
    return [(one.result, one.error) for one in outcomes]


def _read_here(
    read: Callable[[Location], R], errors: Handling, inputs: Sequence[Input]
) -> Iterator[Outcome[R]]:
    each = partial(_outcome, read, errors)
    # threads pay off where each archive is a round trip; local ones come from the page cache mostly
    remote = any(one.place.remote for one in inputs)
    return run_parallel(each, inputs, network=tuning.ARCHIVES) if remote else map(each, inputs)


def _outcome(read: Callable[[Location], R], errors: Handling, one: Input) -> Outcome[R]:
    try:
        return Outcome(one, read(one.place))
    except ArchiveError as error:
        if errors == "raise" or not (errors == "report" or is_bad_input(error)):
            raise
        # a command reports each error at once, with --debug its traceback too; others keep all of them
        return Outcome(one, error=error if errors == "report" else without_traceback(error))
