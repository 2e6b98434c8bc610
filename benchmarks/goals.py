"""The figures we promised, and what came of each."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.commands import COMMANDS
from benchmarks.edits import EDITS
from benchmarks.looks import LOOKS
from benchmarks.peers.ways import BEST, WAYS
from benchmarks.runner import Result
from benchmarks.shapes import GROWTH

__all__ = ["GOALS", "GROWING", "Goal", "Outcome", "outcomes", "ratio"]

Measured = Mapping[tuple[str, str, str], Result]

GROWING = ("save", "open-one", "open-list", "load", "verify")
"""Operations whose time an array may hardly grow with the number of arrays."""
_PRIVATE = ("safetensors.numpy", "h5py", "np.savez", "torch")


@dataclass(frozen=True, slots=True)
class Goal:
    """An upper bound of one figure of a cell."""

    operation: str
    shape: str
    peers: tuple[str, ...]
    """Times are compared with the fastest of these."""
    most: float
    subject: str = "fedarchive"
    figure: Literal["times", "seconds", "bytes", "growth"] = "times"
    """Ratio of our time to theirs; our time; our peak of anonymous memory; our time an array, to that of the
    same operation with the fewest arrays."""


@dataclass(frozen=True, slots=True)
class Outcome:
    goal: Goal
    figure: float | None
    """None where a cell that it needs was not measured."""
    against: str = ""
    """What ours was divided by."""

    @property
    def met(self) -> bool:
        return self.figure is not None and self.figure <= self.goal.most


GOALS = (
    Goal("save", "transformer", ("safetensors.torch",), 1.0),
    Goal("save-durable", "transformer", ("raw pwrite/pread",), 1.05),
    Goal("save", "small", ("safetensors.numpy",), 0.8),
    Goal("save", "small", ("safetensors.numpy",), 0.5, "fedarchive again"),
    Goal("save", "cnn", ("safetensors.numpy",), 8.0),
    Goal("save", "cnn", ("safetensors.numpy",), 1.6, "fedarchive again"),
    Goal("open-one", "cnn", ("safetensors.numpy",), 4.0),
    Goal("open-one", "cnn", ("safetensors.numpy",), 1.5, "fedarchive again"),
    Goal("load", "cnn", ("safetensors.numpy",), 1.5),
    Goal("load", "cnn", ("safetensors.numpy",), 1.5, "fedarchive again"),
    Goal("open-one", "transformer", ("safetensors.numpy",), 0.5),
    Goal("open-one", "small", ("safetensors.numpy",), 0.06),
    Goal("open-one", GROWTH[-1], (), 0.1, figure="seconds"),
    Goal("map", "transformer", ("safetensors.torch",), 1.0, "fedarchive verify=off"),
    Goal("map-touched", "transformer", ("safetensors.torch",), 1.3),
    Goal("load", "transformer", _PRIVATE, 0.6),
    Goal("verify", "transformer", ("xxh3",), 1 / 0.7),  # at least 0.7 of its speed
    *(Goal(operation, GROWTH[-1], (), 2.0, figure="growth") for operation in GROWING),
    Goal("map", "transformer", (), 2e6, figure="bytes"),
    *(
        Goal(operation, "small", (best,), 1.5, way.name)
        for operation, best in BEST.items()
        for way in WAYS
        if operation in way.operations and way.name != best
    ),
    *(
        Goal(clock, "commands", (COMMANDS[0],), most, command)
        for command, most in zip(COMMANDS[1:], (1.1, 2.0), strict=True)
        for clock in ("cpu", "wall")
    ),
    Goal("edit", "edits", (EDITS[0],), 1.1, EDITS[1]),
    Goal("edit", "edits", (EDITS[2],), 1.1, EDITS[3]),
    *(Goal("look", "looks", (LOOKS[0],), 4.0, name) for name in LOOKS[1:3]),
    *(Goal("look", "looks", (), 64e6, name, "bytes") for name in LOOKS[1:3]),
    Goal("look", "looks", (), 0.005, LOOKS[3], "seconds"),
)


def ratio(ours: Result, theirs: Result) -> float:
    """Return the median of the ratios of runs that followed one another; slow peers may have fewer."""
    return statistics.median(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=False))


def outcomes(results: Iterable[Result], goals: Sequence[Goal] = GOALS) -> list[Outcome]:
    """Return what came of every goal."""
    measured = {(row.shape, row.operation, row.peer): row for row in results if row.seconds}
    return [_outcome(goal, measured) for goal in goals]


def _outcome(goal: Goal, measured: Measured) -> Outcome:
    ours = measured.get((goal.shape, goal.operation, goal.subject))
    if goal.figure == "growth":
        first = measured.get((GROWTH[0], goal.operation, goal.subject))
        if ours and first:
            return Outcome(goal, _each(ours) / _each(first), GROWTH[0])
    elif goal.figure == "times":
        rivals = [measured.get((goal.shape, goal.operation, peer)) for peer in goal.peers]
        there = [row for row in rivals if row]
        if ours and there:
            best = min(there, key=lambda row: statistics.median(row.seconds))
            return Outcome(goal, ratio(ours, best), best.peer)
    elif ours:
        return Outcome(goal, ours.peak_bytes if goal.figure == "bytes" else statistics.median(ours.seconds))
    return Outcome(goal, None)


def _each(row: Result) -> float:
    return statistics.median(row.seconds) / row.arrays
