"""Metrics of the clients of a federation: one may be the weight of its client, the others can be averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from archive.errors import ValueRangeError
from archive.format.constants import KIND_METRICS, KINDS
from archive.format.valuesection import ValueSection
from archive.tools.columns import row_of

__all__ = [
    "Metrics",
    "add_metrics",
    "exact_sum",
    "metrics_in",
    "numeric_metrics",
    "require_same",
    "result_metrics",
    "weight_in",
]

Metrics = dict[tuple[str, str], float | list[float]]
"""Metrics by record and key, or weighted sums of them."""


def metrics_in(section: ValueSection) -> Metrics:
    """Return the metrics of an archive; those of more than 60,000 bytes are left out."""
    found: Metrics = {}
    for (kind, record, key), value in row_of(section).items():
        if kind == KINDS[KIND_METRICS]:
            found |= numeric_metrics(record, {key: value})
    return found


def numeric_metrics(record: str, values: Mapping[str, Any]) -> Metrics:
    """Return the metrics of a record as floats: each is an int, a float, or a list of them."""
    return {
        (record, key): [float(one) for one in value] if isinstance(value, list) else float(value)
        for key, value in values.items()
    }


def weight_in(metrics: Metrics, name: str, path: str) -> float:
    """Return the weight that a metric is, named by its key or by ``record/key``."""
    found = [value for (record, key), value in metrics.items() if name in (key, f"{record}/{key}")]
    problem = ""
    if len(found) != 1:
        problem = f"{len(found)} metrics have this name, one of which was to be the weight"
    elif not isinstance(found[0], float) or not 0 <= found[0] < math.inf:
        problem = f"a weight is a number, finite and not negative: {str(found[0])[:40]}"
    if problem:
        remedy = "name the metric as record/key, or give weights"
        raise ValueRangeError(problem, path=path, key=name, remedy=remedy)
    return float(found[0])  # type: ignore[arg-type]


def exact_sum(weights: Iterable[float]) -> Fraction:
    """Return the sum of weights without rounding; denominators of floats are powers of two."""
    ratios = [weight.as_integer_ratio() for weight in weights]
    common = max((denominator for _, denominator in ratios), default=1)
    return Fraction(sum(number * (common // denominator) for number, denominator in ratios), common)


def add_metrics(weighted: Iterable[tuple[float, Metrics]]) -> Metrics:
    """Return the weighted sums of metrics, added in order."""
    total: Metrics = {}
    for weight, metrics in weighted:
        for name, value in metrics.items():
            before = total.get(name)
            if isinstance(value, list):
                zeros = before if isinstance(before, list) else [0.0] * len(value)
                total[name] = [was + weight * one for was, one in zip(zeros, value, strict=True)]
            else:
                total[name] = (before if isinstance(before, float) else 0.0) + weight * value
    return total


def result_metrics(metrics: Metrics, weigh_by: str) -> Metrics:
    """Return the metrics that are averaged: without the one that weighs."""
    names = (name for name in metrics if not weigh_by or weigh_by not in (name[1], "/".join(name)))
    return {name: metrics[name] for name in names}


def require_same(metrics: Metrics, wanted: Metrics, path: str) -> None:
    """Raise where an archive has other metrics than it must have.

    Raises
    ------
    ValueRangeError
    """
    odd = sorted(_forms(metrics) ^ _forms(wanted))
    if odd:
        raise ValueRangeError(
            "this metric is not in all archives, or is a list of another length",
            path=path,
            key="/".join(odd[0][0]),
            remedy="average metrics that all clients have (metrics=None leaves them out)",
        )


def _forms(metrics: Metrics) -> set[tuple[tuple[str, str], int]]:
    return {(name, len(value) if isinstance(value, list) else -1) for name, value in metrics.items()}
