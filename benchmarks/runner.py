"""Starts a cell for every peer and runs them in turns, A B C A B C, so that all meet the same machine."""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.cell import PREPARE, Task
from benchmarks.operations import OPERATIONS
from benchmarks.peers import PEERS, Peer, missing
from benchmarks.process import resident_anonymous_bytes
from benchmarks.shapes import Shape, stage

__all__ = ["Result", "run_shape"]

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

    def peak(self) -> int:
        """Run once more and return the most anonymous memory seen, over that before."""
        assert self.process.stdout
        if not self._send(json.dumps({"repeat": 0, "trim": True})) or not self.answer():
            return 0
        before = most = resident_anonymous_bytes(self.process.pid)
        if not self._send(json.dumps({"repeat": 1})):
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


def run_shape(
    shape: Shape,
    operations: Sequence[str],
    peers: Sequence[str],
    *,
    runs: int,
    patience: float,
    folder: Path,
    cold: bool,
) -> Iterator[list[Result]]:
    """Yield the results of one operation after the other."""
    with _staged(shape, folder) as staged, tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as made:
        written: dict[str, str] = {}
        for name in operations:
            measured = []
            tasks = []
            for peer in (PEERS[peer] for peer in peers if name in PEERS[peer].operations):
                result = Result(shape.name, name, peer.name, skipped=_reason(peer, shape))
                measured.append(result)
                task = Task(peer.name, name, shape.name, str(staged), f"{made}/{peer.writes}", cold)
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
        for number in range(runs):
            for result, cell, repeat, rounds in cells:
                result.load = load
                if number < rounds and not cell.failed:
                    result.seconds += [statistics.median(cell.ask(repeat).get("seconds") or [math.nan])]
        for result, cell, *_ in cells:
            result.peak_bytes = 0 if cell.failed else cell.peak()
    finally:
        for result, cell, *_ in cells:
            failure = cell.close()
            if failure:
                result.skipped, result.seconds = f"failed: {failure}", []


def _prepare(task: Task, peer: type[Peer], written: dict[str, str]) -> str:
    """Write the file that reads are timed on, once for all peers that write it alike; return a failure."""
    if peer.writes not in written:
        cell = _Process(replace(task, peer=_writer(peer).name, operation=PREPARE))
        cell.answer()
        cell.failed = False  # it answers nothing
        written[peer.writes] = cell.close()
    return written[peer.writes] and f"failed: {written[peer.writes]}"


def _writer(peer: type[Peer]) -> type[Peer]:
    return next(
        other for other in PEERS.values() if other.writes == peer.writes and "save" in other.operations
    )


def _reason(peer: type[Peer], shape: Shape) -> str:
    """Return why a peer is left out."""
    absent = missing(peer)
    if absent:
        return f"{absent} is not installed"
    if len(shape.entries) > peer.most_arrays:
        return f"more than {peer.most_arrays:,} arrays take minutes"
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
