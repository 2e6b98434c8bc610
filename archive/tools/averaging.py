"""The weighted mean of archives of one model, as many as there are: batches of them, in bounded memory."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from archive.engine.progress import Bar, Progress
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, ExistsError, ValueRangeError
from archive.storage.folder import file_exists
from archive.storage.url import URL, Cache, Location, parse_mixed
from archive.tools.batches import (
    Batch,
    Partial,
    Rule,
    open_inputs,
    skipped_inputs,
    sum_batch,
)
from archive.tools.clientmetrics import Metrics, add_metrics
from archive.tools.leftout import Skipped
from archive.tools.many import Input, find_inputs, require_errors, run_tasks
from archive.tools.sameschema import Template
from archive.tools.scratchfolder import make_scratch, remove_partials, scratch_beside
from archive.tools.summing import BadInputsError
from archive.tools.sumtree import Output, none_left, publish_sums, require_total

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["MeanReport", "cut_batches", "mean"]


@dataclass(frozen=True, slots=True)
class MeanReport(SaveReport):
    """A mean that was saved."""

    inputs: int = 0
    """Archives in it."""
    skipped: tuple[Skipped, ...] = ()
    """Archives that were left out, and why."""


def mean(
    urls: URL | Iterable[URL],
    weights: Iterable[float] | str | None = None,
    *,
    out: URL,
    batch: int = 64,
    scratch: URL | None = None,
    executor: Executor | None = None,
    errors: Literal["raise", "skip"] = "raise",
    nan: Literal["error", "allow"] = "error",
    metrics: Literal["weighted"] | None = None,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> MeanReport:
    """Average archives of equal schema into a new one, any number of them, in bounded memory.

    Parameters
    ----------
    urls : str, path-like or iterable of them
        Archives whose arrays have the same names, dtypes and shapes; or a pattern (``"round-7/*.h5"``).
    weights : iterable of float or str, optional
        One for each, not negative; or the name of the metric that is the weight of its archive, such as
        ``"num-examples"``. Equal weights if not given.
    out : str or path-like
        Where the mean goes. Configs are not averaged and not taken over.
    batch : int, default 64
        Archives that are open at once. It decides how sums are rounded: equal bits need an equal ``batch``.
    scratch : str or path-like, optional
        Folder for partial sums, of more archives than a batch; ``.NAME.sums`` beside ``out`` if not given.
        A call that was killed goes on from those that are there; they are removed when the mean is published.
        Processes of an executor must reach it under the same name.
    executor : concurrent.futures.Executor, optional
        What computes the batches: a pool of processes, ``distributed.Client.get_executor()``. Its tasks get
        and return names of archives, never arrays.
    errors : {"raise", "skip"}, default "raise"
        ``"skip"`` leaves bad archives out (missing, damaged, of another schema, not finite), and the report
        names them. A server that does not answer is no bad archive: it ends the call, which goes on from its
        partial sums when it is made again.
    nan : {"error", "allow"}, default "error"
        Whether an archive with NaN or infinities is bad.
    metrics : {"weighted"}, optional
        Average the metrics too, but for the one that weighs. If not given, the mean has none.
    overwrite, durable, created, storage_options
        As for `save`.
    progress : True or callable, optional
        True draws a bar (needs tqdm); a callable gets (bytes of the archives added up, bytes in all).
    cache, cache_bytes
        Of ``urls``, as for `open`.

    Returns
    -------
    MeanReport
        A SaveReport with the number of archives in the mean, and those that were left out.

    Raises
    ------
    ValueRangeError
        The archives differ in schema, one holds NaN or infinities, the weights make no mean, or an integer
        is too large for one.
    UnsupportedDtypeError
        Arrays that are not numbers differ.
    DigestError
        An input is damaged; nothing is published.

    Notes
    -----
    One rule decides every bit, whoever computes what, and in whatever order: products and sums are float64
    (complex128, or longdouble for longdouble), the archives of a batch added in the order given, the sums of
    batches in their order, again in groups of ``batch``. The sum is divided once and rounded once to the
    input's dtype. Batches are cut before any archive is left out. Integers are rounded half to even. Arrays
    that are not numbers must be equal everywhere. Arrays that are tied in every archive stay tied.

    Examples
    --------
    >>> import archive, numpy as np
    >>> for client in (1, 3):
    ...     model, metrics = {"w": np.full(2, client, "f4")}, {"num-examples": client}
    ...     _ = archive.save(model, f"/tmp/fedarchive-doctest-{client}.h5", metrics=metrics)
    >>> urls = ["/tmp/fedarchive-doctest-1.h5", "/tmp/fedarchive-doctest-3.h5"]
    >>> report = archive.mean(urls, "num-examples", out="/tmp/fedarchive-averaging.h5")
    >>> archive.load("/tmp/fedarchive-averaging.h5")["model"]["w"].numpy().tolist(), report.inputs
    ([2.5, 2.5], 2)
    """
    require_errors(errors, ("raise", "skip"))
    _require_words(batch, nan, metrics)
    inputs = find_inputs(urls, storage_options, cache, cache_bytes)
    place = parse_mixed(out, storage_options)
    weigh_by = weights if isinstance(weights, str) else ""
    shares = [1.0] * len(inputs) if weights is None or weigh_by else [float(weight) for weight in weights]
    _require_weights(shares, len(inputs), place.display)
    rule = Rule(batch, errors, nan, metrics == "weighted", weigh_by)
    with Bar(progress, "averaging") as report:
        output = Output(place, rule, report, overwrite, durable, created)
        if len(inputs) <= batch:
            return _average(inputs, shares, output)
        if not overwrite and file_exists(place.path, storage_options if place.remote else None):
            raise ExistsError(
                "a file is already there",
                path=place.display,
                errno=errno.EEXIST,
                remedy="name another, or overwrite it",
            )
        folder = scratch_beside(place) if scratch is None else parse_mixed(scratch, storage_options)
        averaged, keys = _average_batches(inputs, shares, output, folder, executor)
        remove_partials(folder, None if scratch is None else keys)
        return averaged


def _average(inputs: Sequence[Input], weights: Sequence[float], output: Output) -> MeanReport:
    """Write the mean of one batch, again without an input that turns out bad on the way."""
    with ExitStack() as stack:
        opened = open_inputs(inputs, 0, weights, output.rule, stack)
        while opened.template is not None and opened.inputs:
            template, shares = opened.template, [one.weight for one in opened.inputs]
            require_total(sum(shares), output.place.display)
            output.total = sum(template.nbytes) * len(shares)
            metrics: Metrics = {}
            if output.rule.metrics:
                metrics = add_metrics((one.weight, opened.metrics[one.position]) for one in opened.inputs)
            try:
                saved = output.write(
                    template,
                    opened.inputs,
                    math.fsum(shares),
                    metrics,
                    template.specs(),
                    finite=output.rule.nan == "error",
                )
            except BadInputsError as bad:
                opened.drop(bad.errors, output.rule)
                continue
            output.end()
            return _report(saved, len(inputs), skipped_inputs(inputs, 0, opened.bad))
    raise none_left(opened.bad, output)


def _average_batches(
    inputs: Sequence[Input],
    weights: Sequence[float],
    output: Output,
    scratch: Location,
    executor: Executor | None,
) -> tuple[MeanReport, list[str]]:
    """Write the mean of many batches, and return the keys of all partial sums."""
    rule, (template, first) = output.rule, _find_template(inputs, output)
    make_scratch(scratch)
    output.total = sum(template.nbytes) * len(inputs)
    batches = cut_batches(inputs, weights, rule, scratch, first, template.identity)
    here = partial(sum_batch, template=template, advance=output.advance)
    sums: list[Partial] = []
    with closing(run_tasks(here if executor is None else sum_batch, batches, executor)) as found:
        for batch, made in zip(batches, found, strict=True):
            sums.append(made)
            output.reach(sum(template.nbytes) * (batch.first + len(batch.inputs)))
    saved, skipped, keys = publish_sums(sums, template.names, template.specs(), output, scratch, executor)
    return _report(saved, len(inputs), skipped), keys


def cut_batches(
    inputs: Sequence[Input],
    weights: Sequence[float],
    rule: Rule,
    scratch: Location,
    template: Location,
    identity: bytes,
) -> list[Batch]:
    """Return the tasks of a mean: inputs in the order given, cut before any is left out."""
    return [
        Batch(
            at // rule.batch,
            at,
            list(inputs[at : at + rule.batch]),
            list(weights[at : at + rule.batch]),
            rule,
            scratch,
            template,
            identity,
        )
        for at in range(0, len(inputs), rule.batch)
    ]


def _report(saved: SaveReport, inputs: int, skipped: Sequence[Skipped]) -> MeanReport:
    return MeanReport(**asdict(saved), inputs=inputs - len(skipped), skipped=tuple(skipped))


def _find_template(inputs: Sequence[Input], output: Output) -> tuple[Template, Location]:
    """Return the arrays of the first archive that can be read, and where it is."""
    bad: dict[int, ArchiveError] = {}
    for position, one in enumerate(inputs):
        with ExitStack() as stack:
            opened = open_inputs([one], position, [1.0], output.rule, stack)
            bad |= opened.bad
            if opened.template is not None and opened.inputs:
                return opened.template, one.place
    raise none_left(bad, output)


def _require_words(batch: object, nan: object, metrics: object) -> None:
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 2:
        raise ValueError(f"batch must be a number of archives, 2 or more, not {batch!r}")
    if nan not in ("error", "allow"):
        raise ValueError(f"nan must be 'error' or 'allow', not {nan!r}")
    if metrics not in (None, "weighted"):
        raise ValueError(f"metrics must be None or 'weighted', not {metrics!r}")


def _require_weights(weights: Sequence[float], archives: int, out: str) -> None:
    problem = ""
    if not archives:
        problem = "the mean of no archives"
    elif len(weights) != archives:
        problem = f"{len(weights)} weights for {archives} archives"
    elif not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        problem = f"weights must be finite, not negative and not all zero: {list(weights)[:5]}"
    if problem:
        raise ValueRangeError(problem, path=out, remedy="give every archive one weight; nothing was written")
