"""Metrics of rounds and clients as lines: one value a round, and of the clients their range too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from archive.checkpoints.roundrows import FileRow
from archive.format.constants import OWN_PREFIX
from archive.report.excerpts import spread

__all__ = ["MetricLine", "metric_lines", "outlying"]

MOST_METRICS = 24
MOST_ROUNDS = 400
"""Rounds of a line: a screen has no more points."""
MOST_VALUES = 40_000
"""Values of lines of clients together: of more, some clients have a line, and all are in the range."""
_LIMIT = 3.5
"""Median absolute deviations, scaled to the standard deviation, from which on a value is an outlier (Iglewicz
and Hoaglin)."""
_FEWEST = 5
"""Values of which one may be an outlier."""


@dataclass(slots=True)
class MetricLine:
    """One metric by its number of the round."""

    record: str
    key: str
    model: dict[int, float] = field(default_factory=dict)
    """Of the files of rounds."""
    clients: dict[str, dict[int, float]] = field(default_factory=dict)
    """Of the files of clients."""

    @property
    def name(self) -> tuple[str, str]:
        """Record and key."""
        return self.record, self.key

    def rounds(self) -> list[int]:
        """Return the rounds that have a value, at most as many as a screen shows."""
        found = {*self.model}
        found.update(*self.clients.values())
        return spread(sorted(found), MOST_ROUNDS)

    def ranges(self, rounds: Sequence[int]) -> tuple[list[float], list[float], list[float]]:
        """Return the smallest, median and largest finite value of the clients in each round."""
        lows, middles, highs = [], [], []
        for number in rounds:
            values = [line[number] for line in self.clients.values() if number in line]
            finite = [value for value in values if math.isfinite(value)]
            lows.append(min(finite, default=math.nan))
            middles.append(float(np.median(finite)) if finite else math.nan)
            highs.append(max(finite, default=math.nan))
        return lows, middles, highs


def metric_lines(rows: Iterable[FileRow]) -> list[MetricLine]:
    """Return the lines of all metrics that are one number a file, those of the global model first."""
    found: dict[tuple[str, str], MetricLine] = {}
    for row in rows:
        if row.facts is None:
            continue
        for (kind, record, key), value in row.facts.row.items():
            if kind != "metrics" or record.startswith(OWN_PREFIX) or not isinstance(value, (int, float)):
                continue
            line = found.setdefault((record, key), MetricLine(record, key))
            values = line.clients.setdefault(row.client, {}) if row.client else line.model
            values[row.round] = _as_float(value)
    return sorted(found.values(), key=lambda line: not line.model)[:MOST_METRICS]


def outlying(values: Sequence[float]) -> list[int]:
    """Return the places of values far from the median of all, by their median absolute deviation.

    Values that are not finite are none: they are told apart by themselves.

    Examples
    --------
    >>> outlying([1.0, 1.1, 0.9, 1.05, 0.95, 8.0]), outlying([1.0, 9.0])
    ([5], [])
    """
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) < _FEWEST:
        return []
    middle = float(np.median(finite))
    # rounding alone is no deviation
    away = max(float(np.median(np.abs(finite - middle))) / 0.6745, abs(middle) * 1e-6)
    if not away:
        return []
    return [
        place
        for place, value in enumerate(values)
        if math.isfinite(value) and abs(value - middle) > _LIMIT * away
    ]


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
