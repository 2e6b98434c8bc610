"""One rule for every function over many archives: which they are, several read at once, what errors do."""

from __future__ import annotations

import importlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, get_args

from archive import tuning
from archive.engine.progress import Report
from archive.errors import ArchiveError
from archive.storage.redaction import redact_url
from archive.storage.url import URL, Cache, Location, parse_url
from archive.tools.patterns import match_urls
from archive.workers import run_parallel

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["Errors", "Input", "Outcome", "find_inputs", "read_each", "require_errors", "run_tasks"]

BATCH = 64
"""Archives that are one task of an executor: handing a task over costs as much as reading several of them."""

Errors: TypeAlias = Literal["raise", "skip", "column"]
"""What a damaged or missing archive of many does: it ends the call, is left out, or gets a row that has its
error in the column ``error``."""

T = TypeVar("T")
R = TypeVar("R")


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
    inputs = []
    for path in match_urls(urls, storage_options, folders=folders):
        place = parse_url(path)
        if place.remote:
            place = parse_url(path, storage_options, cache, cache_bytes)
            path = redact_url(path).address
        inputs.append(Input(path, place))
    return inputs


def run_tasks(
    function: Callable[[T], R], tasks: Iterable[T], executor: Executor | None = None
) -> Iterator[R]:
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
        A process of the executor died. Other errors are those of the first task that failed; tasks that have
        not begun are cancelled then.
    """
    if executor is None:
        yield from map(function, tasks)
        return
    broken: Any = importlib.import_module("concurrent.futures").BrokenExecutor
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(function, task))
            if len(waiting) >= tuning.TASKS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except broken as error:
        raise ArchiveError(
            f"a process of the executor died: {error}", remedy="run it again with a new executor"
        ) from error
    finally:
        for future in waiting:
            future.cancel()


def read_each(
    read: Callable[[Location], R],
    inputs: Sequence[Input],
    *,
    errors: Errors = "raise",
    progress: Report | None = None,
    executor: Executor | None = None,
) -> Iterator[Outcome[R]]:
    """Yield what a function reads of each archive, in order; of remote ones several are read at once.

    Parameters
    ----------
    read : callable
        Takes a location.
    inputs : sequence of Input
    errors : {"raise", "skip", "column"}
        But for ``"raise"``, an error is the outcome of its archive.
    progress : callable, optional
        Called with (archives read, archives in all).
    executor : Executor, optional
        What has the archives read, a batch of them a task: ``read`` must be a function of a module then.

    Raises
    ------
    ArchiveError
        The first, with ``"raise"``.
    """
    raises = errors == "raise"
    if executor is None:
        outcomes = _read_here(read, raises, inputs)
    else:
        batches = [inputs[at : at + BATCH] for at in range(0, len(inputs), BATCH)]
        read_batch = partial(_read_batch, read, raises)
        outcomes = itertools.chain.from_iterable(run_tasks(read_batch, batches, executor))
    for done, outcome in enumerate(outcomes, start=1):
        if progress is not None:
            progress(done, len(inputs))
        yield outcome


def _read_batch(read: Callable[[Location], R], raises: bool, inputs: Sequence[Input]) -> list[Outcome[R]]:
    return list(_read_here(read, raises, inputs))


def _read_here(read: Callable[[Location], R], raises: bool, inputs: Sequence[Input]) -> Iterator[Outcome[R]]:
    each = partial(_outcome, read, raises)
    # threads pay off where each archive is a round trip; local ones come from the page cache mostly
    remote = any(one.place.remote for one in inputs)
    return run_parallel(each, inputs, network=tuning.ARCHIVES) if remote else map(each, inputs)


def _outcome(read: Callable[[Location], R], raises: bool, one: Input) -> Outcome[R]:
    try:
        return Outcome(one, result=read(one.place))
    except ArchiveError as error:
        if raises:
            raise
        return Outcome(one, error=error)
