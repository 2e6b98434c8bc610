"""The curve of a run: scalar metrics of the rounds before, carried in the file of each round.

A round file is written once and at once, so its curve is never torn and never older or newer than its round.
Whoever removes the newest rounds has the curve that was true before them, without a second file to correct.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.errors import HostileFileError
from archive.tools.columns import Row

__all__ = ["CURVE", "CURVE_KEYS", "MAX_COLUMNS", "Curve", "parse_curve", "scalars_of"]

CURVE = "fedarchive.curve"
"""Config record of round files: ``length`` (number of rounds), ``rounds`` (int64, little-endian, as bytes),
``values`` (float64 likewise, column after column), and of each column ``records``, ``keys`` and ``integers``
(whether it has integers)."""
CURVE_KEYS = 6
"""Values of that record; ``length`` is never a dataset."""
MAX_COLUMNS = 1000
"""Metrics that a curve has at most: those of the first rounds come first."""

Metric = tuple[str, str]
"""Record and key."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Scalar metrics by round."""

    rounds: tuple[int, ...] = ()
    """Numbers of rounds, oldest first."""
    columns: Mapping[Metric, tuple[float, ...]] = field(default_factory=dict)
    """One value a round; NaN where it has none."""
    integers: frozenset[Metric] = frozenset()
    """Columns whose values are integers."""

    def after(self, number: int, metrics: Mapping[Metric, int | float]) -> Curve:
        """Return the curve with one round more, which is newer than all others."""
        missing = (math.nan,) * len(self.rounds)
        columns = {name: (*values, metrics.get(name, math.nan)) for name, values in self.columns.items()}
        new = [name for name in metrics if name not in columns][: MAX_COLUMNS - len(columns)]
        columns |= {name: (*missing, metrics[name]) for name in new}
        whole = {name for name, value in metrics.items() if isinstance(value, int)}
        integers = {name for name in self.integers if name in whole or name not in metrics}
        return Curve((*self.rounds, number), columns, frozenset(integers | (whole & set(new))))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield the metrics of each round, as `archive.tools.columns.read_row` returns them."""
        for place, number in enumerate(self.rounds):
            row: Row = {}
            for (record, key), values in self.columns.items():
                if not math.isnan(value := values[place]):
                    row["metrics", record, key] = int(value) if (record, key) in self.integers else value
            yield number, row

    def values(self) -> dict[str, Any]:
        """Return what the config record `CURVE` holds."""
        return {
            "length": len(self.rounds),
            "rounds": np.array(self.rounds, "<i8").tobytes(),
            "values": np.array(list(self.columns.values()), "<f8").tobytes(),
            "records": [record for record, _ in self.columns],
            "keys": [key for _, key in self.columns],
            "integers": [name in self.integers for name in self.columns],
        }


def parse_curve(values: Mapping[str, Any], path: str) -> Curve:
    """Return the curve that a config record holds.

    Raises
    ------
    HostileFileError
        The record holds something else.

    Examples
    --------
    >>> curve = Curve().after(1, {("fit", "loss"): 0.5}).after(2, {("fit", "n"): 3})
    >>> dict(parse_curve(curve.values(), "").rows())
    {1: {('metrics', 'fit', 'loss'): 0.5}, 2: {('metrics', 'fit', 'n'): 3}}
    """
    try:
        rounds = np.frombuffer(values["rounds"], "<i8").tolist()
        names = list(zip(values["records"], values["keys"], strict=True))
        table = np.frombuffer(values["values"], "<f8").reshape(len(names), len(rounds))
        integers = values["integers"]
        sound = (
            len(rounds) == values["length"]
            and len(set(names)) == len(names) == len(integers)
            and all(isinstance(text, str) for name in names for text in name)
            and rounds == sorted(set(rounds))
            and not any(np.isinf(row).any() for row, whole in zip(table, integers, strict=True) if whole)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid(path) from error
    if not sound:
        raise _invalid(path)
    whole = frozenset(name for name, is_whole in zip(names, integers, strict=True) if is_whole)
    return Curve(tuple(rounds), dict(zip(names, map(tuple, table.tolist()), strict=True)), whole)


def scalars_of(row: Row) -> dict[Metric, int | float]:
    """Return the metrics of a round that are one number each.

    Examples
    --------
    >>> scalars_of({("metrics", "fit", "loss"): 0.5, ("metrics", "fit", "each"): [0.5]})
    {('fit', 'loss'): 0.5}
    """
    return {
        (record, key): value
        for (kind, record, key), value in row.items()
        if kind == "metrics" and isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _invalid(path: str) -> HostileFileError:
    return HostileFileError("the metrics of earlier rounds are malformed", path=path, key=CURVE)
