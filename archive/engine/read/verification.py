"""Every byte of an archive read and compared: arrays, the padding between them, metadata and index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from archive.engine.read.reader import Reader
from archive.engine.read.scan import read_whole
from archive.engine.report import Failure, VerifyReport
from archive.format.constants import NO_ALIAS
from archive.format.digests import name_hash
from archive.format.index import Index

__all__ = ["verify_reader"]

Progress = Callable[[int, int], object]


def verify_reader(reader: Reader, progress: Progress | None = None) -> VerifyReport:
    """Check everything behind an open reader, whatever was checked before."""
    index, footer = reader.index, reader.footer
    if footer is None:
        return VerifyReport(False, index.arrays, 0, index.arrays, ())
    failures: list[Failure] = []
    total = int(index.stored_nbytes[index.alias_of == NO_ALIAS].sum())
    done = 0
    for stretch in read_whole(reader):
        failures += stretch.failures
        done += stretch.array_bytes
        reader.source.release(stretch.start, len(stretch.data))
        if progress is not None and stretch.array_bytes:
            progress(done, total)
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


def _names_hold(index: Index) -> bool:
    """Tell whether every key stands in the name table under its own hash."""
    keys = index.keys(index.name_row.tolist())
    hashes = np.fromiter((name_hash(key.encode()) for key in keys), np.uint64, len(keys))
    return bool((hashes == index.name_hash).all())
