"""Metrics, configs, attributes, context and order of two archives, compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from archive.engine.read.handle import Archive
from archive.engine.read.recordvalues import record_values
from archive.format.constants import CONTEXT_NUMBERS, KIND_ARRAYS, KINDS, OWN_PREFIX, STATE_RECORD
from archive.records import Context
from archive.tools.differences import ValueDiff

__all__ = ["compare_order", "compare_values", "is_close"]

_CONFIGS = ("node_config", "run_config")
Named = dict[tuple[str, str, str], Any]
"""Values by kind, record and key."""


def compare_values(a: Archive, b: Archive, rtol: float, atol: float) -> Iterator[ValueDiff]:
    """Yield what differs beside arrays: container, context, empty records, metrics, configs, attributes.

    Records that the library keeps for itself are left out, but for the tree of a saved state.
    """
    sides = _values(a), _values(b)
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        one, other = (side.get(name) for side in sides)
        if one is None or other is None or not is_close(one, other, rtol, atol):
            yield ValueDiff(*name, one, other)


def compare_order(
    first: dict[tuple[str, str], int], second: dict[tuple[str, str], int]
) -> Iterator[ValueDiff]:
    """Yield the records whose arrays are the same, in another order.

    Examples
    --------
    >>> list(compare_order({("m", "a"): 0, ("m", "b"): 1}, {("m", "b"): 0, ("m", "a"): 1}))
    [ValueDiff(kind='order', record='m', key='', a='a', b='b')]
    """
    sides: list[dict[str, list[str]]] = [{}, {}]
    for names, keys in zip((first, second), sides, strict=True):
        for record, key in names:
            keys.setdefault(record, []).append(key)
    for record, mine in sides[0].items():
        others = sides[1].get(record, [])
        if mine != others and set(mine) == set(others):
            one, other = next(pair for pair in zip(mine, others, strict=True) if pair[0] != pair[1])
            yield ValueDiff("order", record, "", one, other)


def is_close(a: Any, b: Any, rtol: float, atol: float) -> bool:
    """Return whether two values of one type are equal, to a tolerance where they are numbers; NaN equals NaN.

    Examples
    --------
    >>> is_close(1.0, 1.1, 0.0, 0.2), is_close([1, 2], [1, 3], 0.0, 0.0), is_close(1, 1.0, 0.0, 0.0)
    (True, False, False)
    """
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(is_close(one, two, rtol, atol) for one, two in zip(a, b, strict=True))
    if isinstance(a, bool) or not isinstance(a, (int, float)) or a == b:
        return bool(a == b)
    if isinstance(a, float) and math.isnan(a) and math.isnan(b):
        return True
    return not (math.isinf(a) or math.isinf(b)) and abs(a - b) <= atol + rtol * abs(b)


def _values(handle: Archive) -> Named:
    reader = handle._reader
    container = reader.values.text_of("container")
    found: Named = {("container", "", ""): container}
    if container == "context":
        context = handle.context
        found["container", "", "state"] = type(context.state).__name__
        found |= _context(context)
    filled = {reader.index.records[number] for number in reader.index.record.tolist()}
    for member in ("attributes", "values"):
        for record, values in record_values(reader, member).items():
            kind = "attributes" if member == "attributes" else KINDS[record.kind]
            filled |= {record} if values else set()
            if not _is_own(record.kind, record.name):
                found |= {(kind, record.name, key): value for key, value in values.items()}
    for record in reader.index.records:
        if record not in filled and not _is_own(record.kind, record.name):
            found["record", KINDS[record.kind], record.name] = "empty"
    return found


def _context(context: Context) -> Named:
    found: Named = {("context", "", field): getattr(context, field) for field in CONTEXT_NUMBERS}
    for field in _CONFIGS:
        found |= {("context", field, key): value for key, value in getattr(context, field).items()}
    return found


def _is_own(kind: int, name: str) -> bool:
    return kind != KIND_ARRAYS and name.startswith(OWN_PREFIX) and name != STATE_RECORD
