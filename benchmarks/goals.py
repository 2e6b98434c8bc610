"""The ratios we promised, each to the named peer in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.runner import Result

__all__ = ["GOALS", "Goal", "Outcome", "outcomes", "ratio"]

_PRIVATE = ("safetensors.numpy", "h5py", "np.savez", "torch")


@dataclass(frozen=True, slots=True)
class Goal:
    operation: str
    shape: str
    peers: tuple[str, ...]
    """Compared with the fastest of these."""
    most: float
    """Largest ratio of our time to theirs."""
    issue: str
    subject: str = "fedarchive"


@dataclass(frozen=True, slots=True)
class Outcome:
    goal: Goal
    peer: str
    ratio: float

    @property
    def met(self) -> bool:
        return self.ratio <= self.goal.most


GOALS = (
    Goal("save", "small", ("safetensors.numpy",), 1.5, "A"),
    Goal("save", "transformer", ("safetensors.torch",), 1.15, "A"),
    Goal("save", "transformer", ("safetensors.torch",), 1.0, "F"),
    Goal("save-durable", "transformer", ("raw pwrite/pread",), 1.05, "F"),
    Goal("save", "small", ("safetensors.numpy",), 0.8, "F"),
    Goal("save", "cnn", ("safetensors.numpy",), 1.0, "F"),
    Goal("open-one", "cnn", ("safetensors.numpy",), 1.0, "F"),
    Goal("open-one", "transformer", ("safetensors.numpy",), 0.5, "F"),
    Goal("open-one", "small", ("safetensors.numpy",), 0.06, "F"),
    Goal("map", "transformer", ("safetensors.torch",), 1.0, "F", "fedarchive verify=off"),
    Goal("map-touched", "transformer", ("safetensors.torch",), 1.3, "F"),
    Goal("load", "transformer", _PRIVATE, 0.6, "F"),
    Goal("verify", "transformer", ("xxh3",), 1 / 0.7, "F"),
)


def ratio(ours: Result, theirs: Result) -> float:
    """Return the median of the ratios of runs that followed one another; slow peers may have fewer."""
    return statistics.median(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=False))


def outcomes(results: Iterable[Result], goals: Sequence[Goal] = GOALS) -> list[Outcome]:
    """Return what came of every goal whose cells were measured."""
    measured = {(row.shape, row.operation, row.peer): row for row in results if row.seconds}
    found = []
    for goal in goals:
        ours = measured.get((goal.shape, goal.operation, goal.subject))
        theirs = [measured.get((goal.shape, goal.operation, peer)) for peer in goal.peers]
        rivals = [row for row in theirs if row]
        if ours and rivals:
            best = min(rivals, key=lambda row: statistics.median(row.seconds))
            found.append(Outcome(goal, best.peer, ratio(ours, best)))
    return found
