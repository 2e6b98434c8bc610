"""An archive as content for another format: its elements in order, verified, a few requests ahead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from archive import tuning
from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.read.handle import select_rows
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import record_values
from archive.engine.read.storedpayload import StoredPayload, lazy_array
from archive.engine.storagespec import StorageSpec
from archive.format.constants import KIND_ARRAYS, KIND_METRICS, MODE_DATA, MODE_TEXT
from archive.format.segments import row_segments
from archive.storage.remote.ranges import plan_requests
from archive.storage.url import Location
from archive.tools.formats.entries import Content, Entry, chunks_of
from archive.workers import run_parallel

__all__ = ["ArchiveContent"]


class ArchiveContent(Content):
    """The arrays of an open archive, or some of them.

    Parameters
    ----------
    reader : Reader
    location : Location
        Where it is.
    keys : optional
        As for `Archive.load`; with them metrics, configs and attributes are not asked for.
    """

    def __init__(self, reader: Reader, location: Location, keys: Any = None) -> None:
        super().__init__()
        self.location: Location = location
        self.complete: bool = keys is None
        """Whether no array was left aside."""
        self._reader = reader
        index = reader.index
        kinds = index.record_rows["kind"][index.record]
        every = np.flatnonzero(kinds == KIND_ARRAYS).tolist()
        rows = every if keys is None else list(dict.fromkeys(select_rows(reader, keys)))
        for row in rows:
            record, key = index.records[index.record.item(row)].name, index.key(row)
            self.entries.append(_entry(reader, row, record, key))
        if keys is not None:
            return
        if reader.values.text_of("container") == "context":
            self.left_out.append(("context", "the fields of a Context beside its records"))
        for name, values in record_values(reader, "values").items():
            found = self.metrics if name.kind == KIND_METRICS else self.configs
            found[name.name] = dict(values)
        for name, values in record_values(reader, "attributes").items():
            self.attributes[name.name] = dict(values)

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[NDArray]]]:
        """Yield each entry with its bytes, which were compared with their digests."""
        listed = list(entries)
        rows = [entry.place for entry in listed if not _is_text(entry)]
        parts = _Parts(_stream(self._reader, rows))
        for entry in listed:
            if _is_text(entry):  # stored as UTF-8, and never large
                array = lazy_array(
                    self._reader, entry.place, entry.shape, self._reader.index.type.item(entry.place)
                )
                yield entry, chunks_of(array.numpy())
            else:
                yield entry, parts.take(entry.nbytes)

    def spec(self, entry: Entry) -> StorageSpec:
        """Return how another archive stores an array again."""
        return StoredPayload(self._reader, entry.place, entry.shape).spec

    def close(self) -> None:
        """Close the archive."""
        self._reader.close()


def _is_text(entry: Entry) -> bool:
    return entry.dtype is not None and entry.dtype.kind == "U"


def _entry(reader: Reader, row: int, record: str, key: str) -> Entry:
    index = reader.index
    kind, shape = index.types[index.type.item(row)], tuple(index.shape(row))
    nbytes, identity = (
        index.stored_nbytes.item(row),
        (index.segment_at.item(row), index.stored_nbytes.item(row)),
    )
    if kind.mode == MODE_DATA:
        return Entry(record, key, None, shape, nbytes, row)
    dtype = parse_description(kind.description)
    if kind.mode == MODE_TEXT:
        nbytes = math.prod(shape) * dtype.itemsize
    return Entry(record, key, dtype, shape, nbytes, row, identity if nbytes else None)


def _stream(reader: Reader, rows: list[int]) -> Iterator[NDArray]:
    """Yield the bytes of rows in pieces, in order."""
    network = reader.network
    requests = plan_requests(
        (piece for row in rows for piece in row_segments(reader.index, row)),
        request_bytes=tuning.REQUEST_BYTES if network else tuning.SCAN_BYTES,
    )
    found = run_parallel(
        lambda request: (request, reader.fetch(request)),
        requests,
        network=network,
        ahead=tuning.SCAN_REQUESTS if network else tuning.WRITE_GROUPS,
    )
    for request, data in found:
        # segments that follow one another are one piece, of several rows where nothing lies between
        begin = end = 0
        for offset, nbytes, _ in request.pieces:
            start = offset - request.start
            if start != end:
                yield data[begin:end]
                begin = start
            end = start + nbytes
        yield data[begin:end]
        reader.source.release(request.start, request.nbytes)


class _Parts:
    """Bytes that come in pieces, handed out by other lengths."""

    def __init__(self, pieces: Iterator[NDArray]) -> None:
        self._pieces = pieces
        self._left = np.empty(0, np.uint8)

    def take(self, nbytes: int) -> Iterator[NDArray]:
        """Yield the next bytes, so many in all."""
        while nbytes:
            piece = self._left if len(self._left) else next(self._pieces)
            part, self._left = piece[:nbytes], piece[nbytes:]
            nbytes -= len(part)
            if len(part):
                yield part
