"""`archive.tools.stats`: statistics of every array of one archive or of many, in one pass over the bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.progress import Bar, Progress, Report
from archive.engine.read.handle import Archive, select_rows
from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.engine.read.windows import Window, cut_windows, look_at, read_windows
from archive.errors import ArchiveError
from archive.format.constants import KIND_ARRAYS, MODE_ELEMENTS, NO_ALIAS
from archive.format.elements import ArrayType
from archive.storage.url import URL, Cache, Location, parse_url
from archive.tools.columns import Row, make_column, row_of
from archive.tools.leftout import is_bad_input
from archive.tools.many import Errors, Input, Outcome, find_inputs, read_each, require_errors
from archive.tools.moments import NOTHING, Moments, is_number, merge, moments_of
from archive.tools.provenance import provenance_columns, provenance_of
from archive.tools.tabulation import Table, texts, warn_skipped

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = [
    "ArchiveStats",
    "Keys",
    "Measured",
    "array_rows",
    "measure",
    "measure_archive",
    "number_type",
    "owner_of",
    "require_found",
    "stats",
]

Keys = str | Iterable[str | tuple[str, str]] | None
"""Arrays that are asked for: as for `Archive.load`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One array."""

    record: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    moments: Moments | None
    """None of elements that are not numbers: their bytes are not read."""


class ArchiveStats(NamedTuple):
    """What was read of one archive."""

    path: str
    """As the caller named it."""
    place: str
    """Absolute, without secrets."""
    values: Row | None
    """None where it cannot be read."""
    arrays: Sequence[Measured | None]
    """One None where it cannot be read."""
    missing: KeyError | None = None
    """Why it has none of the arrays that were asked for."""
    error: ArchiveError | None = None


def stats(
    urls: URL | Archive | Iterable[URL | Archive],
    *,
    keys: str | Iterable[str | tuple[str, str]] | None = None,
    errors: Errors = "raise",
    executor: Executor | None = None,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Table:
    """Return count, range, mean, spread and odd values of every array, one row an array.

    Every byte of an array of numbers is read once, a megabyte at a time, and compared with its digest.

    Parameters
    ----------
    urls : str, path-like, Archive, or iterable of these
        A path or URL, a pattern as for `archive.table`, or a folder, which stands for the archives below it;
        or archives one by one, named or open.
    keys : str or iterable of str or (record, key), optional
        These arrays alone: names and patterns, as for `Archive.load`. An archive that has none of them has no
        row.
    errors : {"raise", "skip", "column"}, default "raise"
        What an archive does that is damaged or not there: it ends the call, it is left out with a warning
        that names it, or it has one row with its path and, in the column ``error``, what is wrong. The
        table's ``failures`` has these errors. A server that does not answer ends the call.
    executor : concurrent.futures.Executor, optional
        What reads the archives that are named, up to 64 a task: a pool of processes,
        ``distributed.Client.get_executor()``. Those that are open are read here.
    progress : callable or True, optional
        Called with bytes read and bytes in all; with several archives, with archives read and all archives.
    cache, cache_bytes, storage_options
        Of remote archives, as for `archive.open`.

    Returns
    -------
    Table
        A dict of arrays of one length, which pandas accepts:

        - ``path``; ``run``, ``round`` and ``client`` for archives of a `CheckpointStore`; ``record``,
          ``key``, ``dtype``, and ``shape``, a tuple;
        - ``count``: elements; ``zeros``, ``nan`` and ``inf``: how many of them are zero, NaN, infinite;
        - ``min``, ``max``, ``mean``, ``std`` (root of the mean squared distance from the mean, ``ddof=0``)
          and ``norm`` (L2) of the elements that are finite; NaN where there is none;
        - ``error`` with ``errors="column"``.

    Raises
    ------
    MissingError
        A pattern matches nothing, or an archive is not there.
    KeyError
        No archive has an array of ``keys``.
    DigestError
        An array is damaged: the error names archive and array.
    ArchiveError
        An archive cannot be opened.

    Notes
    -----
    Sums are float64 (longdouble for longdouble), relative to the mean, and do not overflow. Bools are 0 and
    1. Of complex elements all columns are those of the absolute values. Of texts, bytes, times, structures
    and elements of a serialization of your own there is ``count`` alone; their bytes are not read. ``min``
    and ``max`` are exact: where float64 lacks one of them, a large integer, their columns hold Python's
    numbers. Results do not depend on the number of threads.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.array([0.0, 3.0, np.nan]), "n": np.arange(4)}, "/tmp/fedarchive-stats.h5")
    >>> found = archive.tools.stats("/tmp/fedarchive-stats.h5")
    >>> found["key"].tolist(), found["mean"].tolist(), found["nan"].tolist()
    (['w', 'n'], [1.5, 1.5], [1, 0])
    """
    require_errors(errors)
    items = _list_items(urls, storage_options, cache, cache_bytes)
    alone = len(items) == 1
    with Bar(progress, "reading", "B" if alone else " archives") as report:
        wanted = keys if keys is None or isinstance(keys, str) else list(keys)  # asked of every archive
        read = partial(measure_archive, keys=wanted, progress=report if alone else None, alone=alone)
        found = []
        with closing(_read_items(items, read, errors, None if alone else executor)) as outcomes:
            for done, outcome in enumerate(outcomes, start=1):
                found.append(_outcome(outcome))
                if report is not None and not alone:
                    report(done, len(items))
    require_found(found)
    failures = [(one.path, one.error) for one in found if one.error is not None]
    if errors == "skip":
        warn_skipped(failures, len(found))
        found = [one for one in found if one.error is None]
    return _tabulate(found, errors, failures)


def require_found(found: Sequence[ArchiveStats]) -> None:
    """Raise KeyError where archives were read, and none has an array that was asked for."""
    read = [one for one in found if one.error is None]
    if read and all(one.missing is not None for one in read):
        raise read[0].missing or KeyError()


def _list_items(
    urls: URL | Archive | Iterable[URL | Archive], options: Any, cache: Cache, cache_bytes: int | None
) -> list[Input | Archive]:
    """Return the archives that are meant: those that are open, and where the others are."""
    if isinstance(urls, (str, os.PathLike)):
        return [*find_inputs(urls, options, cache, cache_bytes, folders=True)]
    items = [urls] if isinstance(urls, Archive) else list(urls)
    named = iter(find_inputs([i for i in items if not isinstance(i, Archive)], options, cache, cache_bytes))
    return [item if isinstance(item, Archive) else next(named) for item in items]


def _read_items(
    items: Sequence[Input | Archive],
    read: Callable[[Archive], ArchiveStats],
    errors: Errors,
    executor: Executor | None,
) -> Generator[Outcome[ArchiveStats], None, None]:
    """Yield what was read of each archive, in order."""
    inputs = [item for item in items if isinstance(item, Input)]
    with closing(read_each(partial(_read_place, read), inputs, errors=errors, executor=executor)) as named:
        for item in items:
            if isinstance(item, Input):
                yield next(named)
                continue
            reader = item._reader
            known = Input(reader.path, reader.location or parse_url(reader.path))
            try:
                yield Outcome(known, result=read(item))
            except ArchiveError as error:
                if errors == "raise" or not is_bad_input(error):
                    raise
                yield Outcome(known, error=error)


def _read_place(read: Callable[[Archive], ArchiveStats], place: Location) -> ArchiveStats:
    with Archive(open_reader(place, access="auto", verify="first")) as handle:
        return read(handle)


def _outcome(outcome: Outcome[ArchiveStats]) -> ArchiveStats:
    path, place = outcome.input.path, outcome.input.place.display
    if outcome.result is None:
        return ArchiveStats(path, place, None, [None], error=outcome.error)
    return outcome.result._replace(path=path)


def measure_archive(
    handle: Archive, *, keys: Keys = None, progress: Report | None = None, alone: bool = True
) -> ArchiveStats:
    """Return the statistics of the arrays of an open archive; parameters as of `measure`."""
    reader = handle._reader
    reader.require_open()
    missing: KeyError | None = None
    rows: list[int] = []
    try:
        rows = array_rows(reader, keys)
    except KeyError as error:
        missing = error
    index, arrays = reader.index, []
    measured = measure(reader, rows, alone=alone, progress=progress)
    for row, key, moments in zip(rows, index.keys(rows), measured, strict=True):
        record, kind = index.records[index.record.item(row)], index.types[index.type.item(row)]
        arrays.append(Measured(record.name, key, kind.dtype, index.shape(row), moments))
    return ArchiveStats(reader.path, reader.path, row_of(reader.values), arrays, missing)


def array_rows(reader: Reader, keys: Keys) -> list[int]:
    """Return the rows of all arrays, or of keys and patterns, each once.

    Raises
    ------
    KeyError
        No array has one of the keys, or matches one of the patterns.
    """
    if keys is None:
        index = reader.index
        rows = np.flatnonzero(index.record_rows["kind"][index.record] == KIND_ARRAYS)
        every: list[int] = rows[np.argsort(index.record[rows], kind="stable")].tolist()
        return every
    return list(dict.fromkeys(select_rows(reader, keys)))


def number_type(kind: ArrayType) -> np.dtype[Any] | None:
    """Return the type of stored elements that are numbers; None of others."""
    dtype = parse_description(kind.description) if kind.mode == MODE_ELEMENTS else None
    return dtype if dtype is not None and is_number(dtype) else None


def owner_of(reader: Reader, row: int) -> int:
    """Return the row that has the bytes of a row: itself, or the array that it is tied to."""
    owner: int = reader.index.alias_of.item(row)
    return row if owner == NO_ALIAS else owner


def measure(
    reader: Reader, rows: Sequence[int], *, alone: bool = True, progress: Report | None = None
) -> list[Moments | None]:
    """Return the moments of rows; None where elements are not numbers.

    Windows of arrays are measured in threads and merged in their order. Where ``alone`` is False, other
    archives are read at the same time, and this one without threads that wait for its server.
    """
    index = reader.index
    types = [number_type(kind) for kind in index.types]
    owners = [owner_of(reader, row) for row in rows]
    wanted = dict.fromkeys(at for at in owners if types[index.type.item(at)] is not None)
    found: dict[int, Moments] = dict.fromkeys(wanted, NOTHING)

    def each(windows: list[Window]) -> list[tuple[Window, Moments]]:
        return [
            (window, moments_of(data.view(types[index.type.item(window.row)])))
            for window, data in zip(windows, read_windows(reader, windows), strict=True)
        ]

    total, done = int(index.stored_nbytes[list(wanted)].sum()), 0
    windows = (window for row in sorted(wanted) for window in cut_windows(reader, row))
    for group in look_at(each, windows, reader, alone=alone):
        for window, moments in group:
            found[window.row] = merge(found[window.row], moments)
            done += window.stop - window.start
        if progress is not None:
            progress(done, total)
    return [found.get(owner) for owner in owners]


def _tabulate(
    found: Sequence[ArchiveStats], errors: Errors, failures: Sequence[tuple[str, ArchiveError]]
) -> Table:
    """Return one row an array; an archive that cannot be read has one row."""
    rows = [(one, array) for one in found for array in one.arrays]
    whose = {id(one): provenance_of(one.place, one.values) for one in found}
    columns: dict[str, NDArray] = {"path": texts([one.path for one, _ in rows])}
    columns |= provenance_columns([whose[id(one)] for one, _ in rows])
    arrays = [array for _, array in rows]
    for name in ("record", "key", "dtype"):
        columns[name] = texts([None if array is None else getattr(array, name) for array in arrays])
    columns["shape"] = _objects([None if array is None else array.shape for array in arrays])
    columns["count"] = make_column([None if array is None else math.prod(array.shape) for array in arrays])
    moments = [None if array is None else array.moments for array in arrays]
    for name, column in (("min", "low"), ("max", "high")):
        columns[name] = _extremes([None if found is None else getattr(found, column) for found in moments])
    for name in ("mean", "std", "norm"):
        numbers = [math.nan if found is None else getattr(found, name) for found in moments]
        columns[name] = np.array(numbers, np.float64)
    for name in ("zeros", "nan", "inf"):
        columns[name] = make_column([None if found is None else getattr(found, name) for found in moments])
    if errors == "column":
        columns["error"] = texts([None if one.error is None else str(one.error) for one, _ in rows])
    return Table(columns, failures=failures)


def _extremes(values: list[float | int | None]) -> NDArray:
    """Return a column of numbers: float64, or objects where float64 lacks one of them."""
    known = [math.nan if value is None else value for value in values]
    exact = all(isinstance(value, float) or int(float(value)) == value for value in known)
    return np.array(known, np.float64) if exact else _objects(known)


def _objects(values: Sequence[Any]) -> NDArray:
    column: NDArray = np.empty(len(values), object)
    for place, value in enumerate(values):
        column[place] = value
    return column
