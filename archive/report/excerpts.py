"""What is shown of many: rounds and clients at even distances, arrays summed up by how their names begin."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias, TypeVar

from archive.display.texts import counted, middle_elided

__all__ = ["Name", "group_names", "known", "number", "range_text", "shown_name", "spread"]

T = TypeVar("T")
Name: TypeAlias = tuple[str, str]
"""Record and key."""
NAME_LENGTH = 160
"""Characters of a name that are shown."""


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items at even distances, the first and the last among them.

    Examples
    --------
    >>> spread(range(1, 101), 4), spread("ab", 5), spread("abc", 1)
    ([1, 34, 67, 100], ['a', 'b'], ['c'])
    """
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    step = (len(items) - 1) / (most - 1)
    return [items[round(place * step)] for place in range(most)]


def shown_name(text: str, length: int = NAME_LENGTH) -> str:
    """Return a name as the page shows it: printable, and cut in the middle."""
    return middle_elided(text, length)


def group_names(names: Sequence[Name], most: int) -> tuple[list[str], list[int]]:
    """Return at most so many labels, and the place of the label of each name.

    Where there are more names, those that begin alike are one: as many parts of the names are kept as fit.

    Examples
    --------
    >>> names = [("m", "enc.0.w"), ("m", "enc.0.b"), ("m", "enc.1.w"), ("m", "head")]
    >>> group_names(names, 9)
    (['enc.0.w', 'enc.0.b', 'enc.1.w', 'head'], [0, 1, 2, 3])
    >>> group_names(names, 3)
    (['enc.0. (2 arrays)', 'enc.1. (1 array)', 'head'], [0, 0, 1, 2])
    >>> group_names(names, 2)
    (['enc. (3 arrays)', 'head'], [0, 0, 0, 1])
    """
    one_record = len({record for record, _ in names}) == 1
    full = [key if one_record else f"{record}/{key}" for record, key in names]
    if len(full) <= most:
        return [shown_name(name) for name in full], list(range(len(full)))
    parts = [re.findall(r"[^./]*[./]?", name) for name in full]
    deepest = max(len(name) for name in parts)
    beginnings: list[str] = []
    for depth in range(min(deepest, 12), 0, -1):
        beginnings = ["".join(name[:depth]) for name in parts]
        if len(set(beginnings)) <= most:
            return _label(beginnings, full)
    kept = set(list(dict.fromkeys(beginnings))[: most - 1])
    rest = "all others "
    return _label([begun if begun in kept else rest for begun in beginnings], full)


def _label(beginnings: Sequence[str], full: Sequence[str]) -> tuple[list[str], list[int]]:
    places = {begun: place for place, begun in enumerate(dict.fromkeys(beginnings))}
    counts = dict.fromkeys(beginnings, 0)
    for begun in beginnings:
        counts[begun] += 1
    whole = set(full)
    labels = [
        shown_name(begun) if begun in whole else f"{shown_name(begun)} ({counted(counts[begun], 'array')})"
        for begun in places
    ]
    return labels, [places[begun] for begun in beginnings]


def range_text(numbers: Iterable[int], most: int = 6) -> str:
    """Return numbers as ranges.

    Examples
    --------
    >>> range_text([1, 2, 3, 7]), range_text(range(0, 40, 2))
    ('1-3, 7', '0, 2, 4, 6, 8, 10 and 14 more')
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:most]]
    rest = sum(len(run) for run in runs[most:])
    return ", ".join(texts) + f" and {rest} more" * (rest > 0)


def number(value: float | None, digits: int = 4) -> float | str | None:
    """Return a number for JSON, which lacks NaN and infinities: they are texts, and what is not known None.

    Examples
    --------
    >>> number(0.123456), number(float("inf")), number(None), number(20.0)
    (0.1235, 'inf', None, 20)
    """
    if value is None:
        return None
    try:
        value = float(value)
    except OverflowError:
        return "inf" if value > 0 else "-inf"
    if math.isfinite(value):
        value = float(f"{value:.{digits}g}")
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def known(value: float) -> float | str | None:
    """Return a figure; NaN stands for what is not known."""
    return None if math.isnan(value) else number(value)
