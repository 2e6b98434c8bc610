"""Tables of files that strangers may have written: numbers and texts are checked before they are used."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from archive.checkpoints.filetable import (
    BOOL,
    COLUMNS,
    FLAT,
    TEXT,
    TEXT_COLUMNS,
    FileTable,
    schema_of,
)
from archive.checkpoints.paths import MAX_ROUND, is_write
from archive.dtypes import NDArray
from archive.errors import HostileFileError
from archive.format.document import parse_json
from archive.format.values import METRIC_TYPES, decode_value, validate_value
from archive.tools.spelling import is_spelled

__all__ = ["parse_table"]

MAX_ROWS = 1 << 22
"""Files that a table names at most, and texts that it has."""


def parse_table(arrays: Mapping[str, NDArray], path: str) -> FileTable:
    """Return the table that arrays of a file spell.

    Raises
    ------
    HostileFileError
        They spell none.
    """
    try:
        table = _parse(arrays)
        _require_rows(table)
        _require_values(table)
    except (KeyError, TypeError, ValueError, OverflowError, IndexError, RecursionError) as error:
        raise HostileFileError(f"not a table of files: {error}", path=path) from error
    return table


def _parse(arrays: Mapping[str, NDArray]) -> FileTable:
    count = len(arrays["round"])
    if count > MAX_ROWS:
        raise ValueError(f"{count} files")
    for name, (dtype, shape) in COLUMNS.items():
        if arrays[name].dtype != np.dtype(dtype) or arrays[name].shape != (count, *shape):
            raise ValueError(f"a column {name} of another type or length")
    for name, dtype in FLAT.items():
        if arrays[name].dtype != np.dtype(dtype) or arrays[name].ndim != 1:
            raise ValueError(f"{name} of another type")
    if len(arrays["ends"]) > MAX_ROWS:
        raise ValueError(f"{len(arrays['ends'])} texts")
    ends, heap = arrays["ends"].tolist(), arrays["texts"].tobytes()
    starts = [0, *ends[:-1]]
    if (ends[-1] if ends else 0) != len(heap) or any(
        start > end for start, end in zip(starts, ends, strict=False)
    ):
        raise ValueError("texts that overlap")
    texts = tuple(heap[start:end].decode() for start, end in zip(starts, ends, strict=False))
    if len(set(texts)) != len(texts):
        raise ValueError("a text twice")
    return FileTable({name: arrays[name] for name in (*COLUMNS, "kinds", "values")}, texts)


def _require_rows(table: FileTable) -> None:
    """Raise ValueError for rows that name no file."""
    columns, texts = table.columns, table.texts
    for name in TEXT_COLUMNS:
        _require_within(columns[name], len(texts))
    rounds = columns["round"]
    if len(rounds) and (rounds[0] < 0 or rounds[-1] > MAX_ROUND or (rounds[1:] < rounds[:-1]).any()):
        raise ValueError("rounds out of order")
    for column in ("nbytes", "tail", "arrays"):
        if (columns[column] < 0).any():
            raise ValueError(f"a negative number in {column}")
    for number in set(columns["name"].tolist()):
        if texts[number] and not is_spelled(texts[number]):
            raise ValueError("an invalid name of a client")
    if not all(is_write(texts[number]) for number in set(columns["write"].tolist())):
        raise ValueError("an invalid name of a file")


def _require_values(table: FileTable) -> None:
    """Raise ValueError unless every row has the values that its schema names, of types that they may have."""
    columns = table.columns
    kinds, values = columns["kinds"], columns["values"]
    used = columns["schema"].tolist()
    schemas = {number: schema_of(table.texts[number]) for number in set(used)}
    if len(values) != len(kinds) or sum(len(schemas[number]) for number in used) != len(kinds):
        raise ValueError("more or fewer values than names")
    metrics = {number: [name[0] == "metrics" for name in names] for number, names in schemas.items()}
    metric = np.fromiter(itertools.chain.from_iterable(metrics[number] for number in used), bool, len(kinds))
    texts = kinds == TEXT
    _require_within(values[texts], len(table.texts))
    if (kinds > TEXT).any() or (metric & (kinds == BOOL)).any() or (values[kinds == BOOL] >> 1).any():
        raise ValueError("a value of another kind")
    types = {number: _type_of(table.texts[number]) for number in np.unique(values[texts]).tolist()}
    if any(types[number] not in METRIC_TYPES for number in np.unique(values[texts & metric]).tolist()):
        raise ValueError("a metric that is no number")


def _require_within(numbers: NDArray, count: int) -> None:
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
        raise ValueError("the number of no text")


def _type_of(text: str) -> str:
    value = decode_value(parse_json(text.encode()))
    return validate_value(value, metric=False)
