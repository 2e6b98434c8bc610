"""The body of a reply: read no further than it may go, counted, joined outside the thread of requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from archive.storage.remote.clients.replies import Body, Reply
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import ObjectVersion

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


def join_body(received: Received) -> bytes:
    """Return the part that was asked for; chunks are joined by the thread that wants them."""
    chunks, body = received
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if body.keep < 0:
        return data[body.skip :]
    if body.skip == 0 and body.keep == len(data):
        return data
    return data[body.skip : body.skip + body.keep]
