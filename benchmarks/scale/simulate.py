"""``python -m benchmarks.scale.simulate``: what means of a million clients would take, on paper.

The tree is the real one: `archive.mean`'s own code cuts the inputs into batches, hands them to an executor
and adds the partial sums up in groups. Only the executor is not real: it has a clock, workers, and storage
that they share, and each task takes what such tasks were measured to take
(`benchmarks/results/scale-costs.json`, or ``--measure``: now). Limits and prices of S3 are parameters with
their sources.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from archive import tuning
from archive.storage.url import parse_url
from archive.tools.averaging import cut_batches
from archive.tools.batches import Batch, Group, Partial, Rule, sum_batch
from archive.tools.many import find_inputs, run_tasks
from archive.tools.partials import partial_key, partial_place
from archive.tools.sumtree import add_groups
from benchmarks.scale import costs as measuring
from benchmarks.scale.given import GIVEN, Given, values_with
from benchmarks.scale.tasktimes import Place, Shape, Work, task_work
from benchmarks.tables import markdown

__all__ = ["Outcome", "SimulatedExecutor", "as_markdown", "cut_shape", "main", "simulate"]

RESULTS = measuring.RESULTS.with_name("scale-simulated")
SHAPES = ((1_000_000, 300_000), (10_000, 14_000_000_000))
WORKERS = (1, 8, 64, 512)


@dataclass(slots=True)
class Outcome:
    """A mean on paper."""

    clients: int
    nbytes: int
    batch: int
    workers: int
    storage: str
    seconds: float = 0.0
    batches: int = 0
    groups: int = 0
    gets: int = 0
    puts: int = 0
    """PUT, POST and DELETE."""
    dollars: float = 0.0
    """Requests, and partial sums for so long; no machines."""
    scratch: int = 0
    """Bytes of all partial sums: they stay until the mean is there."""
    memory: int = 0
    """Of all workers and the caller."""
    open_files: int = 0
    """Of one worker."""
    shares: dict[str, float] = field(default_factory=dict)
    """How much of the time each resource was busy, from 0 to 1."""

    @property
    def bottleneck(self) -> str:
        """The resource that was busy most."""
        return max(self.shares, key=lambda name: self.shares[name])


class _Finished:
    """A future whose result comes at a time of the clock."""

    def __init__(self, executor: SimulatedExecutor, at: float, made: Partial) -> None:
        self._executor, self._at, self._made = executor, at, made

    def result(self) -> Partial:
        self._executor.now = max(self._executor.now, self._at)
        return self._made

    def cancel(self) -> bool:
        return False


class SimulatedExecutor:
    """Workers that take tasks in their order, and storage that they share: an executor for `run_tasks`."""

    def __init__(self, place: Place, shape: Shape, workers: int) -> None:
        self.now = 0.0
        self.works: list[tuple[str, Work]] = []
        self.names: set[str] = set()
        self._place, self._shape = place, shape
        self.running = workers if place.remote else min(workers, int(place.given["cores"]))
        self._free = [0.0] * self.running
        rates = place.given
        self._rates = {"disk reads": rates["disk_read"], "disk writes": rates["disk_write"]}
        if place.remote:
            machines = -(-workers // int(rates["cores"]))
            self._rates = {
                "GET of clients": rates["get_rate"] * rates["prefixes"],
                "GET of scratch": rates["get_rate"],
                "PUT of scratch": rates["put_rate"],
                "network": rates["network"] * machines,
            }
        self._busy = dict.fromkeys(self._rates, 0.0)
        self._until = dict.fromkeys(self._rates, 0.0)

    def submit(self, function: Callable[[Any], Partial], task: Batch | Group) -> _Finished:
        """Take a task: it begins when a worker is free, and ends when storage has served it."""
        if isinstance(task, Batch):
            work = self._work("batch", len(task.inputs), template=True)
            weight = sum((Fraction(one) for one in task.weights), Fraction())
        else:
            work = self._work("group", len(task.children), template=True)
            weight = sum((child.weight for child in task.children), Fraction())
        key = partial_key(f"{function.__name__} {len(self.names)} {task.number}")
        made = Partial(partial_place(task.scratch, key), key, weight)
        self.names.add(key)
        self.works.append((function.__name__, work))
        begin = max(self.now, heapq.heappop(self._free))
        end = max(begin + work.own, self._serve(work, begin))
        heapq.heappush(self._free, end)
        return _Finished(self, end, made)

    def do_here(self, name: str, work: Work) -> None:
        """Have the caller itself do work, alone."""
        self.works.append((name, work))
        self.now = max(self.now + work.own, self._serve(work, self.now))

    def finish(self, left: int) -> None:
        """Write the mean of the last partial sums, and remove all."""
        self.do_here("mean", task_work(self._place, self._shape, "group", left, written=self._shape.nbytes))
        removed = len(self.names)
        # a HEAD each, and one listing of unfinished uploads
        work = Work(gets={"clients": 0, "scratch": removed + 1}, puts=removed, deletes=removed)
        work.wait = 2 * removed * self._place.given["latency"] / tuning.ARCHIVES
        if self._place.remote:
            self.do_here("remove", work)

    def shares(self) -> dict[str, float]:
        """Return how much of the time each resource was busy."""
        tasks = [work for name, work in self.works if name.startswith("sum_")]
        cpu, wait = sum(work.cpu for work in tasks), sum(work.wait for work in tasks)
        alone = sum(work.own for name, work in self.works if not name.startswith("sum_"))
        busy = {"processors": cpu / self.running, "latency": wait / self.running, "the caller": alone}
        return {name: seconds / self.now for name, seconds in (busy | self._busy).items()}

    def _work(self, kind: str, archives: int, *, template: bool) -> Work:
        shape = self._shape
        return task_work(self._place, shape, kind, archives, written=shape.wide, template=template)

    def _serve(self, work: Work, begin: float) -> float:
        """Return when shared storage has served a task; each resource serves one after the other."""
        demands = {
            "disk reads": work.read,
            "disk writes": work.written,
            "GET of clients": work.gets["clients"],
            "GET of scratch": work.gets["scratch"],
            "PUT of scratch": work.puts,
            "network": work.read + work.written,
        }
        for name, rate in self._rates.items():
            seconds = demands[name] / rate
            self._busy[name] += seconds
            self._until[name] = max(self._until[name], begin) + seconds
        return max(self._until.values())


def cut_shape(clients: int, batch: int, *, remote: bool) -> list[Batch]:
    """Return the batches of so many inputs, as `archive.mean` cuts them."""
    root = "s3://bucket" if remote else "/data"
    inputs = find_inputs(f"{root}/round-7/client-{number:07d}.h5" for number in range(clients))
    scratch = parse_url(f"{root}/.mean.h5.sums")
    return cut_batches(inputs, [1.0] * clients, Rule(batch), scratch, inputs[0].place, b"")


def simulate(
    batches: Sequence[Batch],
    shape: Shape,
    workers: int,
    costs: dict[str, Any],
    given: dict[str, float],
) -> Outcome:
    """Return what a mean of batches takes with so many workers."""
    batch, scratch = batches[0].rule.batch, batches[0].scratch
    storage = "s3" if scratch.remote else "files"
    place = Place(scratch.remote, costs[storage], given)
    executor = SimulatedExecutor(place, shape, workers)
    names = Work(cpu=shape.clients * costs["caller"]["name"])
    names.gets["clients"] = 1 if place.remote else 0  # the archive whose arrays all must have
    executor.do_here("names", names)
    sums = list(run_tasks(sum_batch, batches, cast("Any", executor)))
    groups_from = len(executor.works)
    left, _ = add_groups(sums, batch, scratch, cast("Any", executor))
    groups = executor.works[groups_from:]
    executor.finish(len(left))
    works = [work for _, work in executor.works]
    gets = sum(sum(work.gets.values()) for work in works)
    puts = sum(work.puts for work in works)
    found = Outcome(shape.clients, shape.nbytes, batch, workers, storage, executor.now)
    found.batches, found.groups, found.gets, found.puts = len(batches), len(groups), gets, puts
    found.scratch = (len(batches) + len(groups)) * (shape.wide + shape.overhead)
    found.memory = int(
        executor.running * place.costs["anon"]
        + shape.clients * costs["caller"]["name_bytes"]
        + place.costs["anon"]
    )
    found.open_files = place.costs["open"] + (batch - max(measuring.COUNTS) if not place.remote else 0)
    if place.remote:
        deleted = sum(work.deletes for work in works)
        found.dollars = gets * given["get_price"] + (puts - deleted) * given["put_price"]
        found.dollars += found.scratch * executor.now * given["stored_price"]
    found.shares = executor.shares()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, print the tables, and write them where ``--out`` says."""
    options = _parser().parse_args(arguments)
    costs = (
        measuring.measure(options.folder) if options.measure else json.loads(Path(options.costs).read_text())
    )
    given, found = values_with(options.given), []
    for clients, nbytes in options.shapes:
        shape = Shape(clients, nbytes, costs["overhead"])
        for remote in (False, True):
            batches = cut_shape(clients, options.batch, remote=remote)
            found += [simulate(batches, shape, workers, costs, given) for workers in options.workers]
    text = as_markdown(found, costs, given)
    print(text)
    if options.out:
        rows = [asdict(one) | {"bottleneck": one.bottleneck} for one in found]
        told = {"costs": costs["moment"], "given": given, "rows": rows}
        Path(options.out).with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
        Path(options.out).with_suffix(".md").write_text(text)
    return 0


