"""One array as CSV, written row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import xxhash

from archive.dtypes import NDArray, is_ml_dtype
from archive.errors import DamagedError, ValueRangeError
from archive.storage.location import locate_source
from archive.storage.url import Location
from archive.tools.formats.entries import Content, Hasher
from archive.tools.formats.filelike import READ_BACK, Target, stream_ranges

__all__ = ["write"]

ROWS_BYTES = 1 << 20
"""Elements that become text at a time: as text they take up to ten times that."""


def write(content: Content, target: Target, hasher: Hasher, *, verify: bool) -> None:
    """Write the only array of content, and compare the text with what is read back.

    Raises
    ------
    DamagedError
        It is another.
    ValueRangeError
        There are several, or it has more than two axes or other elements than numbers and text.
    """
    shown = target.location.display
    if len(content.entries) != 1:
        raise ValueRangeError(
            f"{len(content.entries)} arrays for one CSV", path=shown, remedy="name one of its keys"
        )
    entry = content.entries[0]
    dtype = entry.dtype
    if dtype is None or len(entry.shape) > 2 or not (dtype.kind in "biufcUS" or is_ml_dtype(dtype)):
        raise ValueRangeError(
            f"an array of {dtype or 'bytes'} and shape {entry.shape} is no table",
            path=shown,
            key="/".join(entry.name),
            remedy="extract it as .npy",
        )
    hasher.total = entry.nbytes
    digest = xxhash.xxh3_128()
    width = entry.shape[1] if len(entry.shape) == 2 else 1

    def check(place: Location) -> None:
        _require_text(place, digest.digest(), shown)

    with replace(target, check=check if verify else None).open() as file:
        for _, chunks in content.read([entry]):
            for rows in _rows(hasher.watch(entry, chunks), dtype, width):
                text = _text(rows)
                digest.update(text)
                file.write(text)


def _require_text(location: Location, written: bytes, path: str) -> None:
    """Raise DamagedError unless a file has the text that was written."""
    source = locate_source(location, "pread")
    try:
        digest = xxhash.xxh3_128()
        for _, part in stream_ranges(source, [(0, source.nbytes)]):
            digest.update(part.data)
    finally:
        source.close()
    if digest.digest() != written:
        raise DamagedError("read back after it was written, it is another", path=path, remedy=READ_BACK)


def _rows(chunks: Iterable[NDArray], dtype: np.dtype[Any], width: int) -> Iterator[NDArray]:
    """Yield whole rows, some at a time."""
    row = width * dtype.itemsize
    step = max(ROWS_BYTES // max(row, 1), 1) * row
    left = b""
    for chunk in chunks:
        data = left + chunk.tobytes()
        ready = len(data) // row * row
        for start in range(0, ready, step):
            yield np.frombuffer(data[start : min(start + step, ready)], dtype).reshape(-1, width)
        left = data[ready:]


def _text(rows: NDArray) -> bytes:
    out = io.StringIO()
    # numpy spells each number as short as it can be read back; of ml_dtypes Python's str does
    plain = (
        rows.astype(str).tolist()
        if not is_ml_dtype(rows.dtype)
        else [[str(one) for one in row] for row in rows]
    )
    csv.writer(out, lineterminator="\n").writerows(plain)
    return out.getvalue().encode()
