"""An open file and its index: checks stored bytes, then hands them out.

Lazy arrays hold a reader; a reader knows rows, not records.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.readahead import ReadAhead
from archive.engine.read.segmentcache import SegmentCache
from archive.errors import ClosedError, DigestError, HostileFileError, ValueRangeError
from archive.format.digests import digest
from archive.format.elements import NUMPY_MAX_RANK
from archive.format.footer import REINDEX, Footer
from archive.format.index import Index
from archive.format.segments import (
    Segment,
    SegmentPiece,
    failed_pieces,
    locate_segment,
    row_segments,
    segment_bytes_of,
)
from archive.format.valuesection import ValueSection
from archive.storage.protocols import Source
from archive.storage.remote.ranges import Request, plan_requests
from archive.storage.url import Location
from archive.workers import run_parallel

__all__ = ["Reader"]


@dataclass(eq=False)
class Reader:
    """Rows of an index and the bytes that they name.

    Pickled handles find the same version of the file again: see `archive.engine.read.open`.
    """

    source: Source
    """Where the bytes are."""
    index: Index
    """Validated against ``source``."""
    values: ValueSection
    """Metrics, configs and what the archive says of itself."""
    verify: str
    """``"first"``, ``"open"`` or ``"off"``."""
    writable: bool = False
    """Whether elements are writable (mode ``"c"``)."""
    identity: bytes = b""
    """Digest of the footer; empty for a foreign file, which cannot be found again."""
    footer: Footer | None = None
    """None for a foreign file."""
    access: str = "auto"
    """As the caller asked."""
    location: Location | None = None
    """A remote location, with its options; None for a local file."""
    closed: bool = False
    held: dict[int, NDArray] = field(default_factory=dict)
    """Stored bytes of prefetched rows, already checked."""
    _leaving: list[int] = field(default_factory=list, init=False)
    """Rows whose memory is given back soon."""
    _leaving_nbytes: int = field(default=0, init=False)

    @property
    def path(self) -> str:
        """Absolute path of the file."""
        return self.source.path

    @cached_property
    def _checked(self) -> bytearray:
        """One byte a segment: setting a byte to 1 twice is harmless, so threads need no lock."""
        return bytearray(len(self.index.digests))

    @cached_property
    def recent(self) -> SegmentCache:
        """Segments of a remote archive of which selections took a part."""
        return SegmentCache()

    @cached_property
    def ahead(self) -> ReadAhead:
        """Rows of a remote archive that came along with others."""
        return ReadAhead(self.index)

    @property
    def remote(self) -> bool:
        """Whether each read is a request: a round trip, whose bytes may be changed on the way."""
        return self.source.pinned and not self.source.mapped

    @property
    def network(self) -> int:
        """Requests to have under way at once, 0 for a file."""
        return min(self.source.parallel, tuning.REQUESTS) if self.source.pinned else 0

    def stored(self, row: int) -> NDArray:
        """Return the stored bytes of a row, uint8, read-only; verified unless ``verify`` is off."""
        index, source = self.index, self.source
        # a mapped row of one segment, as most are: half the time of what looks at every segment
        if source.mapped and not source.pinned and index.segment_count.item(row) == 1 and not self.closed:
            data = source.read(index.offset.item(row), index.stored_nbytes.item(row))
            segment = index.segment_at.item(row)
            if self.verify == "off" or self._checked[segment]:
                return data
            if digest(data) == index.digests.item(segment):
                self._checked[segment] = 1
                return data
        return self.stored_range(row, 0, self.index.stored_nbytes.item(row))

    def stored_range(self, row: int, start: int, stop: int) -> NDArray:
        """Return stored bytes ``start`` to ``stop`` of a row, checking no more than their segments."""
        self.require_open()
        index, source = self.index, self.source
        offset, nbytes = index.offset.item(row), index.stored_nbytes.item(row)
        if stop <= start:
            return np.empty(0, np.uint8)
        held = self.held.get(row)
        if held is not None:
            return held[start:stop]
        size = 1 << index.segment_shift.item(row)
        if self.verify == "off" and not self.remote:
            return source.read(offset + start, stop - start)
        first, last = start // size, -(-stop // size)
        low, high = (start, stop) if self.verify == "off" else (first * size, min(last * size, nbytes))
        ahead = self._read_ahead(row) if self.source.pinned and stop - start == nbytes else None
        if ahead is not None:
            return ahead
        if self.remote:
            data = self._fetch(row, low, high)
            part = data[start - low : stop - low]
            return part if 2 * len(part) >= len(data) else part.copy()
        checks = not (source.mapped and self._are_checked(row, first, last))
        if checks and self.network and high - low > tuning.SINGLE_REQUEST_BYTES:
            self._request(row, low, high, lambda request: source.read(request.start, request.nbytes))
        data = source.read(offset + low, high - low)
        # ask again: from now on a full cache hands out memory
        if checks or not source.mapped:
            data = self._check(row, data, first, last)
        part = data[start - low : stop - low]
        # a small slice must not keep its whole segment alive
        return part if source.mapped or 2 * len(part) >= len(data) else part.copy()

    def mapped_row(self, row: int) -> NDArray:
        """Return the bytes of a row of a mapped file, of which the caller verified what it needs.

        In mode ``"c"`` they are writable, and nobody else sees them.
        """
        self.require_open()
        read = self.source.private if self.writable else self.source.read
        return read(int(self.index.offset[row]), int(self.index.stored_nbytes[row]))

    def is_checked(self, row: int) -> bool:
        """Whether no byte of a mapped row has to be verified any more."""
        return self.verify == "off" or self._are_checked(row, 0, self.index.segment_count.item(row))

    def _are_checked(self, row: int, first: int, last: int) -> bool:
        """Return whether segments of a mapped row were verified."""
        begin = self.index.segment_at.item(row)
        return self._checked.find(0, begin + first, begin + last) < 0

    def are_verified(self, segments: Iterable[SegmentPiece]) -> bool:
        """Return whether no segment of these has to be verified any more, however it is read."""
        checked = self._checked if self.source.mapped else b""
        return self.verify == "off" or (bool(checked) and all(checked[number] for *_, number in segments))

    def note_verified(self, segments: Iterable[SegmentPiece]) -> None:
        """Take note that segments match their digests: those of a mapped file are not verified again."""
        if self.source.mapped:
            for *_, number in segments:
                self._checked[number] = 1

    def private(self, row: int) -> NDArray:
        """Return the stored bytes of a row as writable memory that nobody else sees."""
        self.require_open()
        offset, nbytes = self.index.offset.item(row), self.index.stored_nbytes.item(row)
        if not self.source.mapped or self.verify != "off":
            data = self.stored(row)
            if not self.source.mapped:
                return data if data.flags.writeable else data.copy()
        return self.source.private(offset, nbytes)

    def release(self, row: int) -> None:
        """Give the memory of the stored bytes of a row back: of small rows when they are 1 MiB together.

        A system call for each of 20,000 would take 150 ms. Several threads may release rows; one that is
        overlooked then stays in the page cache.
        """
        self.held.pop(row, None)
        leaving = self._leaving
        if leaving and row != leaving[-1] + 1:  # pages of arrays between them stay
            self.release_rest()
        self._leaving.append(row)
        self._leaving_nbytes += self.index.stored_nbytes.item(row)
        if self._leaving_nbytes >= tuning.RELEASE_BYTES:
            self.release_rest()

    def release_rest(self) -> None:
        """Give back the memory of rows that were released, and of what lies between them."""
        rows, self._leaving, self._leaving_nbytes = self._leaving, [], 0
        starts, nbytes = self.index.offset[rows], self.index.stored_nbytes[rows]
        if nbytes.any():
            first, end = int(starts[nbytes > 0].min()), int((starts + nbytes).max())
            self.source.release(first, end - first)

    def fetch(self, request: Request[Segment]) -> NDArray:
        """Return the bytes of one request, its segments checked unless ``verify`` is off.

        Raises
        ------
        DigestError
            The bytes do not match, and do not match when fetched once more.
        """
        data = self.source.read(request.start, request.nbytes)
        failed = (
            [] if self.verify == "off" else failed_pieces(self.index, data, request.start, request.pieces)
        )
        return self.refetch(request, failed) if failed else data

    def refetch(self, request: Request[Segment], failed: list[Segment]) -> NDArray:
        """Return the bytes of a request, of which segments failed their digests, fetched once more.

        Raises
        ------
        DigestError
            They do not match, or the source gives the same bytes again.
        """
        again = self.source.reread(request.start, request.nbytes)
        if again is not None:
            failed = failed_pieces(self.index, again, request.start, request.pieces)
        if again is None or failed:
            raise self.digest_error(failed[0])
        return again

    def digest_error(self, segment: Segment) -> DigestError:
        """Return the error that names a segment."""
        row, number = locate_segment(self.index, segment)
        offset = int(self.index.offset[row]) + number * segment_bytes_of(self.index, row)
        return DigestError(
            f"segment {number} does not match its digest",
            path=self.path,
            offset=offset,
            key=self.index.full_name(row),
            remedy=f"take another copy, or an earlier round; if you edited it: {REINDEX}",
        )

    def invalid(self, row: int, problem: object) -> HostileFileError:
        """Return the error for a row whose bytes match their digest and break a rule of the format."""
        return HostileFileError(
            str(problem),
            path=self.path,
            offset=int(self.index.offset[row]),
            key=self.index.full_name(row),
            remedy="do not trust this file: no writer makes such an array",
        )

    def too_many_axes(self, row: int) -> ValueRangeError:
        """Return the error for a row that the format allows and the installed numpy cannot hold."""
        return ValueRangeError(
            f"{len(self.index.shape(row))} axes, numpy {np.__version__} holds {NUMPY_MAX_RANK}",
            path=self.path,
            key=self.index.full_name(row),
            remedy="pip install 'numpy>=2'",
        )

    def share(self) -> Reader:
        """Return a reader of the same open file, to be closed on its own."""
        self.require_open()
        return replace(self, source=self.source.share())

    def close(self) -> None:
        """Let go of file and map; views that were handed out stay valid."""
        self.closed = True
        self.source.close()
        vars(self).pop("recent", None)
        vars(self).pop("_ahead", None)

    def trust(self) -> None:
        """Take every segment as checked."""
        self._checked[:] = b"\x01" * len(self._checked)

    def _fetch(self, row: int, low: int, high: int) -> NDArray:
        """Return bytes of a row that begin and end with segments, by one request unless they are many."""
        offset = int(self.index.offset[row])
        if high - low <= tuning.SINGLE_REQUEST_BYTES:
            return self.fetch(
                Request(offset + low, offset + high, list(row_segments(self.index, row, low, high)))
            )
        out = np.empty(high - low, np.uint8)

        def fill(request: Request[Segment]) -> None:
            at = request.start - offset - low
            out[at : at + request.nbytes] = self.fetch(request)

        self._request(row, low, high, fill)
        return out

    def _read_ahead(self, row: int) -> NDArray | None:
        """Return the verified bytes of a whole row, and fetch the next, where rows are asked for in order.

        None where they are not, where this row does not match its digest, and where a cache maps it: that has
        fetched it then.
        """
        ahead, index = self.ahead, self.index
        ahead.note(row)
        rows = [] if ahead.covers(row) else ahead.plan(row)
        if rows:
            pieces = [piece for each in rows for piece in row_segments(index, each)]
            start, stop = pieces[0][0], pieces[-1][0] + pieces[-1][1]
            data = self.source.read(start, stop - start)
            if self.source.mapped:
                ahead.keep(rows, start, None)
            else:
                failed = failed_pieces(index, data, start, pieces) if self.verify != "off" else []
                ahead.keep(rows, start, data, failed)
        return ahead.take(row)

    def _request(self, row: int, low: int, high: int, run: Callable[[Request[Segment]], object]) -> None:
        """Run the requests for bytes of a row, several at once."""
        pieces = row_segments(self.index, row, low, high)
        for _ in run_parallel(run, plan_requests(pieces), network=self.network):
            pass

    def require_open(self) -> None:
        """Raise unless the reader is open.

        Raises
        ------
        ClosedError
        """
        if self.closed:
            raise ClosedError(
                "the archive was closed before these bytes were read",
                path=self.path,
                remedy="read inside the with block, or use archive.load()",
            )

    def _segment(self, row: int, number: int) -> int:
        begin: int = self.index.segment_at.item(row)
        return begin + number

    def _check(self, row: int, data: NDArray, first: int, last: int) -> NDArray:
        """Return the bytes of segments, after reading those again that do not match."""
        mapped, begin = self.source.mapped, self._segment(row, first)
        if last - first != 1 or digest(data) != self.index.digests.item(begin):
            for number in self._failed(row, data, first, last):
                data = self._heal(row, data, first, number)
                mapped = mapped and not data.flags.owndata
        if mapped and self.source.mapped:
            self._checked[begin : begin + last - first] = b"\x01" * (last - first)
        return data

    def _heal(self, row: int, data: NDArray, first: int, number: int) -> NDArray:
        """Return bytes in which one segment was read again: a map of its cache, else a copy.

        Raises
        ------
        DigestError
            The segment cannot be read again, or does not match then either.
        """
        nbytes = int(self.index.stored_nbytes[row])
        size = segment_bytes_of(self.index, row)
        low = number * size
        length = min(size, nbytes - low)
        wanted = self.index.segment_digests(row)[number].tobytes()
        again = self.source.reread(int(self.index.offset[row]) + low, length)
        if again is None or digest(again) != wanted:
            raise self.digest_error(self._segment(row, number))
        begin = low - first * size
        if digest(data[begin : begin + length]) != wanted:  # ours is not a view of what was read again
            data = data if data.flags.owndata else data.copy()
            data[begin : begin + length] = again
        return data

    def _failed(self, row: int, data: NDArray, first: int, last: int) -> list[int]:
        """Return the numbers of the segments whose bytes do not match."""
        begin = first * segment_bytes_of(self.index, row)
        pieces = list(row_segments(self.index, row, begin, begin + len(data)))
        validate = partial(failed_pieces, self.index, data, int(self.index.offset[row]) + begin)
        if len(data) < tuning.CHECK_PARALLEL_BYTES:
            failed = validate(pieces)
        else:  # xxhash releases the interpreter lock, so that threads add up
            shares = [pieces[number :: tuning.THREADS] for number in range(min(tuning.THREADS, len(pieces)))]
            failed = sorted(itertools.chain.from_iterable(run_parallel(validate, shares)))
        return [segment - self._segment(row, 0) for segment in failed]
