"""Batches of archives: which are opened together, weighed and added up, by one rule that decides every bit.

Inputs are cut into batches in the order given, before any is left out. Inside a batch the products are added
in that order. The sums of batches are added in order, again in groups of as many, until one group is left. So
the result does not depend on which process computes which batch, or on when one was computed.

Functions here are picklable by reference, and so is what they take and return: places of archives, never
arrays.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from archive import tuning
from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.errors import ArchiveError, ReplacedError, ValueRangeError
from archive.storage.url import Location
from archive.tools.clientmetrics import (
    Metrics,
    add_metrics,
    exact_sum,
    metrics_in,
    require_same,
    result_metrics,
    weight_in,
)
from archive.tools.leftout import Skipped, is_bad_input, without_traceback
from archive.tools.many import Input, Task
from archive.tools.partials import (
    Partial,
    create_partial,
    damaged_partial,
    find_partial,
    open_partials,
    partial_key,
    partial_place,
)
from archive.tools.sameschema import Template
from archive.tools.summing import BadInputsError, Summand
from archive.tools.sums import write_sums
from archive.tools.widening import wide_specs
from archive.workers import run_parallel

__all__ = [
    "Batch",
    "Group",
    "Opened",
    "Partial",
    "Rule",
    "open_inputs",
    "skipped_inputs",
    "sum_batch",
    "sum_group",
]

VERSION = 1
"""Of the rule. Partial sums of another are not used."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What decides, beside the inputs, the bits of a mean."""

    batch: int
    """Inputs that are added up together, and open at once."""
    errors: Literal["raise", "skip"] = "raise"
    """Whether a bad input ends the call or is left out."""
    nan: Literal["error", "allow"] = "error"
    """Whether an input with NaN or infinities is bad."""
    metrics: bool = False
    """Whether metrics are averaged too."""
    weigh_by: str = ""
    """The metric that weighs, where there is one."""


@dataclass(frozen=True, slots=True)
class Batch(Task):
    """Inputs that are added up together: a task."""

    number: int
    first: int
    """Position of the first among all inputs."""
    inputs: list[Input]
    weights: list[float]
    """Weight of each; not used where a metric weighs."""
    rule: Rule
    scratch: Location
    """The folder of partial sums."""
    template: Location
    """The archive whose arrays all must have."""
    identity: bytes
    """Its version."""


@dataclass(frozen=True, slots=True)
class Group(Task):
    """Partial sums that are added up: a task."""

    number: int
    children: list[Partial]
    scratch: Location


@dataclass(slots=True)
class Opened:
    """Inputs that are open, and those that are not."""

    template: Template | None
    """None where no input can be opened."""
    inputs: list[Summand] = field(default_factory=list)
    """In their order."""
    metrics: dict[int, Metrics] = field(default_factory=dict)
    """Metrics of each input by position, where they are averaged."""
    bad: dict[int, ArchiveError] = field(default_factory=dict)
    """Errors by position."""

    def drop(self, errors: dict[int, ArchiveError], rule: Rule) -> None:
        """Leave inputs out, or raise the first error that ends the mean."""
        for position in sorted(errors):
            if rule.errors == "raise" or not is_bad_input(errors[position]):
                raise errors[position]
        self.bad |= errors
        self.inputs = [one for one in self.inputs if one.position not in errors]


def open_inputs(
    inputs: Sequence[Input],
    first: int,
    weights: Sequence[float],
    rule: Rule,
    stack: ExitStack,
    template: Template | None = None,
) -> Opened:
    """Open archives of one model, and weigh them; without a template the first is it.

    Raises
    ------
    ArchiveError
        That of the first bad input, unless bad ones are left out.
    """
    opened = Opened(template)
    remote = any(one.place.remote for one in inputs)
    found: Iterable[Reader | ArchiveError] = map(_open, inputs)
    if remote:  # the first alone: threads that all make a client of the same server took 12 MB each
        others = run_parallel(_open, inputs[1:], network=tuning.ARCHIVES)
        found = itertools.chain(map(_open, inputs[:1]), others)
    readers: list[Reader | ArchiveError] = []
    for reader in found:
        readers.append(reader)
        if isinstance(reader, Reader):
            stack.callback(reader.close)
    for position, (reader, weight) in enumerate(zip(readers, weights, strict=True), start=first):
        try:
            if isinstance(reader, ArchiveError):
                raise reader
            template = Template(reader) if opened.template is None else opened.template
            layout = template.layout_of(reader)
            if rule.metrics or rule.weigh_by:
                metrics = metrics_in(reader.values)
                weight = weight_in(metrics, rule.weigh_by, reader.path) if rule.weigh_by else weight
                opened.metrics[position] = metrics
        except ArchiveError as error:
            opened.drop({position: error}, rule)
            continue
        opened.template = template
        opened.inputs.append(Summand(position, reader, layout, weight))
    if rule.metrics:
        _require_same_metrics(opened, rule)
    return opened


