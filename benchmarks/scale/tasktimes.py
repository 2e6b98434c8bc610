"""The cost model of `simulate`: what a task of a mean takes of its worker and of what workers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from archive import tuning
from archive.storage.remote.clients.proofs import HASHED_BYTES
from archive.storage.remote.upload import part_size

__all__ = ["Place", "Shape", "Work", "task_work"]


WINDOW_BYTES = tuning.MEAN_FETCHED_BYTES // tuning.MEAN_FETCHES
"""What a mean asks a server for at a time."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The archives that are averaged: float32, so that a sum has twice their bytes."""

    clients: int
    nbytes: int
    """Bytes of the arrays of one."""
    overhead: int
    """Bytes of a file beside its arrays."""

    @property
    def wide(self) -> int:
        """Bytes of the arrays of a partial sum."""
        return 2 * self.nbytes


@dataclass(slots=True)
class Work:
    """What a task takes."""

    cpu: float = 0.0
    """Processor seconds."""
    wait: float = 0.0
    """Seconds that its worker waits for storage, beside its processor's."""
    gets: dict[str, int] = field(default_factory=lambda: {"clients": 0, "scratch": 0})
    """GET and HEAD by prefix."""
    puts: int = 0
    """PUT, POST and DELETE: all of the scratch folder, but for the mean's own."""
    deletes: int = 0
    """Those of them that cost no money."""
    read: int = 0
    written: int = 0

    @property
    def own(self) -> float:
        """Seconds of the worker."""
        return self.cpu + self.wait


@dataclass(frozen=True, slots=True)
class Place:
    """Where archives and partial sums lie: files, or objects of S3."""

    remote: bool
    costs: dict[str, Any]
    """Measured: of tasks (``batch``, ``group``), a process's ``anon`` and ``open``."""
    given: dict[str, float]


def task_work(
    place: Place, shape: Shape, kind: str, archives: int, *, written: int, template: bool = False
) -> Work:
    """Return what it takes to add up archives (``batch``) or partial sums (``group``), and to write the sum.

    ``template`` says that the archive whose arrays all must have is opened beside them, and that a partial
    sum is looked for: as by a worker.
    """
    nbytes = shape.nbytes if kind == "batch" else shape.wide
    costs = place.costs[kind]
    work = Work(
        cpu=costs["task"]
        + archives * (costs["archive"] + nbytes * costs["byte"])
        + written * costs["written"]
    )
    work.read = archives * (nbytes + shape.overhead)
    work.written = written + shape.overhead
    if place.remote:
        _add_requests(place, shape, kind, archives, work, template=template)
    return work


def _add_requests(
    place: Place, shape: Shape, kind: str, archives: int, work: Work, *, template: bool
) -> None:
    given, nbytes = place.given, shape.nbytes if kind == "batch" else shape.wide
    windows = _windows(nbytes, shape.overhead)
    opened = archives + (template and kind == "batch")
    work.gets["clients" if kind == "batch" else "scratch"] = opened + archives * windows
    work.gets["scratch"] += template
    parts = _parts(work.written)
    work.puts = parts if parts == 1 else parts + 2
    if parts == 1 and work.written > HASHED_BYTES:  # without an ETag one more request proves it
        work.gets["scratch"] += 1
    # the first is opened alone, the others by so many threads; then the partial sum is looked for
    rounds = 1 + -(-(archives - 1) // (tuning.ARCHIVES if kind == "batch" else 1)) + 2 * template
    length = min(nbytes, WINDOW_BYTES)
    ahead = max(2, tuning.MEAN_FETCHED_BYTES // max(length, 1 << 20))
    connections = min(tuning.REQUESTS, ahead)
    speed = min(given["connection"] * connections, given["network"])
    fetched = archives * windows * given["latency"] / connections + work.read / speed
    sending = min(tuning.PARTS, parts)
    sent = given["latency"] * (1 + (parts > 1) * 2) + work.written / (given["connection"] * sending)
    # fetching, adding up and sending go on side by side
    work.wait = rounds * given["latency"] + max(0.0, fetched + sent - work.cpu)


def _windows(nbytes: int, overhead: int) -> int:
    """Return the requests that bring the arrays of an archive, when its end is there."""
    if nbytes + overhead <= tuning.TAIL_BYTES:
        return 0
    return -(-nbytes // WINDOW_BYTES)


def _parts(nbytes: int) -> int:
    """Return the parts of an object whose length is not known before."""
    parts = 1
    left = nbytes - part_size(1)
    while left > 0:
        parts += 1
        left -= part_size(parts)
    return parts
