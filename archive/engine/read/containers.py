"""The container that was saved, built again from an index: records, their values, a Context.

The values of its records are decoded in `archive.engine.read.recordvalues`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from archive.engine.read.lazyarrays import LazyArrays
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import Datasets, decode_entries, decode_inline, record_values
from archive.format.constants import (
    CONTAINERS,
    CONTEXT_NUMBERS,
    KIND_ARRAYS,
    KIND_CONFIGS,
    KIND_METRICS,
)
from archive.format.index import RecordName
from archive.records import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    MetricRecord,
    ParametersRecord,
    RecordDict,
    RecordSet,
)
from archive.records.lazydict import leave_to

__all__ = ["Records", "build_context", "build_records"]

Records = RecordSet | RecordDict


def build_records(
    reader: Reader,
    arrays: Callable[[list[int]], list[Array]] | None,
    only: set[int] | None = None,
    *,
    datasets: Datasets = "read",
) -> Records:
    """Return the container that was saved, its arrays made by ``arrays`` from row numbers.

    None leaves them in the file: each is made when it is first asked for. ``only`` leaves out all other rows.

    Raises
    ------
    DigestError
        A value that is a dataset is damaged.
    HostileFileError, VersionError
        Index or values break a rule of the format, or a later version of the format wrote it.
    """
    index = reader.index
    container = _container_of(reader)
    values = record_values(reader, "values", datasets=datasets) | record_values(reader, "attributes")
    array_kind = ParametersRecord if container == "recordset" else ArrayRecord
    made: list[tuple[RecordName, Any]] = []
    rows_by_record = np.argsort(index.record, kind="stable")
    ends = np.cumsum(index.record_rows["arrays"].astype(np.intp)).tolist()
    begin = 0
    for number, (record, end) in enumerate(zip(index.records, ends, strict=True)):
        found: Any = values.get(record, {})
        rows, begin = rows_by_record[begin:end], end
        if record.kind != KIND_ARRAYS:
            made.append((record, MetricRecord(found) if record.kind == KIND_METRICS else ConfigRecord(found)))
            continue
        if arrays is None:
            of_arrays = leave_to(array_kind.from_checked({}), LazyArrays(reader, number, rows))
        else:
            of_arrays = array_kind.from_checked(_arrays_by_key(reader, record, rows.tolist(), only, arrays))
        if found:
            of_arrays.attributes.update(found)
        made.append((record, of_arrays))
    if container == "recorddict":
        by_name = {record.name: value for record, value in made}
        if len(by_name) != len(made):
            raise reader.values.origin.invalid("two records of a RecordDict share a name")
        return RecordDict(by_name)
    kinds: list[dict[str, Any]] = [
        {record.name: value for record, value in made if record.kind == kind}
        for kind in (KIND_ARRAYS, KIND_METRICS, KIND_CONFIGS)
    ]
    return RecordSet(*kinds)


def _arrays_by_key(
    reader: Reader,
    record: RecordName,
    rows: list[int],
    only: set[int] | None,
    arrays: Callable[[list[int]], list[Array]],
) -> dict[str, Array]:
    if only is not None:
        rows = [row for row in rows if row in only]
    named = dict(zip(reader.index.keys(rows), arrays(rows), strict=True))
    if len(named) != len(rows):
        raise reader.index.origin.invalid("two arrays of one record share a key", key=record.name)
    return named


def _container_of(reader: Reader) -> str:
    """Return the container of the records: recordset or recorddict."""
    container: Any = reader.values.text_of("container")
    if container == "context":
        container = _context_of(reader).get("state")
    if not isinstance(container, str):
        raise reader.values.origin.invalid("the context does not name the container of its records")
    if container not in CONTAINERS[:2]:
        raise reader.values.origin.unknown(f"unknown container {container[:80]!r}")
    return container


def build_context(reader: Reader, records: Records) -> Context:
    """Return the Context that was saved, over its records.

    Raises
    ------
    TypeError
        Something else was saved.
    HostileFileError
        The index holds no such Context.
    """
    if reader.values.text_of("container") != "context":
        raise TypeError("no Context was saved here; see .records")
    context, section = _context_of(reader), reader.values
    configs: dict[str, Any] = {
        field: {
            key: decode_inline(section, f"{field}/{key}", encoded, False)
            for key, encoded in decode_entries(section, field, context.get(field))
        }
        for field in ("node_config", "run_config")
    }
    numbers = {
        field: decode_inline(section, f"context/{field}", context[field], False)
        for field in CONTEXT_NUMBERS
        if field in context
    }
    for field, number in numbers.items():
        if type(number) is not int:
            raise reader.values.origin.invalid(
                "a number of the context is not an int", key=f"context/{field}"
            )
    missing = set(CONTEXT_NUMBERS) - {"series_id"} - set(numbers)
    if missing:
        raise section.origin.invalid("a number of the context is missing", key=f"context/{min(missing)}")
    whole: dict[str, Any] = {"series_id": 0, **numbers, **configs}
    return Context(state=records, **whole)


def _context_of(reader: Reader) -> dict[str, Any]:
    """Return the fields of a Context as the index spells them."""
    context = reader.values.document.get("context")
    if not isinstance(context, dict):
        raise reader.values.origin.invalid("the values section has no context")
    return context
