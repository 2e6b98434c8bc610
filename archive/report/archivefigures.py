"""What is measured of one archive: its arrays with moments and histograms, its metrics and configs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from archive.display.texts import value_text
from archive.engine.progress import Report
from archive.engine.read.handle import Archive
from archive.engine.read.reader import Reader
from archive.errors import ArchiveError, DigestError
from archive.format.constants import NO_ALIAS, OWN_PREFIX
from archive.tools.arraystats import array_rows, measure
from archive.tools.columns import row_of
from archive.tools.histogram import histogram_of_row
from archive.tools.moments import Moments

__all__ = ["ArchiveFigures", "ArrayFigures", "ValueFigures", "measure_contents", "measure_rows"]

BINS = 24
"""Bins of a histogram."""


@dataclass(frozen=True, slots=True)
class ArrayFigures:
    """One array."""

    record: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    """Length of its stored elements; 0 of one that is tied to another."""
    moments: Moments | None
    """None of elements that are not numbers, and of an array that is damaged."""
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    problem: str = ""
    """What is wrong with it."""

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ValueFigures:
    """One metric or config."""

    kind: str
    record: str
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class ArchiveFigures:
    """One archive."""

    path: str
    created: str
    file_bytes: int
    arrays: Sequence[ArrayFigures]
    values: Sequence[ValueFigures]
    failures: Sequence[ArchiveError] = ()
    """One for each array that is damaged."""


def measure_contents(handle: Archive, progress: Report | None = None) -> ArchiveFigures:
    """Return what an open archive holds; damaged arrays are named, and the others measured."""
    reader = handle._reader
    reader.require_open()
    index = reader.index
    rows = array_rows(reader, None)
    moments, failures = measure_rows(reader, rows, progress)
    arrays = []
    for row, key, found in zip(rows, index.keys(rows), moments, strict=True):
        kind = index.types[index.type.item(row)]
        error = failures.get(row)
        histogram = None
        if found is not None and found.finite:
            histogram = histogram_of_row(reader, row, found, bins=BINS)
        tied = index.alias_of.item(row) != NO_ALIAS
        arrays.append(
            ArrayFigures(
                index.records[index.record.item(row)].name,
                key,
                kind.dtype,
                index.shape(row),
                0 if tied else int(index.stored_nbytes[row]),
                found,
                histogram.edges if histogram else (),
                histogram.counts if histogram else (),
                "" if error is None else error.problem,
            )
        )
    values = [
        ValueFigures(*name, value_text(value, 300))
        for name, value in row_of(reader.values).items()
        if not name[1].startswith(OWN_PREFIX)
    ]
    created = reader.values.text_of("created")
    return ArchiveFigures(
        reader.path, created, reader.source.nbytes, arrays, values, tuple(failures.values())
    )


def measure_rows(
    reader: Reader, rows: Sequence[int], progress: Report | None = None
) -> tuple[list[Moments | None], dict[int, ArchiveError]]:
    """Return the moments of arrays, and the error of each that is damaged: such a one has no moments."""
    failures: dict[int, ArchiveError] = {}
    try:
        return measure(reader, rows, progress=progress), failures
    except DigestError:
        found: list[Moments | None] = []
    for row in rows:
        try:
            found += measure(reader, [row])
        except DigestError as error:
            failures[row] = error
            found.append(None)
    return found, failures
