"""Rows of a table, a batch of archives at a time, as columns: small when pickled, cheap to join.

A row that is a dict of 15 values costs more to keep, in time for the collector of garbage, than to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.errors import ArchiveError
from archive.format.constants import OWN_PREFIX
from archive.tools.archivefacts import Facts, fact_columns
from archive.tools.columns import Name, make_column, name_columns
from archive.tools.many import Outcome
from archive.tools.provenance import NOBODY, Provenance, provenance_columns, provenance_of

__all__ = ["RowBlock", "join_blocks", "make_block"]

_NUMBERS = {frozenset({float}): np.float64, frozenset({int}): np.int64, frozenset({bool}): np.bool_}
"""Types of numpy for values of one type."""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows of a batch of archives."""

    errors: list[ArchiveError | None]
    """The error of each archive of the batch, those included that have no row."""
    whose: list[Provenance]
    """Where each row comes from; empty where no row says it."""
    facts: dict[str, NDArray]
    """Columns ``created``, ``file_bytes`` and ``arrays``."""
    values: dict[Name, NDArray | list[Any]]
    """Metrics and configs, those of the library left out: an array where all rows have a value of one type,
    else a list, None for what is missing."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.facts["created"])


def make_block(outcomes: Sequence[Outcome[Facts]], *, skip: bool) -> RowBlock:
    """Return the rows of a batch; ``skip``: archives that cannot be read have none."""
    errors = [one.error for one in outcomes]
    kept = [one for one in outcomes if one.error is None] if skip else outcomes
    found = [one.result for one in kept]
    whose = [
        provenance_of(one.input.place.display, None if facts is None else facts.row)
        for one, facts in zip(kept, found, strict=True)
    ]
    known = any(one is not NOBODY for one in whose)
    return RowBlock(errors, whose if known else [], fact_columns(found), _values(found))


def _values(found: Sequence[Facts | None]) -> dict[Name, NDArray | list[Any]]:
    """Return the values of rows as columns, rows that have the same names at once."""
    alike: dict[tuple[Name, ...], tuple[list[int], list[tuple[Any, ...]]]] = {}
    for number, facts in enumerate(found):
        if facts is None or not facts.row:
            continue
        names = tuple(facts.row)
        numbers, rows = alike.get(names) or alike.setdefault(names, ([], []))
        numbers.append(number)
        rows.append(tuple(facts.row.values()))
    columns: dict[Name, NDArray | list[Any]] = {}
    for names, (numbers, rows) in alike.items():
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            if name[1].startswith(OWN_PREFIX):
                continue
            if len(numbers) == len(found):
                columns[name] = _packed(values)
                continue
            column: Any = columns.setdefault(name, [None] * len(found))
            for number, value in zip(numbers, values, strict=True):
                column[number] = value
    return columns


def _packed(values: Sequence[Any]) -> NDArray | list[Any]:
    """Return values as an array where all have one type, and it holds them."""
    dtype = _NUMBERS.get(frozenset(map(type, values)))
    if dtype is not None:
        try:
            return np.array(values, dtype)
        except OverflowError:  # integers beyond 63 bits
            pass
    return list(values)


def join_blocks(
    blocks: Sequence[RowBlock], columns: dict[str, NDArray], more: dict[str, NDArray]
) -> tuple[dict[str, NDArray], dict[str, str]]:
    """Return the columns of blocks, and the short names of full ones.

    Parameters
    ----------
    blocks : sequence of RowBlock
    columns, more : dict of str to ndarray
        Columns that come before those of provenance, and after those of facts.
    """
    blocks = [block for block in blocks if block.rows]
    known = any(block.whose for block in blocks)
    whose = [one for block in blocks for one in (block.whose or [NOBODY] * block.rows)] if known else []
    facts = fact_columns([])
    if blocks:
        facts = {name: np.concatenate([block.facts[name] for block in blocks]) for name in facts}
    columns = columns | provenance_columns(whose) | facts | more
    names = list(dict.fromkeys(name for block in blocks for name in block.values))
    short, aliases = name_columns(names, columns)
    return columns | {short[name]: _joined(name, blocks) for name in names}, aliases


def _joined(name: Name, blocks: Sequence[RowBlock]) -> NDArray:
    """Return a column, as `make_column` makes it of all its values."""
    parts = [block.values.get(name) for block in blocks]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts) and len({part.dtype for part in arrays}) == 1:
        joined: NDArray = np.concatenate(arrays)
        return joined
    lists = (
        [None] * block.rows if part is None else part if isinstance(part, list) else part.tolist()
        for part, block in zip(parts, blocks, strict=True)
    )
    return make_column(list(chain.from_iterable(lists)))