def as_markdown(found: Iterable[Outcome], costs: dict[str, Any], given: dict[str, float]) -> str:
    """Return the tables."""
    measured = f"`{costs['command']}`, {costs['moment']}, {costs['machine']['cpu']}"
    lines = [
        "# Means of many clients, on paper",
        "",
        f"Costs of {measured}. A worker is a process with a core of its own.",
        "Requests: GET and HEAD, then PUT, POST and DELETE. Dollars: requests and scratch, no machines.",
        "",
        *markdown([HEADING, *(table_row(one) for one in found)]),
        "",
        *markdown([["parameter", "value", "", "source"], *(_parameter(one, given) for one in GIVEN)]),
        "",
    ]
    return "\n".join(lines)


HEADING = [
    *("clients", "batch", "storage", "workers", "time", "requests", "dollars", "scratch", "memory"),
    *("open files", "bottleneck"),
]


def _parameter(one: Given, given: dict[str, float]) -> list[str]:
    return [
        one.name,
        f"{given[one.name]:g}",
        one.unit,
        one.source if given[one.name] == one.value else "given",
    ]


def table_row(one: Outcome) -> list[str]:
    """Return the words of a row."""
    remote = one.storage == "s3"
    return [
        f"{one.clients:,} x {_bytes(one.nbytes)}",
        str(one.batch),
        "S3" if remote else "local NVMe",
        str(one.workers),
        _duration(one.seconds),
        f"{one.gets:,} + {one.puts:,}" if remote else "",
        f"{one.dollars:,.2f}" if remote else "",
        _bytes(one.scratch),
        _bytes(one.memory),
        str(one.open_files),
        f"{one.bottleneck} ({one.shares[one.bottleneck]:.0%})",
    ]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bytes(nbytes: float) -> str:
    for unit in ("", "k", "M", "G"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}B"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"


def _shape(word: str) -> tuple[int, int]:
    clients, _, nbytes = word.partition("x")
    return int(float(clients)), int(float(nbytes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.simulate", description=__doc__)
    parser.add_argument("--shapes", nargs="+", type=_shape, default=SHAPES, metavar="CLIENTSxBYTES")
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--costs", default=measuring.RESULTS, help="file of measured costs")
    parser.add_argument("--measure", action="store_true", help="measure the costs now")
    parser.add_argument(
        "--given",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help=f"of: {', '.join(one.name for one in GIVEN)}",
    )
    parser.add_argument("--folder", help="where archives are written for --measure")
    parser.add_argument("--out", help="write the tables there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
