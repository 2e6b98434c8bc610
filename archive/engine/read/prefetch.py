"""Arrays of a remote archive brought before they are asked for, a few requests ahead, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from archive.engine.read.parallel import run_parallel
from archive.engine.read.reader import Reader
from archive.format.segments import Segment, row_segments
from archive.storage.remote.ranges import Request, plan_requests

__all__ = ["bring_rows"]


REQUEST_BYTES = 4 << 20
REQUESTS = 4
"""Requests under way or waiting to be taken: 16 MiB in all beside the array that was taken last. In as many
threads: each keeps some of the memory that it freed (4 of 8 MiB: 286 MB at most, with s3fs and arrays of
64 MiB; 4 of 4 MiB: 241)."""


def bring_rows(reader: Reader, rows: Iterable[int]) -> Iterator[int]:
    """Yield rows in order, the bytes of each checked and held by the reader until it is released.

    Where they are kept in a mapped cache, they are brought there and not checked yet.

    Raises
    ------
    DigestError
        When the request is taken that brought bytes which do not match.
    """
    rows = list(rows)
    if reader.source.mapped:
        yield from _cache_rows(reader, rows)
        return
    pieces = (piece for row in rows for piece in row_segments(reader.index, row))
    found = run_parallel(
        lambda request: (request, reader.fetch(request)),
        plan_requests(pieces, request_bytes=REQUEST_BYTES),
        network=min(reader.network, REQUESTS),
        ahead=REQUESTS,
    )
    parts = (
        (offset - request.start, nbytes, data)
        for request, data in found
        for offset, nbytes, _ in request.pieces
    )
    for row in rows:
        # memory of its own for each: a view would keep all that came by the same request
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
    """Yield rows in order when a cache has fetched their bytes."""

    def bring(request: Request[Segment]) -> int:
        reader.source.read(request.start, request.nbytes)  # a view that nobody touches
        return len(request.pieces)

    pieces = (piece for row in rows for piece in row_segments(reader.index, row))
    requests = plan_requests(pieces, request_bytes=REQUEST_BYTES)
    brought = run_parallel(bring, requests, network=reader.network, ahead=REQUESTS)
    count = wanted = 0
    for row in rows:
        wanted += -(-int(reader.index.stored_nbytes[row]) // reader.index.segment_bytes)
        while count < wanted:
            count += next(brought)
        yield row
