"""Every byte of an archive read and compared: arrays, the padding between them, metadata and index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from archive.engine.check import THREADS, run_parallel
from archive.engine.reader import Reader
from archive.engine.report import Failure, VerifyReport
from archive.format.constants import DATA_AT, NO_ALIAS, SUPERBLOCK_BYTES
from archive.format.digests import digest, name_hash
from archive.format.index import Index

__all__ = ["verify_reader"]

NDArray = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], object]

RUN_BYTES = 16 << 20
"""Bytes checked between two calls of ``progress``, and given back to the system afterwards."""


def verify_reader(reader: Reader, progress: Progress | None = None) -> VerifyReport:
    """Check everything behind an open reader, whatever was checked before."""
    index, footer = reader.index, reader.footer
    if footer is None:
        return VerifyReport(False, index.arrays, 0, index.arrays, ())
    failures: list[Failure] = []
    stored = np.flatnonzero((index.alias_of == NO_ALIAS) & (index.stored_nbytes > 0))
    total = int(index.stored_nbytes[stored].sum())
    done = 0
    for run in _runs(index, stored):
        failures += _check_run(reader, run)
        done += sum(stop - start for _, start, stop in run)
        if progress is not None:
            progress(done, total)
    failures += _check_padding(reader, stored, footer.meta_at)
    for offset, nbytes, wanted, what in (
        (footer.meta_at, footer.meta_bytes, footer.meta_digest, "HDF5 metadata"),
        (footer.index_at, footer.index_bytes, footer.index_digest, "index"),
    ):
        if digest(reader.source.read(offset, nbytes)) != wanted:
            failures.append(Failure("", what, 0, offset, "does not match its digest"))
    if not _names_hold(index):
        failures.append(Failure("", "name table", 0, footer.index_at, "a key is not where its hash says"))
    failures.sort(key=lambda failure: failure.offset)
    return VerifyReport(
        ok=not failures,
        arrays=index.arrays,
        checked_bytes=reader.source.nbytes,
        unverifiable=0,
        failures=tuple(failures),
    )


Span = tuple[int, int, int]
"""Row, first byte and end byte within it, at segment boundaries."""


def _runs(index: Index, rows: NDArray) -> list[list[Span]]:
    """Cut all rows into runs of about 16 MiB, in file order."""
    runs: list[list[Span]] = []
    run: list[Span] = []
    size = 0
    step = max(RUN_BYTES // index.segment_bytes, 1) * index.segment_bytes
    for row, nbytes in zip(rows.tolist(), index.stored_nbytes[rows].tolist(), strict=True):
        for start in range(0, nbytes, step):
            stop = min(start + step, nbytes)
            run.append((row, start, stop))
            size += stop - start
            if size >= RUN_BYTES:
                runs.append(run)
                run, size = [], 0
    return [*runs, run] if run else runs


def _check_run(reader: Reader, run: list[Span]) -> list[Failure]:
    index, source = reader.index, reader.source
    size = index.segment_bytes

    def check(spans: list[Span]) -> list[Failure]:
        found = []
        for row, start, stop in spans:
            offset = int(index.offset[row])
            data = source.read(offset + start, stop - start)
            first = start // size
            wanted = index.segment_digests(row)
            for number in range(first, -(-stop // size)):
                part = data[(number - first) * size : (number - first + 1) * size]
                if digest(part) != wanted[number].tobytes():
                    name = index.records[int(index.record[row])].name
                    found.append(
                        Failure(
                            name, index.key(row), number, offset + number * size, "does not match its digest"
                        )
                    )
        return found

    pieces = [
        (row, low, min(low + size, stop)) for row, start, stop in run for low in range(start, stop, size)
    ]
    shares = [pieces[share::THREADS] for share in range(min(THREADS, len(pieces)))]
    failures = [failure for found in run_parallel(check, shares) for failure in found]
    first, last = run[0], run[-1]
    begin = int(index.offset[first[0]]) + first[1]
    source.release(begin, int(index.offset[last[0]]) + last[2] - begin)
    return failures


def _check_padding(reader: Reader, stored: NDArray, data_end: int) -> list[Failure]:
    """Require zeros between arrays: padding belongs to none of them and has no digest."""
    index = reader.index
    ends = np.concatenate([[SUPERBLOCK_BYTES], index.offset[stored] + index.stored_nbytes[stored]])
    begins = np.concatenate([index.offset[stored], [data_end]])
    if len(stored):
        # up to the first array the page of the superblock is padding too
        begins[0] = max(int(begins[0]), DATA_AT)
    gaps = begins.astype(np.int64) - ends.astype(np.int64)
    failures = []
    for gap in np.flatnonzero(gaps > 0).tolist():
        data = reader.source.read(int(ends[gap]), int(gaps[gap]))
        if data.any():
            at = int(ends[gap]) + int(np.argmax(data != 0))
            failures.append(Failure("", "padding", 0, at, "is not zero"))
    return failures


def _names_hold(index: Index) -> bool:
    """Tell whether every key stands in the name table under its own hash."""
    keys = index.keys(index.name_row.tolist())
    hashes = np.fromiter((name_hash(key.encode()) for key in keys), np.uint64, len(keys))
    return bool((hashes == index.name_hash).all())
