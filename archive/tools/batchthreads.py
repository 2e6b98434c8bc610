"""Batches that this process adds up: of small files several at once, each by a thread of its own.

While one thread adds up the archives of a batch, another opens those of the next or writes a sum, so that no
processor waits. Which batches are side by side decides no bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from archive import system, tuning
from archive.tools.batches import Batch, sum_batch
from archive.tools.many import run_tasks
from archive.tools.partials import Partial
from archive.tools.sameschema import Template
from archive.workers import run_parallel

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["sum_batches"]


def sum_batches(
    batches: Sequence[Batch],
    template: Template,
    advance: Callable[[int], object],
    executor: Executor | None = None,
) -> Generator[Partial, None, None]:
    """Yield the partial sums of batches, in order.

    Parameters
    ----------
    batches : sequence of Batch
    template : Template
        Theirs.
    advance : callable
        Called by this thread with bytes of inputs that were added up, where batches come one by one here.
    executor : Executor, optional
        What adds them up instead of this process.
    """
    if executor is not None:
        yield from run_tasks(sum_batch, batches, executor)
        return
    at_once = _batches_at_once(batches, template)
    if at_once < 2:
        yield from map(partial(sum_batch, template=template, advance=advance), batches)
        return
    # in threads of their own: those that hash and read files may be asked for by each of them
    here = partial(sum_batch, template=template, threads=max(1, tuning.THREADS // at_once))
    yield from run_parallel(here, batches, network=at_once, ahead=at_once)


def _batches_at_once(batches: Sequence[Batch], template: Template) -> int:
    """Return how many batches are added up side by side: one alone of large archives and of remote ones."""
    places = (one.place for batch in batches for one in batch.inputs)
    if sum(template.nbytes) > tuning.MEAN_SMALL_BYTES or any(place.remote for place in places):
        return 1
    files, (limit, _) = tuning.MEAN_OPEN, system.get_limits("RLIMIT_NOFILE")
    if limit != system.NO_LIMIT:
        files = min(files, limit // 2)  # the others are left to the program
    return min(tuning.THREADS, files // batches[0].rule.batch, len(batches))
