"""`archive.tools.diff`: how two archives differ; arrays of equal digests are equal without being read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from archive.engine.progress import Bar, Progress, Report
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import lazy_array
from archive.engine.read.windows import Window, look_at, read_windows, window_bytes
from archive.format.constants import FLAG_FORTRAN
from archive.format.elements import ArrayType
from archive.storage.url import URL, Cache
from archive.tools.arraystats import Keys, array_rows, number_type, owner_of
from archive.tools.deviation import NONE, Deviation, add, deviation_of
from archive.tools.differences import ArrayDiff, Diff, ValueDiff
from archive.tools.many import find_inputs
from archive.tools.valuediffs import compare_order, compare_values

__all__ = ["diff"]


class _Tolerance(NamedTuple):
    rtol: float
    atol: float


class _Pair(NamedTuple):
    """Windows of the same elements of two arrays; ``number`` says which arrays."""

    number: int
    row: int
    start: int
    stop: int
    other_row: int
    other_start: int
    other_stop: int


def diff(
    a: URL | Archive,
    b: URL | Archive,
    *,
    keys: str | Iterable[str | tuple[str, str]] | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Diff:
    """Compare two archives: arrays, metrics, configs, attributes, and what was saved.

    Arrays whose digests, types and shapes are equal are equal, and not read: a byte that was damaged since in
    one of two such files is found by `archive.verify`. All others are read once, a megabyte at a time, and
    compared with their digests.

    Parameters
    ----------
    a, b : str, path-like or Archive
        Two archives, named or open: ``diff(store.open(6), store.open(7))``.
    keys : str or iterable of str or (record, key), optional
        Compare these arrays alone, and nothing else: names and patterns, as for `Archive.load`. Each must be
        in one of the archives at least.
    rtol, atol : float, default 0
        Numbers are equal where ``|a - b| <= atol + rtol * |b|``, as for `numpy.isclose`; also those of
        metrics, configs and attributes.
    progress : callable or True, optional
        Called with bytes read and bytes in all.
    cache, cache_bytes, storage_options
        Of remote archives, as for `archive.open`.

    Returns
    -------
    Diff
        Its `equal` says whether nothing differs, ``str`` of it is a short report.

    Raises
    ------
    KeyError
        No array of either has one of the keys.
    ValueError
        A tolerance is negative or not a number.
    DigestError
        An array that had to be read is damaged.
    ArchiveError
        One of the two cannot be opened.

    Notes
    -----
    Elements of two types of numbers are compared as float64 (longdouble, complex); large integers of one type
    exactly. A NaN equals a NaN at the same place, and -0.0 equals 0.0. Arrays of other elements are equal or
    not, as a whole. When an archive was written and by what, and the records that a `CheckpointStore` keeps
    for itself, are not compared.

    Examples
    --------
    >>> import archive, numpy as np
    >>> for number in (1, 2):
    ...     arrays = {"w": np.array([1.0, number]), "b": np.zeros(2)}
    ...     _ = archive.save(arrays, f"/tmp/fedarchive-diff-{number}.h5", metrics={"loss": 1 / number})
    >>> found = archive.tools.diff("/tmp/fedarchive-diff-1.h5", "/tmp/fedarchive-diff-2.h5")
    >>> print(found)
    a: /tmp/fedarchive-diff-1.h5
    b: /tmp/fedarchive-diff-2.h5
    arrays: 1 equal, 1 changed, 0 only in a, 0 only in b
      ~ model/w: 1 of 2 elements differ; max abs 1, max rel 0.5; norm 1 (relative 0.447214), cosine 0.948683
    values: 1 changed
      ~ metrics/metrics/loss: 1.0 -> 0.5
    >>> found.equal, found.changed[0].max_abs
    (False, 1.0)
    """
    if not (rtol >= 0 and atol >= 0):
        raise ValueError(f"tolerances must be numbers of at least 0, not rtol={rtol!r}, atol={atol!r}")
    with ExitStack() as stack:
        handles = [
            side
            if isinstance(side, Archive)
            else stack.enter_context(_open(side, storage_options, cache, cache_bytes))
            for side in (a, b)
        ]
        first, second = (handle._reader for handle in handles)
        first.require_open()
        second.require_open()
        wanted = _names(first, second, keys)
        paths = first.path, second.path
        if first.identity and first.identity == second.identity:
            return Diff(*paths, same=len(wanted[0]))
        report = stack.enter_context(Bar(progress, "comparing"))
        tolerance = _Tolerance(float(rtol), float(atol))
        common = [name for name in wanted[0] if name in wanted[1]]
        arrays = _ArrayPairs(first, second, tolerance)
        changed = arrays.compare([(name, wanted[0][name], wanted[1][name]) for name in common], report)
        values: list[ValueDiff] = []
        if keys is None:
            values = [*compare_order(*wanted), *compare_values(handles[0], handles[1], *tolerance)]
    return Diff(
        *paths,
        only_a=tuple(name for name in wanted[0] if name not in wanted[1]),
        only_b=tuple(name for name in wanted[1] if name not in wanted[0]),
        changed=tuple(changed),
        same=len(common) - len(changed),
        values=tuple(values),
    )


def _open(url: URL, options: Mapping[str, Any] | None, cache: Cache, cache_bytes: int | None) -> Archive:
    place = find_inputs([url], options, cache, cache_bytes)[0].place
    return Archive(open_reader(place, access="auto", verify="first"))


def _names(first: Reader, second: Reader, keys: Keys) -> tuple[dict[Any, int], dict[Any, int]]:
    """Return the rows by (record, key) of what is compared, in both archives.

    Raises
    ------
    KeyError
        A key or pattern stands for no array of either.
    """
    each: list[Keys] = [keys] if keys is None or isinstance(keys, str) else [[key] for key in keys]
    found: tuple[dict[Any, int], dict[Any, int]] = {}, {}
    for wanted in each:
        missing = []
        for reader, names in zip((first, second), found, strict=True):
            try:
                rows = array_rows(reader, wanted)
            except KeyError as error:
                missing.append(error)
                continue
            records = [reader.index.records[number].name for number in reader.index.record[rows].tolist()]
            names |= zip(zip(records, reader.index.keys(rows), strict=True), rows, strict=True)
        if len(missing) == 2:
            raise missing[0]
    return found


class _ArrayPairs:
    """Compares arrays of two archives that have one name."""

    def __init__(self, first: Reader, second: Reader, tolerance: _Tolerance) -> None:
        self._readers = first, second
        self._tolerance = tolerance
        self._shapes = first.index.shapes(), second.index.shapes()
        self._pairs: dict[tuple[int, int], int] = {}
        self._numbers: list[tuple[np.dtype[Any], np.dtype[Any]]] = []

    def compare(self, named: Sequence[tuple[Any, int, int]], progress: Report | None) -> list[ArrayDiff]:
        """Return those that differ, in order."""
        listed = []
        for name, row, other in named:
            differs, number = self._facts(row, other)
            if differs or number is not None:
                listed.append((name, row, other, differs, number))
        found = self._read(progress)
        changed = []
        for name, row, other, differs, number in listed:
            deviation = None if number is None else found[number]
            if deviation is not None and deviation.different:
                differs.append("values")
            if differs:
                changed.append(self._describe(name, row, other, differs, deviation))
        return changed

    def _facts(self, row: int, other: int) -> tuple[list[str], int | None]:
        """Return what differs without a read, and the number of the pair if it is to be read."""
        (first, second), (shape, other_shape) = self._readers, (self._shapes[0][row], self._shapes[1][other])
        kind, other_kind = _type(first, row), _type(second, other)
        differs = [word for word in ("dtype", "stype") if getattr(kind, word) != getattr(other_kind, word)]
        if shape != other_shape:
            return [*differs, "shape"], None
        if (first.index.flags.item(row) ^ second.index.flags.item(other)) & FLAG_FORTRAN:
            differs.append("order")
        alike = (kind.description, kind.mode, kind.itemsize) == (
            other_kind.description, other_kind.mode, other_kind.itemsize)  # fmt: skip
        digested = alike and first.footer is not None and second.footer is not None  # foreign files are not
        if digested and np.array_equal(first.index.segment_digests(row), second.index.segment_digests(other)):
            return differs, None
        types = number_type(kind), number_type(other_kind)
        if types[0] is not None and types[1] is not None:
            owners = owner_of(first, row), owner_of(second, other)
            number = self._pairs.setdefault(owners, len(self._pairs))
            if number == len(self._numbers):
                self._numbers.append((types[0], types[1]))
            return differs, number
        # other bytes are other elements, unless they are stored in another way
        if "dtype" not in differs and (digested or not self._same_data(row, other)):
            differs.append("values")
        return differs, None

    def _same_data(self, row: int, other: int) -> bool:
        """Return whether texts, or what is no .npy, have the same data: few have two ways to be stored."""
        one, two = (
            lazy_array(reader, at, shapes[at], reader.index.type.item(at))
            for reader, at, shapes in zip(self._readers, (row, other), self._shapes, strict=True)
        )
        return one.data == two.data

    def _read(self, progress: Report | None) -> list[Deviation]:
        """Return the deviation of each pair that is to be read."""
        found = [NONE] * len(self._pairs)
        total = sum(int(self._readers[0].index.stored_nbytes[row]) for row, _ in self._pairs)
        done = 0
        for group in look_at(self._look, self._windows(), *self._readers):
            for pair, deviation in group:
                found[pair.number] = add(found[pair.number], deviation)
                done += pair.stop - pair.start
            if progress is not None:
                progress(done, total)
        return found

    def _windows(self) -> Iterator[_Pair]:
        """Yield windows of the same elements, which begin with a segment on both sides."""
        first, second = self._readers
        for (row, other), number in sorted(self._pairs.items()):
            sizes = [dtype.itemsize for dtype in self._numbers[number]]
            step = max(window_bytes(first, row) // sizes[0], window_bytes(second, other) // sizes[1])
            elements = int(first.index.stored_nbytes[row]) // sizes[0]
            for at in range(0, elements, step):
                end = min(at + step, elements)
                yield _Pair(number, row, at * sizes[0], end * sizes[0], other, at * sizes[1], end * sizes[1])

    def _look(self, pairs: list[_Pair]) -> list[tuple[_Pair, Deviation]]:
        first, second = self._readers
        blocks = read_windows(first, [Window(pair.row, pair.start, pair.stop) for pair in pairs])
        others = read_windows(
            second, [Window(pair.other_row, pair.other_start, pair.other_stop) for pair in pairs]
        )
        found = []
        for pair, block, other in zip(pairs, blocks, others, strict=True):
            types = self._numbers[pair.number]
            found.append((pair, deviation_of(block.view(types[0]), other.view(types[1]), *self._tolerance)))
        return found

    def _describe(
        self, name: Any, row: int, other: int, differs: list[str], deviation: Deviation | None
    ) -> ArrayDiff:
        (first, second), shape = self._readers, self._shapes[0][row]
        kinds = _type(first, row), _type(second, other)
        facts = ArrayDiff(
            name[0],
            name[1],
            tuple(differs),
            (kinds[0].dtype, kinds[1].dtype),
            (shape, self._shapes[1][other]),
            (kinds[0].stype, kinds[1].stype),
        )
        if deviation is None:
            return facts
        return replace(
            facts,
            compared=True,
            elements=math.prod(shape),
            different=deviation.different,
            nan=deviation.nan,
            max_abs=deviation.max_abs,
            max_rel=deviation.max_rel,
            norm=deviation.norm,
            relative_norm=deviation.relative_norm,
            cosine=deviation.cosine,
        )


def _type(reader: Reader, row: int) -> ArrayType:
    number: int = reader.index.type.item(row)
    return reader.index.types[number]
