"""The way from the sums of batches to the mean that is published."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

from archive.engine.progress import Report
from archive.engine.report import SaveReport
from archive.engine.storagespec import StorageSpec
from archive.engine.write.create import ArchiveWriter
from archive.errors import ArchiveError, DamagedError, ValueRangeError
from archive.storage.url import Location
from archive.tools.batches import Group, Rule, sum_group
from archive.tools.clientmetrics import Metrics
from archive.tools.leftout import Skipped
from archive.tools.many import run_tasks
from archive.tools.partials import RECOMPUTE, Partial, damaged_partial, open_partials
from archive.tools.sameschema import Template
from archive.tools.summing import BadInputsError, Summand
from archive.tools.sums import write_sums

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Output", "add_groups", "none_left", "publish_sums", "require_total"]


@dataclass(slots=True)
class Output:
    """Where a mean goes, and how it is computed."""

    place: Location
    rule: Rule
    progress: Report | None
    overwrite: bool
    durable: bool
    created: datetime | str | None
    total: int = 0
    done: int = 0

    def writer(self) -> ArchiveWriter:
        """Begin the archive."""
        return ArchiveWriter(self.place, overwrite=self.overwrite, durable=self.durable, created=self.created)

    def advance(self, nbytes: int) -> None:
        """Report bytes of inputs that were added up."""
        self.reach(self.done + nbytes)

    def reach(self, nbytes: int) -> None:
        """Report so many bytes, unless more were reported: a batch may begin again, or be there already."""
        nbytes = min(nbytes, self.total)
        if nbytes > self.done:
            self.done = nbytes
            if self.progress is not None:
                self.progress(self.done, self.total)

    def end(self) -> None:
        """Report that all is done: not every array is added up, and less is where an input was left out."""
        if self.done != self.total:
            self.done = self.total
            if self.progress is not None:
                self.progress(self.done, self.total)

    def write(
        self,
        template: Template,
        inputs: Sequence[Summand],
        divisor: float,
        metrics: Metrics,
        specs: Sequence[StorageSpec],
        *,
        finite: bool,
    ) -> SaveReport:
        """Write the mean of what is open."""
        with self.writer() as writer:
            for (record, key), total in metrics.items():
                mean_of = [one / divisor for one in total] if isinstance(total, list) else total / divisor
                writer.metrics[record][key] = mean_of
            write_sums(
                writer,
                template,
                inputs,
                divisor=divisor,
                specs=specs,
                finite=finite,
                advance=self.advance,
            )
        return writer.report


def publish_sums(
    sums: Sequence[Partial],
    names: Sequence[tuple[str, str]],
    specs: Sequence[StorageSpec],
    output: Output,
    scratch: Location,
    executor: Executor | None = None,
) -> tuple[SaveReport, list[Skipped], list[str]]:
    """Write the mean of partial sums, in groups of a batch until there is one group.

    Parameters
    ----------
    sums : sequence of Partial
        Of all batches, in order, also of those that are empty.
    names, specs
        Of the arrays of the mean.
    output : Output
    scratch : Location
        The folder of partial sums.
    executor : Executor, optional
        What adds the groups up.

    Returns
    -------
    report : SaveReport
    skipped : list of Skipped
        What was left out on the way.
    keys : list of str
        Of all partial sums.
    """
    keys = [made.key for made in sums]
    sums, made_here = add_groups(sums, output.rule.batch, scratch, executor)
    keys += made_here
    skipped = [one for made in sums for one in made.skipped]
    if all(made.place is None for made in sums):
        raise none_left({one.position: one.error for one in skipped}, output)
    weight = sum((made.weight for made in sums), Fraction())
    total = float(weight) if weight <= sys.float_info.max else math.inf
    require_total(total, output.place.display)
    with ExitStack() as stack:
        template, inputs, metrics = open_partials(sums, stack)
        if template.names != list(names):
            raise DamagedError("a partial sum of other arrays", path=inputs[0].reader.path, remedy=RECOMPUTE)
        try:
            saved = output.write(template, inputs, total, metrics, specs, finite=False)
        except BadInputsError as bad:
            raise damaged_partial(bad) from bad
    return saved, skipped, keys


def add_groups(
    sums: Sequence[Partial], size: int, scratch: Location, executor: Executor | None = None
) -> tuple[Sequence[Partial], list[str]]:
    """Add sums up in groups of ``size`` until one group is left; return it, and the keys of what was made."""
    keys: list[str] = []
    while len(sums) > size:
        starts = range(0, len(sums), size)
        groups = [Group(at // size, list(sums[at : at + size]), scratch) for at in starts]
        sums = list(run_tasks(sum_group, groups, executor))
        keys += [made.key for made in sums]
    return sums, keys


def none_left(bad: Mapping[int, ArchiveError], output: Output) -> ArchiveError:
    """Return the error where every archive was left out."""
    first = bad[min(bad)]
    return ValueRangeError(
        f"no archive is left to average; the first that was left out: {first}",
        path=output.place.display,
        remedy="nothing was written",
    )


def require_total(total: float, out: str) -> None:
    """Raise where the weights of what was not left out make no mean."""
    if not 0 < total < math.inf:
        raise ValueRangeError(
            f"the weights of the archives that are left add up to {total}",
            path=out,
            remedy="give weights whose sum is finite and not zero; nothing was written",
        )
