"""What is shown of an open archive: facts and names from its index, and no byte of an array.

Loaded when a handle is shown. Where something cannot be read, as values that a later version wrote, the
summary says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from archive.display.markup import HTML_ROWS, summary_html
from archive.display.summaries import TEXT_ROWS, Section, Summary, summary_text
from archive.display.texts import counted, size, value_text
from archive.engine.read.lazyarrays import LazyArrays
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import Values, record_values
from archive.engine.read.reference import Reference
from archive.errors import ArchiveError
from archive.format.constants import KIND_ARRAYS, KINDS, VERSION_MAJOR
from archive.format.values import Value
from archive.records import ArrayRecord
from archive.records.lazydict import leave_to
from archive.records.showing import section_of

if TYPE_CHECKING:
    from archive.engine.read.handle import Archive

__all__ = ["archive_html", "archive_text"]


def archive_text(archive: Archive) -> str:
    """Return the text of a handle: one line where it is closed or not opened yet.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save(
    ...     {"w": np.zeros((2, 3), "f4")},
    ...     "/tmp/fedarchive-shown.h5",
    ...     metrics={"loss": 0.5},
    ...     created="2026-01-02T03:04:05Z",
    ... )
    >>> handle = archive.open("/tmp/fedarchive-shown.h5")
    >>> print(archive_text(handle))  # doctest: +ELLIPSIS
    <fedarchive.Archive '/tmp/fedarchive-shown.h5': 1 array, ... KiB>
    recordset, format 1.0, created 2026-01-02T03:04:05Z by fedarchive ...
    arrays 'model': 1
        w  float32  (2, 3)  24 bytes
    metrics 'metrics': 1
        loss  0.5
    >>> handle.close()
    >>> handle
    <fedarchive.Archive '/tmp/fedarchive-shown.h5': closed>
    """
    return summary_text(_summary(archive, TEXT_ROWS))


def archive_html(archive: Archive) -> str:
    """Return the HTML of a handle."""
    return summary_html(_summary(archive, HTML_ROWS))


def _summary(archive: Archive, rows: int) -> Summary:
    held = archive._held
    name = f"<fedarchive.Archive {value_text(held.path, 300)}"
    if held.closed:
        return Summary(f"{name}: closed>")
    if isinstance(held, Reference):
        return Summary(f"{name}: not opened yet>")
    state = f"{counted(len(archive), 'array')}, {size(held.source.nbytes)}"
    names = {record.name for record in held.index.records}
    return Summary(
        f"{name}: {state}>",
        [("", _origin(held))],
        _sections(held, set(archive._hidden), rows),
        len(held.index.records) - len(names.intersection(archive._hidden)),
    )


def _origin(reader: Reader) -> str:
    """Return what was saved, by whom and when."""
    if reader.footer is None:
        return "a foreign file: nothing is verified"
    try:
        container, created, writer = map(reader.values.text_of, ("container", "created", "writer"))
    except ArchiveError as error:
        return str(error)
    return f"{container}, format {VERSION_MAJOR}.{reader.footer.minor}, created {created} by {writer}"


def _sections(reader: Reader, hidden: set[str], rows: int) -> Iterator[Section]:
    index = reader.index
    values: Values = {}
    problem = ""
    try:
        values = record_values(reader, "values", datasets="skip")
    except ArchiveError as error:
        problem = str(error)
    for number, record in enumerate(index.records):
        if record.name not in hidden:
            shown = _content(reader, number, values.get(record, {}))
            yield section_of(KINDS[record.kind], record.name, shown, rows, problem=problem)


def _content(reader: Reader, number: int, values: dict[str, Value]) -> Mapping[str, Any]:
    """Return what a record has; values that are datasets come after the others, whatever their order was."""
    index = reader.index
    own = np.flatnonzero(index.record == number)
    if index.records[number].kind == KIND_ARRAYS:
        return leave_to(ArrayRecord.from_checked({}), LazyArrays(reader, number, own))
    return values | {index.key(row): _Stored(index.stored_nbytes.item(row)) for row in own.tolist()}


class _Stored:
    """Stands for a value that is a dataset: its length is known, and that is all that is shown."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes

    def __repr__(self) -> str:
        return f"{size(self._nbytes)} in a dataset"
