"""Pieces become requests: nothing is lost, nothing is cut, none is too long, and there are few of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from archive.storage.remote.ranges import Piece, plan_requests
from archive.tuning import GAP_BYTES, REQUEST_BYTES

MiB = 1 << 20
SEGMENT = 4 * MiB


@st.composite
def ordered(draw: st.DrawFn) -> list[Piece[int]]:
    """Pieces in file order: segments and small arrays, next to one another or far apart."""
    position = draw(st.integers(0, 1 << 40))
    pieces = []
    for number in range(draw(st.integers(0, 60))):
        position += draw(st.sampled_from([0, 0, 1, 63, GAP_BYTES, GAP_BYTES + 1, 1 << 30]))
        nbytes = draw(st.sampled_from([1, 64, 1000, MiB, SEGMENT - 1, SEGMENT, SEGMENT]))
        pieces.append((position, nbytes, number))
        position += nbytes
    return pieces


@given(ordered())
def test_requests_bring_all_pieces_and_little_else(pieces: list[Piece[int]]) -> None:
    requests = list(plan_requests(pieces))
    assert [piece for request in requests for piece in request.pieces] == pieces
    for request in requests:
        first, last = request.pieces[0], request.pieces[-1]
        assert (request.start, request.stop) == (first[0], last[0] + last[1])
        assert request.nbytes < REQUEST_BYTES + SEGMENT + GAP_BYTES
        # it ends with the first piece that makes it long enough
        assert last[0] - request.start < REQUEST_BYTES + GAP_BYTES
        gaps = [after[0] - before[0] - before[1] for before, after in pairwise(request.pieces)]
        assert all(0 <= gap <= GAP_BYTES for gap in gaps)
    for before, after in pairwise(requests):
        gap = after.start - before.stop
        assert gap > GAP_BYTES or before.nbytes >= REQUEST_BYTES
    assert sum(request.nbytes for request in requests) <= sum(p[1] for p in pieces) + GAP_BYTES * len(pieces)


@given(st.lists(st.integers(1, SEGMENT), max_size=400), st.integers(0, GAP_BYTES))
def test_what_lies_together_takes_one_request_in_16_mib(sizes: list[int], gap: int) -> None:
    pieces, position = [], 4096
    for nbytes in sizes:
        pieces.append((position, nbytes, None))
        position += nbytes + gap
    requests = list(plan_requests(pieces))
    assert len(requests) <= (position - 4096) // REQUEST_BYTES + 1


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 1 << 20)), max_size=30))
def test_any_order_is_served(pieces: list[tuple[int, int]]) -> None:
    """Tied arrays lead back: each piece still lies within its request."""
    given_pieces = [(at, nbytes, number) for number, (at, nbytes) in enumerate(pieces)]
    requests = list(plan_requests(given_pieces, request_bytes=1 << 19))
    assert [piece for request in requests for piece in request.pieces] == given_pieces
    for request in requests:
        assert all(request.start <= at and at + nbytes <= request.stop for at, nbytes, _ in request.pieces)


def test_it_is_planned_as_it_is_asked_for() -> None:
    """A million arrays are not a million pieces in memory."""
    taken = []

    def endless() -> Iterator[tuple[int, int, None]]:
        for number in range(1 << 30):
            taken.append(number)
            yield number * SEGMENT, SEGMENT, None

    requests = plan_requests(endless())
    assert next(requests).nbytes == REQUEST_BYTES
    assert len(taken) < 8
