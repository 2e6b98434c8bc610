"""The body of a reply: read no further than it may go, counted, joined outside the thread of requests."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Awaitable, Callable
from dataclasses import replace

import numpy as np

from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import Buffer, ObjectVersion

__all__ = ["Received", "join_body", "read_body"]

CHUNK_BYTES = 1 << 20
"""Bytes asked for at once; what has arrived by then is what comes."""

Received = tuple[list[bytes], Body]
"""Chunks as they came, and what they are."""


async def read_body(read: Callable[[int], Awaitable[bytes]], reply: Reply, body: Body) -> Received:
    """Read a body whose head was checked.

    Raises
    ------
    Fault
        TRANSIENT: it is shorter than was said. UNSUPPORTED: a whole object, too large to be read for a part.
    """
    chunks: list[bytes] = []
    total = 0
    # one byte past the limit is enough to know
    while total <= body.limit and (body.nbytes is None or total < body.nbytes):
        chunk = await read(CHUNK_BYTES)
        if not chunk:
            break
        chunks.append(chunk)
        total += len(chunk)
    if total > body.limit:
        raise Fault(
            Kind.UNSUPPORTED,
            f"the server ignores ranges and sends more than {body.limit} bytes",
            status=reply.status,
            remedy="download it first, with another program",
        )
    if body.nbytes is not None and total != body.nbytes:
        raise Fault(Kind.TRANSIENT, f"{total} of {body.nbytes} bytes came", status=reply.status)
    if body.version is None:
        body = replace(body, nbytes=total, version=ObjectVersion(total, reply.tag, reply.modified))
    return chunks, body


def join_body(received: Received) -> Buffer:
    """Return the part that was asked for, read-only; chunks are joined by the thread that wants them."""
    chunks, body = received
    data = memoryview(chunks[0] if len(chunks) == 1 else _joined(chunks)).toreadonly()
    return data[body.skip :] if body.keep < 0 else data[body.skip : body.skip + body.keep]


def _joined(chunks: list[bytes]) -> Buffer:
    """Return chunks as one buffer.

    A large one is a map of its own, which goes back to the system with its last user. Memory of the allocator
    does not: each thread keeps up to 64 MiB of what it freed, 180 MB after 540 MB were loaded.
    """
    total = sum(map(len, chunks))
    if total <= CHUNK_BYTES:
        return b"".join(chunks)
    # private: in the child of a fork it is a copy
    pages = mmap.mmap(-1, total, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages; with them 16 MiB take 2.5 ms, without 8
        pages.madvise(mmap.MADV_HUGEPAGE)
    # numpy lets other threads run as it copies
    return np.concatenate(
        [np.frombuffer(chunk, np.uint8) for chunk in chunks], out=np.frombuffer(pages, np.uint8)
    )
