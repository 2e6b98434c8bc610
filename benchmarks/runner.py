"""Starts a cell for every peer and runs them in turns, A B C B C A, so that all meet the same machine."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.cell import PREPARE, Task
from benchmarks.operations import OPERATIONS
from benchmarks.peers import PEERS, Peer, missing
from benchmarks.process import resident_anonymous_bytes
from benchmarks.shapes import Shape, stage

__all__ = ["Result", "run_shapes"]

_ROOT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.002
_RUN_SECONDS = 0.05
_MOST_REPEATS = 20


@dataclass(slots=True)
class Result:
    """One row: a peer, an operation, a shape."""

    shape: str
    operation: str
    peer: str
    seconds: list[float] = field(default_factory=list)
    """One of each round; of operations that take under 50 ms, the median of several in turn."""
    peak_bytes: int = 0
    """Most anonymous memory over what the process had before, in one run more that was not timed."""
    skipped: str = ""
    """Why there is nothing."""
    load: float = 0.0
    """Load average when the rounds began."""
    arrays: int = 0


class _Process:
    """A running cell."""

    def __init__(self, task: Task) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cell"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        self.failed = not self._send(task.dumps())

    def ask(self, repeat: int) -> dict[str, Any]:
        """Run and wait; an empty answer when the cell died."""
        return self.answer() if self._send(json.dumps({"repeat": repeat})) else {}

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        self.failed = self.failed or not line
        found: dict[str, Any] = json.loads(line) if line else {}
        return found

    def peak(self, repeat: int) -> int:
        """Run once more, quick operations many times, and return the most anonymous memory over that before.

        Looked at every 2 ms, and by the cell itself while it still holds a result.
        """
        assert self.process.stdout
        if not self._send(json.dumps({"repeat": 0, "trim": True})) or not self.answer():
            return 0
        before = most = resident_anonymous_bytes(self.process.pid)
        if not self._send(json.dumps({"repeat": repeat})):
            return 0
        while not select.select([self.process.stdout], [], [], _POLL_SECONDS)[0]:
            most = max(most, resident_anonymous_bytes(self.process.pid))
        return max(most - before, int(self.answer().get("held", 0)))

    def close(self) -> str:
        """End the cell; return the last thing it said when it failed."""
        assert self.process.stdin
        assert self.process.stdout
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait()
        self.process.stdout.close()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        self.errors.close()
        return (said[-1] if said else f"exit status {code}") if code or self.failed else ""

    def _send(self, line: str) -> bool:
        assert self.process.stdin
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True


def run_shapes(
    shapes: Sequence[Shape],
    operations: Sequence[str],
    peers: Sequence[str],
    *,
    runs: int,
    patience: float,
    folder: Path,
    cold: bool,
) -> Iterator[list[Result]]:
    """Yield the results of one operation after the other, of several shapes in the same rounds."""
    with ExitStack() as stack:
        staged = {shape.name: stack.enter_context(_staged(shape, folder)) for shape in shapes}
        made = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="bench-"))
        written: dict[str, str] = {}
        for name in operations:
            measured = []
            tasks = []
            able = [PEERS[peer] for peer in peers if name in PEERS[peer].operations]
            for shape, peer in itertools.product(shapes, able):
                arrays = len(shape.entries)
                result = Result(
                    shape.name, name, peer.name, arrays=arrays, skipped=_reason(peer, shape, name)
                )
                measured.append(result)
                path = f"{made}/{shape.name}-{peer.writes}"
                task = Task(peer.name, name, shape.name, str(staged[shape.name]), path, cold)
                if not result.skipped and not OPERATIONS[name].writes:
                    result.skipped = _prepare(task, peer, written)
                if not result.skipped:
                    tasks.append((result, task))
            os.sync()
            _rounds(tasks, runs, patience)
            yield measured


def _rounds(tasks: list[tuple[Result, Task]], runs: int, patience: float) -> None:
    """Fill in the results. A cell whose rounds would outlast ``patience`` gets fewer, never under 3."""
    cells: list[tuple[Result, _Process, int, int]] = []
    for result, task in tasks:
        cell = _Process(task)
        warm = float(cell.answer().get("seconds", 0.0))
        repeat = max(1, min(_MOST_REPEATS, int(_RUN_SECONDS / max(warm, 1e-6))))
        cells.append((result, cell, repeat, max(min(3, runs), min(runs, int(patience / max(warm, 1e-6))))))
    try:
        load = os.getloadavg()[0]
        order = random.Random(2026)
        for number in range(runs):
            # In another order each round: what a peer leaves of free memory and caches, the next finds,
            # and 1.1 GB saved after one of them took twice what it took after another.
            for result, cell, repeat, rounds in order.sample(cells, len(cells)):
                result.load = load
                if number < rounds and not cell.failed:
                    result.seconds += [statistics.median(cell.ask(repeat).get("seconds") or [math.nan])]
        for result, cell, repeat, _ in cells:
            result.peak_bytes = 0 if cell.failed else cell.peak(repeat)
    finally:
        for result, cell, *_ in cells:
            failure = cell.close()
            if failure:
                result.skipped, result.seconds = f"failed: {failure}", []


def _prepare(task: Task, peer: type[Peer], written: dict[str, str]) -> str:
    """Write the file that reads are timed on, once for all peers that write it alike; return a failure."""
    if task.path not in written:
        cell = _Process(replace(task, peer=_writer(peer).name, operation=PREPARE))
        cell.answer()
        cell.failed = False  # it answers nothing
        written[task.path] = cell.close()
    return written[task.path] and f"failed: {written[task.path]}"


def _writer(peer: type[Peer]) -> type[Peer]:
    return next(
        other for other in PEERS.values() if other.writes == peer.writes and "save" in other.operations
    )


def _reason(peer: type[Peer], shape: Shape, operation: str) -> str:
    """Return why a peer is left out."""
    absent = missing(peer)
    if absent:
        return f"{absent} is not installed"
    most = min(peer.most_arrays, peer.most_drained) if operation == "drain" else peer.most_arrays
    if len(shape.entries) > most:
        return f"more than {most:,} arrays take minutes"
    return ""


@contextmanager
def _staged(shape: Shape, folder: Path) -> Iterator[Path]:
    """Write the shape's values to memory, or to the folder where that is too small, for all cells."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > 2 * shape.staged_bytes
    with tempfile.TemporaryDirectory(dir=memory if fits else folder, prefix="bench-") as made:
        staged = Path(made, shape.name)
        stage(shape, staged)
        yield staged
