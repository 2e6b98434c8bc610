"""Decides which rounds stay, and which of them is the best; touches no file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["BestBy", "Goal", "Policy", "best_round", "metric_of", "parse_goal", "parse_policy", "removable"]

BestBy = str | tuple[str, Literal["min", "max"]]
"""``"loss"`` (the smallest), ``"-accuracy"`` or ``("accuracy", "max")`` (the largest)."""

_LARGER_IS_BETTER = re.compile(r"acc|auc|f1|score|precision|recall|bleu|iou|dice|r2", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Goal:
    """What makes a round the best."""

    metric: str
    """Name of a column: a key, or ``record/key``."""
    largest: bool
    """Whether the largest value is the best."""

    @property
    def word(self) -> Literal["min", "max"]:
        """The direction, as `parse_goal` takes it."""
        return "max" if self.largest else "min"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which rounds are kept."""

    last: int | None
    """Number of newest rounds."""
    every: int | None
    """Divisor of the numbers of rounds."""

    @property
    def removes(self) -> bool:
        """Whether any round is ever removed."""
        return self.last is not None or self.every is not None


def parse_goal(best_by: object) -> Goal | None:
    """Return what makes a round the best.

    Raises
    ------
    TypeError, ValueError
        An invalid spelling, or a name such as accuracy without ``"max"`` or ``"min"``.

    Examples
    --------
    >>> parse_goal("loss"), parse_goal(("accuracy", "max")) == parse_goal("-accuracy")
    (Goal(metric='loss', largest=False), True)
    """
    if best_by is None:
        return None
    if isinstance(best_by, tuple):
        if len(best_by) != 2 or not isinstance(best_by[0], str) or best_by[1] not in ("min", "max"):
            raise ValueError(f'best_by must be like ("accuracy", "max") or ("loss", "min"), not {best_by!r}')
        return Goal(best_by[0], best_by[1] == "max")
    if not isinstance(best_by, str):
        raise TypeError(f"best_by must be a str or a tuple, not {type(best_by).__name__}")
    if best_by.startswith("-"):
        return Goal(best_by[1:], True)
    if _LARGER_IS_BETTER.search(best_by):
        # the smallest would be kept: the worst model, and nobody would notice before it is needed
        raise ValueError(f'best_by={best_by!r}: say which is better: ({best_by!r}, "max") or "min"')
    return Goal(best_by, False)


def parse_policy(keep_last: object, keep_every: object) -> Policy:
    """Return which rounds are kept.

    Raises
    ------
    TypeError, ValueError
        A number that is not an int of 1 or more.
    """
    return Policy(_count("keep_last", keep_last), _count("keep_every", keep_every))


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, or None for all, not {value}")
    return value


def removable(rounds: Sequence[int], policy: Policy) -> list[int]:
    """Return the rounds that a policy does not keep, oldest first. The newest always stays.

    Examples
    --------
    >>> removable([1, 2, 3, 4, 5, 6], Policy(last=2, every=3))
    [1, 2, 4]
    """
    if not policy.removes:
        return []
    ordered = sorted(rounds)
    last = set(ordered[-(policy.last or 1) :])
    return [
        number
        for number in ordered
        if number not in last and (policy.every is None or number % policy.every != 0)
    ]


def best_round(values: Mapping[int, float], goal: Goal) -> int | None:
    """Return the round with the best value, of equal ones the newest; None where none has a number.

    Examples
    --------
    >>> best_round({1: 0.5, 2: 0.0, 3: float("nan")}, Goal("loss", False))
    2
    """
    sign = 1 if goal.largest else -1
    found: Iterable[int] = (number for number, value in values.items() if not math.isnan(value))
    return max(found, key=lambda number: (sign * values[number], number), default=None)


def metric_of(row: Mapping[tuple[str, str, str], object], goal: Goal) -> float | None:
    """Return the value of a metric in the values of a round, None where it has none.

    Raises
    ------
    ValueError
        Several records have that key, or the metric is not a number.

    Examples
    --------
    >>> metric_of({("metrics", "fit", "loss"): 0.0}, Goal("loss", False))
    0.0
    """
    found = {
        f"{record}/{key}": value
        for (kind, record, key), value in row.items()
        if kind == "metrics" and goal.metric in (key, f"{record}/{key}")
    }
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(
            f"best_by={goal.metric!r} is in several records, name one: {', '.join(sorted(found))}"
        )
    (value,) = found.values()
    if not isinstance(value, (int, float)):
        raise ValueError(f"best_by={goal.metric!r} is not a number but {type(value).__name__}")
    return float(value)
