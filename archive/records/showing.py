"""How records are shown: as Python spells them where that is short, else as a summary; and as HTML.

Loaded when the first of them is shown. No element of an array is read, and nothing is opened for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from archive.display.markup import HTML_ROWS, summary_html
from archive.display.summaries import (
    ARRAY_COLUMNS,
    TEXT_ROWS,
    VALUE_COLUMNS,
    Row,
    Section,
    Summary,
    places,
    summary_text,
)
from archive.display.texts import ROOM, counted, dict_text, middle_elided, size, spelled, value_text
from archive.errors import ArchiveError
from archive.records.array import Array
from archive.records.arrayrecord import ArrayRecord
from archive.records.context import Context
from archive.records.payload import BytesPayload, is_opened
from archive.records.recorddict import RecordDict
from archive.records.recordset import RecordSet
from archive.records.typeddict import TypedDict
from archive.records.valuerecord import ConfigRecord, MetricRecord

__all__ = ["html_of", "section_of", "text_of"]

_WORDS: tuple[tuple[type[Any], str], ...] = (
    (ArrayRecord, "array"),
    (MetricRecord, "metric"),
    (ConfigRecord, "config"),
)
_ITEM = "item"
_SHORTEST = 8
"""Characters that no item of a record is shorter than."""
_DATA_BYTES = 64
"""Longest data of an Array that is spelled."""
_FIELD_ROOM = 150
"""Longest text of dtype, shape or stype of an Array that is not cut."""


def text_of(shown: Any) -> str:
    """Return the text of an Array, a record, records by name, or a container of records.

    Examples
    --------
    >>> text_of(MetricRecord({"loss": 0.5}))
    "{'loss': 0.5}"
    >>> print(text_of(MetricRecord({"loss": [0.5] * 1000})))
    MetricRecord: 1 metric
        loss  [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, ... 992 more]
    """
    if isinstance(shown, Array):
        return _array_text(shown)
    text = _spelled(shown)
    return summary_text(_summary_of(shown, TEXT_ROWS)) if text is None else text


def html_of(shown: Any) -> str:
    """Return the HTML of the same."""
    return summary_html(_summary_of(shown, HTML_ROWS))


def _array_row(key: str, array: Array) -> Row:
    """Return name, dtype, shape and size of an Array."""
    return key, str(array.dtype), value_text(tuple(array.shape)), _nbytes_text(array)


def _array_text(array: Array) -> str:
    """Return the arguments of an Array; data that is long or not in memory as its length."""
    payload = array.payload
    try:
        if not is_opened(payload):
            data = "<not opened yet>"
        elif isinstance(payload, BytesPayload) and payload.data_nbytes <= _DATA_BYTES:
            data = repr(array.data)
        else:
            data = f"<{payload.data_nbytes} bytes>"
    except ArchiveError as error:
        data = f"<{middle_elided(str(error), _FIELD_ROOM)}>"
    fields = {name: value_text(getattr(array, name), _FIELD_ROOM) for name in ("dtype", "shape", "stype")}
    described = ", ".join(f"{name}={text}" for name, text in fields.items())
    return f"{type(array).__name__}({described}, data={data})"


def _nbytes_text(array: Array) -> str:
    """Return the size of an Array that can be asked for its size without opening anything."""
    if not is_opened(array.payload):
        return "not opened yet"
    try:
        return size(array.nbytes)
    except ArchiveError as error:
        return str(error)


def section_of(
    kind: str, name: str | None, record: Mapping[Any, Any], rows: int, *, problem: str = ""
) -> Section:
    """Return the table of a record.

    Parameters
    ----------
    kind : str
        What it is; empty, with ``name=None``, where that was said before.
    name : str or None
    record : mapping
    rows : int
        Rows that are shown.
    problem : str, default ""
        Why its values are not known.
    """
    count, columns = len(record), ARRAY_COLUMNS if isinstance(record, ArrayRecord) else VALUE_COLUMNS
    try:
        head, tail = [[_row(*item) for item in _peek(record, part)] for part in places(count, rows)]
    except ArchiveError as error:  # the file breaks a rule where its names are
        return Section(kind, name, columns, count, problem=str(error))
    return Section(kind, name, columns, count, head, tail, "" if columns is ARRAY_COLUMNS else problem)


def _word(record: object) -> str:
    return next((word for known, word in _WORDS if isinstance(record, known)), _ITEM)


def _row(key: Any, value: Any) -> Row:
    name = key if isinstance(key, str) else value_text(key)
    return _array_row(name, value) if isinstance(value, Array) else (name, value_text(value))


def _peek(mapping: Mapping[Any, Any], part: range) -> list[tuple[Any, Any]]:
    if not part:
        return []
    if isinstance(mapping, TypedDict):
        return mapping.peek(part)
    return list(islice(mapping.items(), part.start, part.stop))


def _spelled(shown: Any) -> str | None:
    """Return the text as Python spells it; None where that is long."""
    if isinstance(shown, Context):
        return _spelled_context(shown)
    if isinstance(shown, (RecordSet, RecordDict)):
        return _spelled_records(shown)
    return _spelled_mapping(shown)


def _spelled_context(context: Context) -> str | None:
    parts = []
    for field in dataclasses.fields(context):
        value = getattr(context, field.name)
        known = isinstance(value, (RecordSet, RecordDict))
        text = _spelled_records(value) if known else spelled(value)
        if text is None:
            return None
        parts.append(f"{field.name}={text}")
    return f"{type(context).__qualname__}({', '.join(parts)})"


def _spelled_mapping(mapping: Mapping[Any, Any]) -> str | None:
    """Return the text of a mapping as a dict spells it; None where that is long."""
    count = len(mapping)
    if count * _SHORTEST > ROOM:
        return None
    try:
        return dict_text(_peek(mapping, range(count)))
    except ArchiveError:  # said in the summary
        return None


def _spelled_records(records: RecordSet | RecordDict) -> str | None:
    """Return the views of a RecordSet on one line, or those of a RecordDict, one a line."""
    texts = {}
    for name, view in records._views().items():
        text = _spelled_mapping(view)
        if text is None:
            return None
        texts[name] = text
    parts, kind = [f"{name}={text}" for name, text in texts.items()], type(records).__name__
    if isinstance(records, RecordSet):
        return f"{kind}({', '.join(parts)})"
    return f"{kind}(\n" + ",\n".join(f"  {part}" for part in parts) + "\n)"


def _summary_of(shown: Any, rows: int) -> Summary:
    if isinstance(shown, Array):
        _, dtype, shape, nbytes = _array_row("", shown)
        facts = [("dtype", dtype), ("shape", shape), ("size", nbytes), ("stype", shown.stype)]
        return Summary(type(shown).__name__, facts)
    if isinstance(shown, Context):
        return _context_summary(shown, rows)
    if isinstance(shown, (RecordSet, RecordDict)):
        return _records_summary(shown, rows)
    return _mapping_summary(shown, rows)


def _mapping_summary(mapping: Mapping[Any, Any], rows: int) -> Summary:
    count, kind = len(mapping), type(mapping).__name__
    if _word(mapping) == _ITEM and count and isinstance(next(iter(mapping.values())), TypedDict):
        sections = (section_of(f"{_word(record)}s", name, record, rows) for name, record in mapping.items())
        return Summary(f"{kind}: {counted(count, 'record')}", (), sections, count)
    facts = []
    if isinstance(mapping, ArrayRecord) and mapping.attributes:
        facts.append(("attributes", value_text(mapping.attributes, 100)))
    section = section_of("", None, mapping, rows)
    return Summary(f"{kind}: {counted(count, _word(mapping))}", facts, [section], 1)


def _records_summary(records: RecordSet | RecordDict, rows: int) -> Summary:
    views = records._views().values()
    count = sum(map(len, views))
    items = (item for view in views for item in view.items())
    sections = (section_of(f"{_word(record)}s", name, record, rows) for name, record in items)
    return Summary(f"{type(records).__name__}: {counted(count, 'record')}", (), sections, count)


def _context_summary(context: Context, rows: int) -> Summary:
    facts: list[tuple[str, str]] = []
    configs: list[Section] = []
    state = Summary("")
    for field in dataclasses.fields(context):
        value = getattr(context, field.name)
        if isinstance(value, (RecordSet, RecordDict)):
            state = _records_summary(value, rows)
        elif isinstance(value, dict) and value:
            configs.append(section_of(field.name, None, value, rows))
        else:
            facts.append((field.name, value_text(value)))
    return Summary(type(context).__name__, facts, chain(configs, state.sections), len(configs) + state.count)