def sum_batch(
    batch: Batch,
    template: Template | None = None,
    advance: Callable[[int], object] | None = None,
) -> Partial:
    """Write the sum of a batch into the scratch folder, unless it is there.

    Parameters
    ----------
    batch : Batch
    template : Template, optional
        That of the batch, where it is at hand.
    advance : callable, optional
        Called with bytes of inputs that were added up.
    """
    rule = batch.rule
    with ExitStack() as stack:
        if template is None:
            template = _open_template(batch, stack)
        opened = open_inputs(batch.inputs, batch.first, batch.weights, rule, stack, template)
        rows = [(one.position, one.reader.identity.hex(), one.weight) for one in opened.inputs]
        content = json.dumps(
            {
                "rule": [VERSION, rule.batch, rule.errors, rule.nan, rule.metrics, rule.weigh_by],
                "arrays": template.digest().hex(),
                "batch": batch.number,
                "inputs": rows,
                "left_out": sorted(opened.bad),
            }
        )
        key = partial_key(content)
        place = partial_place(batch.scratch, key)
        found = find_partial(place, content, template)
        if found is None or not _still_left_out(found[1], opened):
            identity = _write(place, content, opened, batch, advance or _ignore)
        else:
            identity, skipped = found
            opened.bad |= {one.position: one.error for one in skipped}
            opened.inputs = [one for one in opened.inputs if one.position not in opened.bad]
        return Partial(
            place if opened.inputs else None,
            key,
            exact_sum(one.weight for one in opened.inputs),
            skipped_inputs(batch.inputs, batch.first, opened.bad),
            identity,
        )


def sum_group(group: Group) -> Partial:
    """Write the sum of partial sums into the scratch folder, unless it is there."""
    children = [child for child in group.children if child.place is not None]
    skipped = tuple(one for child in group.children for one in child.skipped)
    weight = sum((child.weight for child in children), Fraction())
    with ExitStack() as stack:
        opened = open_partials(children, stack) if children else None
        # versions: a key may name other sums, of clients of an earlier round or with one more left out
        sums = [one.reader.identity.hex() for one in opened[1]] if opened is not None else []
        content = json.dumps({"rule": VERSION, "group": group.number, "sums": sums})
        key = partial_key(content)
        if opened is None:
            return Partial(None, key, weight, skipped)
        template, inputs, metrics = opened
        place = partial_place(group.scratch, key)
        found = find_partial(place, content, template)
        if found is not None:
            return Partial(place, key, weight, skipped, found[0])
        with create_partial(place, content, []) as writer:
            for (record, name), value in metrics.items():
                writer.metrics[record][name] = value
            try:
                write_sums(
                    writer,
                    template,
                    inputs,
                    divisor=None,
                    specs=wide_specs(template),
                    finite=False,
                    advance=_ignore,
                )
            except BadInputsError as bad:
                raise damaged_partial(bad) from bad
    return Partial(place, key, weight, skipped, bytes.fromhex(writer.report.digest))


def _write(
    place: Location,
    content: str,
    opened: Opened,
    batch: Batch,
    advance: Callable[[int], object],
) -> bytes:
    """Write a partial sum, again without an input that turns out bad on the way; return its version."""
    template = opened.template
    while opened.inputs and template is not None:
        try:
            with create_partial(
                place, content, skipped_inputs(batch.inputs, batch.first, opened.bad)
            ) as writer:
                if batch.rule.metrics:
                    sums = add_metrics((one.weight, opened.metrics[one.position]) for one in opened.inputs)
                    for (record, name), value in sums.items():
                        writer.metrics[record][name] = value
                write_sums(
                    writer,
                    template,
                    opened.inputs,
                    divisor=None,
                    specs=wide_specs(template),
                    finite=batch.rule.nan == "error",
                    advance=advance,
                )
            return bytes.fromhex(writer.report.digest)
        except BadInputsError as bad:
            opened.drop(bad.errors, batch.rule)
    return b""


def skipped_inputs(
    inputs: Sequence[Input], first: int, bad: Mapping[int, ArchiveError]
) -> tuple[Skipped, ...]:
    """Return what was left out of inputs, the first of which has the position ``first``."""
    return tuple(Skipped(at, inputs[at - first].path, without_traceback(bad[at])) for at in sorted(bad))


def _still_left_out(skipped: Iterable[Skipped], opened: Opened) -> bool:
    """Tell whether what a partial sum left out is bad now: damage is repaired, a network comes back."""
    good = {one.position for one in opened.inputs}
    others = [one for one in skipped if one.position not in opened.bad]
    return all(one.position in good and isinstance(one.error, ValueRangeError) for one in others)


def _open_template(batch: Batch, stack: ExitStack) -> Template:
    reader = _open_reader(batch.template)
    stack.callback(reader.close)
    if reader.identity != batch.identity:
        raise ReplacedError(
            "it was replaced while archives were averaged", path=reader.path, remedy="average them again"
        )
    return Template(reader)


def _open(one: Input) -> Reader | ArchiveError:
    """Return the reader of an input, or its error: another may be the first that is bad."""
    try:
        return _open_reader(one.place)
    except ArchiveError as error:
        return error


def _open_reader(place: Location) -> Reader:
    # reads into the processor's cache; a map would be asked for each page, and fill a container's memory
    return open_reader(place, access="auto" if place.remote else "pread", verify="first")


def _require_same_metrics(opened: Opened, rule: Rule) -> None:
    """Leave inputs out, or raise, whose metrics are not those of the template."""
    if opened.template is None:
        return
    wanted, bad = result_metrics(metrics_in(opened.template.values), rule.weigh_by), dict[int, ArchiveError]()
    for one in opened.inputs:
        metrics = result_metrics(opened.metrics[one.position], rule.weigh_by)
        opened.metrics[one.position] = metrics
        try:
            require_same(metrics, wanted, one.reader.path)
        except ArchiveError as error:
            bad[one.position] = error
    if bad:
        opened.drop(bad, rule)


def _ignore(nbytes: int) -> None:
    """Take no note of progress."""
