"""One peer and one operation in a process of its own, run when the parent says so.

Lines of JSON: the parent sends a `Task`, then ``{"repeat": n}`` for every run; the end of input ends the
cell. What the library prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.operations import OPERATIONS, Operation, Target, target_of
from benchmarks.peers import PEERS, Peer
from benchmarks.process import drop_pages, read_afresh, resident_anonymous_bytes
from benchmarks.shapes import SHAPES, arrays_of

__all__ = ["PREPARE", "Cell", "Task"]

PREPARE = "prepare"
"""The operation that writes the file which reads are timed on; nothing is timed."""

_SLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a cell is to do."""

    peer: str
    operation: str
    shape: str
    staged: str
    """File that holds the shape's values."""
    path: str
    """What is saved and read."""
    cold: bool = False
    """Drop the file's pages before every read."""

    def dumps(self) -> str:
        return json.dumps(asdict(self))


class Cell:
    """A peer made ready: imported, its input held, its file there."""

    def __init__(self, task: Task) -> None:
        shape = SHAPES[task.shape]
        self.task = task
        self.target: Target = target_of(shape)
        self.peer: Peer = PEERS[task.peer](Path(task.path), shape.entries)
        prepares = task.operation == PREPARE
        self.operation: Operation = OPERATIONS["save" if prepares else task.operation]
        if self.operation.writes:
            with open(task.staged, "r+b") as file:
                # Writable, or torch warns; shared, so that inputs of ten cells fit into memory.
                staged = mmap.mmap(file.fileno(), 0)
            self.peer.take(arrays_of(shape.entries, staged))
        if prepares:
            self.peer.remove()
            self.peer.save(False)
            read_afresh(self.peer.files())
        else:
            self.warm_seconds, _ = self.once()
            if self.warm_seconds < _SLOW_SECONDS:  # the first also counted what is made once a process
                self.warm_seconds, _ = self.once()
            gc.freeze()  # collecting torch's own objects before each run takes longer than most runs

    def once(self) -> tuple[float, int]:
        """Run once; return seconds, and bytes of anonymous memory that the result holds."""
        if self.operation.writes:
            self.peer.remove()
        elif self.task.cold:
            drop_pages(self.peer.files())
        self.peer.forget()
        gc.collect()
        gc.disable()
        run, peer, target = self.operation.run, self.peer, self.target
        before = resident_anonymous_bytes(os.getpid())
        started = time.perf_counter()
        result = run(peer, target)
        seconds = time.perf_counter() - started
        held = resident_anonymous_bytes(os.getpid()) - before
        del result
        gc.enable()
        if self.operation.writes:
            self.peer.remove()  # before the system writes it out, into the run of somebody else
        return seconds, held


def give_memory_back() -> None:
    """Return what malloc keeps of earlier runs: memory used again would not be seen to grow."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim:
        trim(0)


def main() -> None:
    """Serve the parent until it closes our input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    cell = Cell(Task(**json.loads(sys.stdin.readline())))
    if cell.task.operation == PREPARE:
        return
    answer(seconds=cell.warm_seconds)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("trim"):
            give_memory_back()
        runs = [cell.once() for _ in range(asked["repeat"])]
        answer(seconds=[seconds for seconds, _ in runs], held=max((held for _, held in runs), default=0))


if __name__ == "__main__":
    main()
