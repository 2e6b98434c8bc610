"""How a range is asked for, and what the reply must say before a byte of it is believed; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import ObjectVersion

__all__ = [
    "WHOLE_BYTES",
    "Body",
    "Reply",
    "expect_range",
    "expect_suffix",
    "range_header",
    "suffix_header",
    "whole_body",
]

WHOLE_BYTES = 16 << 20
"""Where a server ignores Range and sends the whole object, up to this size the rest is thrown away."""

_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """Head of a reply, as HTTP has it."""

    status: int
    """200 or 206."""
    content_range: str
    """As sent; empty where there is none."""
    content_nbytes: int | None
    """Length of the body; None where it is not said."""
    tag: str
    """ETag, with its quotes."""
    modified: str
    """When the object was written, as sent."""


@dataclass(frozen=True, slots=True)
class Body:
    """What is to be read, and which part of it was asked for."""

    limit: int
    """Bytes at most."""
    nbytes: int | None
    """Bytes exactly; None where the server does not say."""
    skip: int
    """Bytes before the part."""
    keep: int
    """Length of the part; -1 for everything after ``skip``."""
    version: ObjectVersion | None
    """Version that the reply is of; None where its length is known only at its end."""


def range_header(start: int, stop: int) -> str:
    """Return the value of the header Range that asks for bytes ``start`` to ``stop``.

    Examples
    --------
    >>> range_header(0, 10)
    'bytes=0-9'
    """
    return f"bytes={start}-{stop - 1}"


def suffix_header(nbytes: int) -> str:
    """Return the value of the header Range that asks for the last bytes."""
    return f"bytes=-{nbytes}"


def expect_range(reply: Reply, start: int, stop: int, version: ObjectVersion) -> Body:
    """Check a reply to ``bytes=start-(stop-1)`` of a pinned version.

    Raises
    ------
    Fault
        CONFLICT: it is of another version. TRANSIENT: it is of another range.
    """
    if version.tag and reply.tag and reply.tag != version.tag:
        raise _other_version()
    if version.modified and reply.modified and not version.tag and reply.modified != version.modified:
        raise _other_version()
    if reply.status == 206:
        first, last, total = _parse(reply)
        if total is not None and total != version.nbytes:
            raise _other_version()
        if (first, last) != (start, stop - 1):
            raise Fault(
                Kind.TRANSIENT,
                f"bytes {first} to {last} came instead of {start} to {stop - 1}",
                status=206,
                remedy="a server or proxy on the way answers ranges wrongly",
            )
        return _exact(reply, stop - start, version)
    body = whole_body(reply)
    if body.nbytes is not None and body.nbytes != version.nbytes:
        raise _other_version()
    return Body(body.limit, version.nbytes, start, stop - start, version)


def expect_suffix(reply: Reply, nbytes: int) -> Body:
    """Check a reply to ``bytes=-nbytes``.

    Raises
    ------
    Fault
        TRANSIENT: it is of another range.
    """
    if reply.status != 206:
        body = whole_body(reply)
        if body.nbytes is None:
            return body
        return Body(
            body.limit, body.nbytes, max(body.nbytes - nbytes, 0), min(nbytes, body.nbytes), body.version
        )
    first, last, total = _parse(reply)
    if total is None:
        raise Fault(Kind.UNSUPPORTED, "the server does not say how long the object is", status=206)
    if (first, last) != (max(total - nbytes, 0), total - 1):
        raise Fault(
            Kind.TRANSIENT,
            f"bytes {first} to {last} of {total} came instead of the last {nbytes}",
            status=206,
            remedy="a server or proxy on the way answers ranges wrongly",
        )
    return _exact(reply, last - first + 1, ObjectVersion(total, reply.tag, reply.modified))


def whole_body(reply: Reply) -> Body:
    """Check a reply that ignores the range and sends everything: only a small object is read so.

    Raises
    ------
    Fault
        UNSUPPORTED: the object is too large.
    """
    nbytes = reply.content_nbytes
    if nbytes is not None and nbytes > WHOLE_BYTES:
        raise Fault(
            Kind.UNSUPPORTED,
            f"the server ignores ranges and sends all {nbytes} bytes",
            status=reply.status,
            remedy="download it first, with another program",
        )
    version = None if nbytes is None else ObjectVersion(nbytes, reply.tag, reply.modified)
    return Body(WHOLE_BYTES, nbytes, 0, -1, version)


def _exact(reply: Reply, nbytes: int, version: ObjectVersion) -> Body:
    if reply.content_nbytes is not None and reply.content_nbytes != nbytes:
        raise Fault(
            Kind.TRANSIENT,
            f"a body of {reply.content_nbytes} bytes was announced for a range of {nbytes}",
            status=reply.status,
        )
    return Body(nbytes, nbytes, 0, nbytes, version)


def _parse(reply: Reply) -> tuple[int, int, int | None]:
    match = _CONTENT_RANGE.fullmatch(reply.content_range.strip())
    if match is None:
        raise Fault(Kind.TRANSIENT, "a partial reply does not say which part it is", status=reply.status)
    return int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])


def _other_version() -> Fault:
    return Fault(Kind.CONFLICT, "the reply is of another version", status=412)
