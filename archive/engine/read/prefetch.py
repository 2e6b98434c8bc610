"""Fetches arrays of a remote archive before they are asked for, in order, a few requests ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from archive import tuning
from archive.engine.read.reader import Reader
from archive.format.segments import Segment, row_segments
from archive.storage.remote.ranges import Request, plan_requests
from archive.workers import run_parallel

__all__ = ["prefetch_rows"]


def prefetch_rows(reader: Reader, rows: Iterable[int]) -> Iterator[int]:
    """Yield rows in order, after the bytes of each were checked; the reader holds them until it is released.

    With a mapped cache they are fetched into the cache, and not checked yet.

    Raises
    ------
    DigestError
        Bytes do not match; raised with the first row of their request.
    """
    rows = list(rows)
    if reader.source.mapped:
        yield from _cache_rows(reader, rows)
        return
    pieces = (piece for row in rows for piece in row_segments(reader.index, row))
    found = run_parallel(
        lambda request: (request, reader.fetch(request)),
        plan_requests(pieces, request_bytes=tuning.PREFETCH_BYTES),
        network=min(reader.network, tuning.PREFETCH_REQUESTS),
        ahead=tuning.PREFETCH_REQUESTS,
    )
    parts = (
        (offset - request.start, nbytes, data)
        for request, data in found
        for offset, nbytes, _ in request.pieces
    )
    for row in rows:
        # copy: a view would keep all bytes of the request alive
        out = np.empty(int(reader.index.stored_nbytes[row]), np.uint8)
        filled = 0
        while filled < len(out):
            at, nbytes, data = next(parts)
            out[filled : filled + nbytes] = data[at : at + nbytes]
            filled += nbytes
        out.flags.writeable = False
        reader.held[row] = out
        del out
        yield row


def _cache_rows(reader: Reader, rows: list[int]) -> Iterator[int]:
    """Yield rows in order, after a cache fetched the bytes of each."""

    def fetch(request: Request[Segment]) -> int:
        reader.source.read(request.start, request.nbytes)  # a view that nobody touches
        return len(request.pieces)

    pieces = (piece for row in rows for piece in row_segments(reader.index, row))
    requests = plan_requests(pieces, request_bytes=tuning.PREFETCH_BYTES)
    fetched = run_parallel(fetch, requests, network=reader.network, ahead=tuning.PREFETCH_REQUESTS)
    count = wanted = 0
    for row in rows:
        wanted += len(reader.index.segment_digests(row))
        while count < wanted:
            count += next(fetched)
        yield row
