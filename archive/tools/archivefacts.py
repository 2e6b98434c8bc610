"""What a table says of each archive beside its values: when it was made, its length, its number of arrays."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from archive.dtypes import NDArray
from archive.engine.read.open import read_summary
from archive.engine.read.reader import Reader
from archive.storage.url import Location
from archive.tools.columns import Row, make_column, row_of

__all__ = ["Facts", "fact_columns", "facts_of", "read_facts"]

_CREATED = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})Z")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an archive without reading an array byte."""

    row: Row
    """Metrics and configs."""
    created: str
    """Creation time as the archive has it, ISO 8601 in UTC where a writer made it."""
    file_bytes: int | None
    """Length of the file; None of one that was removed."""
    arrays: int | None
    """Arrays, tied ones counted each; None of a remote archive where that takes another request."""
    digest: str
    """Digest of the file, as `SaveReport.digest`."""


def read_facts(location: Location) -> Facts:
    """Return what the end of an archive says.

    Raises
    ------
    ArchiveError
        It is missing or damaged. Array bytes are not read, and may be damaged all the same.
    """
    summary = read_summary(location)
    created = summary.values.text_of("created")
    return Facts(row_of(summary.values), created, summary.file_bytes, summary.arrays, summary.digest)


def facts_of(reader: Reader) -> Facts:
    """Return the same of an archive that is open."""
    return Facts(
        row_of(reader.values),
        reader.values.text_of("created"),
        reader.source.nbytes,
        reader.index.arrays,
        reader.identity.hex(),
    )


def fact_columns(found: Sequence[Facts | None]) -> dict[str, NDArray]:
    """Return the columns ``created``, ``file_bytes`` and ``arrays``; None: nothing is known of the archive.

    Examples
    --------
    >>> fact_columns([Facts({}, "2026-01-31T12:00:00Z", 9216, 3, ""), None])["created"].tolist()
    [datetime.datetime(2026, 1, 31, 12, 0), None]
    """
    return {
        # of seconds, which Polars does not take
        "created": np.array([_moment(one.created if one else "") for one in found], "M8[us]"),
        "file_bytes": _numbers([one.file_bytes if one else None for one in found]),
        "arrays": _numbers([one.arrays if one else None for one in found]),
    }


def _numbers(values: Sequence[int | None]) -> NDArray:
    """Return a column of integers: float64 with NaN where one is missing, also where all are."""
    return make_column(values) if any(value is not None for value in values) else np.full(len(values), np.nan)


@functools.lru_cache(1024)  # the archives of a round are of one second
def _moment(created: str) -> np.datetime64:
    """Return a creation time in UTC; NaT for any other text, which a file may hold."""
    found = _CREATED.fullmatch(created)
    try:
        return np.datetime64(found[1] if found else "NaT", "us")
    except ValueError:  # such as the 31st of February
        return np.datetime64("NaT", "us")
