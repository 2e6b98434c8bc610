"""Metrics and configs of many archives as columns: one row an archive, read from its values section alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from archive.dtypes import NDArray
from archive.engine.read.open import read_summary
from archive.engine.read.recordvalues import inline_values
from archive.format.constants import KINDS
from archive.format.index import RecordName
from archive.format.values import INT64_MAX, INT64_MIN, UINT64_MAX, Value
from archive.format.valuesection import ValueSection
from archive.storage.url import Location
from archive.workers import drop_oldest

__all__ = ["Name", "Row", "make_column", "make_columns", "name_columns", "read_row", "row_of"]

Name: TypeAlias = tuple[str, str, str]
"""``metrics`` or ``configs``, record, key."""
Row: TypeAlias = dict[Name, Value]
"""The values of one archive."""


def read_row(location: Location) -> Row:
    """Return the metrics and configs of an archive; those too large for an attribute are left out.

    Raises
    ------
    ArchiveError
        It is missing or damaged. Array bytes are not read, and may be damaged all the same.
    """
    return row_of(read_summary(location).values)


def row_of(section: ValueSection) -> Row:
    """Return the values of a values section; those that are datasets are left out."""
    row: Row = {}
    for record, values in inline_values(section, "values").items():
        names = _known.get(record) or _remember(record)
        row.update(zip(map(names.__getitem__, values), values.values(), strict=True))
    return row


class _Names(dict[str, Name]):
    """Names of the values of a record, by key: archives of one federation have the same, and share them."""

    def __init__(self, kind: str, record: str) -> None:
        super().__init__()
        self._record = kind, record

    def __missing__(self, key: str) -> Name:
        name = (*self._record, key)
        if len(self) < _KEPT_NAMES:
            self[key] = name
        return name


_KEPT_NAMES = 1000
_KEPT_RECORDS = 64
_known: dict[RecordName, _Names] = {}


def _remember(record: RecordName) -> _Names:
    drop_oldest(_known, _KEPT_RECORDS)
    names = _known[record] = _Names(KINDS[record.kind], record.name)
    return names


def make_columns(
    rows: Sequence[Row], reserved: Iterable[str] = ()
) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Return columns by name, and the short names of full ones.

    A column is called by its key where only one record has that key, else ``record/key``; where records
    of both kinds have it, ``metrics/record/key``.

    Parameters
    ----------
    rows : sequence of Row
    reserved : iterable of str
        Names that are taken.

    Examples
    --------
    >>> columns, aliases = make_columns(
    ...     [{("metrics", "fit", "loss"): 0.5}, {("metrics", "fit", "loss"): 0.0}]
    ... )
    >>> columns, aliases
    ({'loss': array([0.5, 0. ])}, {'fit/loss': 'loss', 'metrics/fit/loss': 'loss'})
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    short, aliases = name_columns(names, reserved)
    return {short[name]: make_column([row.get(name) for row in rows]) for name in names}, aliases


def name_columns(
    names: Sequence[Name], reserved: Iterable[str] = ()
) -> tuple[dict[Name, str], dict[str, str]]:
    """Return what each column is called, and the short names of full ones, as for `make_columns`."""
    short = _short_names(names, set(reserved))
    taken, aliases = set(short.values()), dict[str, str]()
    for spelled in (lambda n: f"{n[1]}/{n[2]}", "/".join):
        known: dict[str, list[Name]] = {}
        for name in names:
            known.setdefault(spelled(name), []).append(name)
        for alias, meant in known.items():
            if len(meant) == 1 and alias not in taken:
                aliases[alias] = short[meant[0]]
    return short, aliases


def make_column(values: Sequence[Value | None]) -> NDArray:
    """Return one value a row as an array; None where there is none.

    Integers stay integers where none is missing, numbers become float64 with NaN for what is missing,
    and anything else is kept as objects.

    Examples
    --------
    >>> make_column([1, 2]), make_column([1, None]), make_column(["a", None])
    (array([1, 2]), array([ 1., nan]), array(['a', None], dtype=object))
    """
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, bool)
    dtype = _integer_type(values) if kinds == {int} else None
    if dtype is not None:
        return np.array(values, dtype)
    if kinds <= {int, float, type(None)} and kinds & {int, float} and kinds != {int}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    # one by one: lists of one length would become a second axis
    return np.fromiter(values, object, len(values))


def _integer_type(values: Sequence[Any]) -> type[np.integer[Any]] | None:
    low, high = min(values), max(values)
    if low >= INT64_MIN and high <= INT64_MAX:
        return np.int64
    return np.uint64 if low >= 0 and high <= UINT64_MAX else None


def _short_names(names: Sequence[Name], taken: set[str]) -> dict[Name, str]:
    """Return a name for each column: the shortest that means no other."""
    short: dict[Name, str] = {}
    left = list(names)
    for spelled in (lambda n: n[2], lambda n: f"{n[1]}/{n[2]}", "/".join, repr):
        meant: dict[str, int] = {}
        for name in left:
            meant[spelled(name)] = meant.get(spelled(name), 0) + 1
        for name in left:
            if meant[spelled(name)] == 1 and spelled(name) not in taken:
                short[name] = spelled(name)
        taken = taken | set(short.values())
        left = [name for name in left if name not in short]
    return short
