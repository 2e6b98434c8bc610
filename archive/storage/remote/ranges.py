"""Which requests bring which bytes: pieces in file order become few requests of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from archive import tuning

__all__ = ["Piece", "Request", "plan_requests"]

T = TypeVar("T")

Piece = tuple[int, int, T]
"""File offset, length, and what the caller knows it by."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One range, and the pieces in it."""

    start: int
    """File offset of its first byte, which is that of its first piece."""
    stop: int
    """End of its last piece."""
    pieces: list[Piece[T]]
    """In the order they came in."""

    @property
    def nbytes(self) -> int:
        """Length of the range."""
        return self.stop - self.start


def plan_requests(
    pieces: Iterable[Piece[T]], *, request_bytes: int = 0, gap_bytes: int | None = None
) -> Iterator[Request[T]]:
    """Yield the requests that bring pieces, in their order, planned as they are asked for.

    A piece is never cut. Neighbours at most ``gap_bytes`` apart share a request until it has
    ``request_bytes``; so with pieces of up to 4 MiB one has 16 to 20 MiB, and bytes that lie together
    take no more than one for every 16 MiB and one more. A piece that begins before the end of the one
    before it begins a request of its own.

    Parameters
    ----------
    pieces : iterable of (offset, nbytes, anything)
        In file order.
    request_bytes : int
        Length at which a request ends; 0: `archive.tuning.REQUEST_BYTES`.
    gap_bytes : int, optional
        Longest gap that is fetched along; if not given, `archive.tuning.GAP_BYTES`.

    Examples
    --------
    >>> found = plan_requests([(0, 10, "a"), (12, 4, "b"), (90, 2, "c")], gap_bytes=8)
    >>> [(request.start, request.stop, len(request.pieces)) for request in found]
    [(0, 16, 2), (90, 92, 1)]
    """
    request_bytes = request_bytes or tuning.REQUEST_BYTES
    gap_bytes = tuning.GAP_BYTES if gap_bytes is None else gap_bytes
    gathered: list[Piece[T]] = []
    start = stop = 0
    for piece in pieces:
        offset, nbytes, _ = piece
        if gathered and (stop - start >= request_bytes or not stop <= offset <= stop + gap_bytes):
            yield Request(start, stop, gathered)
            gathered = []
        if not gathered:
            start = offset
        gathered.append(piece)
        stop = offset + nbytes
    if gathered:
        yield Request(start, stop, gathered)
