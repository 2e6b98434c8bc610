"""Stretches of large arrays on their way to the disk: copied, hashed and written, or copied by the system.

A stretch of a local archive brings its digests along. What was written is hashed and compared with them, so
that no bytes that were damaged, or changed after they were checked, get digests of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import xxhash

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.convertedpayload import ConvertedPayload
from archive.engine.read.prefetch import prefetch_rows
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import StoredPayload
from archive.engine.storagespec import StorageSpec
from archive.engine.write.finiteness import Look
from archive.format.constants import MAX_SEGMENT_BYTES
from archive.format.layout import segment_bytes
from archive.format.segments import segment_bytes_of
from archive.storage.local.source import FileSource
from archive.storage.protocols import Sink

__all__ = [
    "Cut",
    "Neighbours",
    "Part",
    "Prefetch",
    "Stretch",
    "Write",
    "copy_stretch",
    "cut_array",
    "group_parts",
    "neighbours_of",
    "read_together",
    "requirement_of",
    "slices_of",
    "stretch_of",
    "write_pieces",
]

Write = Callable[[Any, int], object]
"""Takes a buffer and its file offset; the memory is the caller's again when it returns."""


Requirement = Callable[[list[bytes]], object]
"""Compares digests with those that are wanted, and raises DigestError."""


class Part(NamedTuple):
    """Segments of an array, or some small arrays: what one thread copies, hashes and writes."""

    offset: int
    """File offset."""
    nbytes: int
    """Bytes that it has there."""
    buffers: Iterable[Any]
    """They are these buffers one after the other; a `Stretch` is read when it is written."""
    spans: list[slice] | int
    """What of them has a digest each; or the length of the segments that one buffer is cut into."""
    rows: list[int]
    """Rows that are complete with it."""
    require: Requirement | None = None
    """Compares its digests with those that its bytes had in another archive."""
    look: Look | None = None
    """Looks at the private copies of its bytes."""


_Place = tuple[Reader, FileSource, int]
"""An open archive, its file, and a row."""
Cut = Callable[[int, int], Iterable[Any]]
"""Returns stored bytes of an array from one byte to another, as buffers that follow one another."""


class _Digests:
    """The digests of the segments of bytes that come in pieces of any length."""

    def __init__(self, nbytes: int, segment: int) -> None:
        self.found: list[bytes] = []
        self._nbytes, self._segment = nbytes, segment
        self._hasher = xxhash.xxh3_128()
        self._at = 0

    def update(self, piece: NDArray) -> None:
        """Take the bytes that follow."""
        view, done = piece.data, 0
        while done < len(view):  # a part of a segment, or some segments
            length = min(len(view) - done, self._segment - self._at % self._segment)
            self._hasher.update(view[done : done + length])
            done += length
            self._at += length
            if self._at % self._segment == 0 or self._at == self._nbytes:
                self.found.append(self._hasher.digest())
                self._hasher.reset()


def write_pieces(
    memory: NDArray,
    write: Write,
    offset: int,
    pieces: Iterable[NDArray],
    nbytes: int,
    segment: int,
    look: Look | None = None,
) -> list[bytes]:
    """Copy an array a piece at a time, hash and write the copies, and return the digests of its segments."""
    digests = _Digests(nbytes, segment)
    at = 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            size = min(len(piece) - start, tuning.PIECE_BYTES - at % tuning.PIECE_BYTES)
            copy = memory[:size]
            copy[:] = piece[start : start + size]
            digests.update(copy)
            if look is not None:
                look(copy, offset + at)
            write(copy, offset + at)
            start += size
            at += size
    return digests.found


def copy_stretch(
    memory: NDArray,
    sink: Sink,
    offset: int,
    pieces: Iterable[Any],
    nbytes: int,
    segment: int,
    look: Look | None = None,
) -> list[bytes]:
    """Have the system copy a stretch, and return the digests of what was written; none where it cannot."""
    if not isinstance(pieces, Stretch):
        return []
    digests = _Digests(nbytes, segment)
    file, begin = pieces.place
    for start in range(0, nbytes, tuning.PIECE_BYTES):
        piece = memory[: min(tuning.PIECE_BYTES, nbytes - start)]
        if not sink.copy(file, begin + start, offset + start, len(piece)):
            return []
        sink.read_into(offset + start, piece)  # soon after, while it is in the processor's cache
        digests.update(piece)
        if look is not None:
            look(piece, offset + start)
    return digests.found


@dataclass(frozen=True, slots=True)
class Stretch:
    """Stored bytes of a local archive, not verified yet: who writes them compares their digests."""

    reader: Reader
    """The archive."""
    file: FileSource
    """Its file."""
    row: int
    """The row that they belong to."""
    start: int
    """First byte within the row, where a segment begins."""
    stop: int
    """The byte after the last."""

    @property
    def place(self) -> tuple[int, int]:
        """Descriptor of the file, and the offset of the first byte."""
        self.reader.require_open()
        return self.file.fileno(), int(self.reader.index.offset[self.row]) + self.start

    def __iter__(self) -> Iterator[NDArray]:
        offset, nbytes = self.place[1], self.stop - self.start
        memory = np.empty(min(nbytes, tuning.PIECE_BYTES), np.uint8)
        for low in range(0, nbytes, tuning.PIECE_BYTES):
            piece = memory[: nbytes - low]
            # not through the map, which ends the process where the file was cut
            self.file.read_into(offset + low, piece)
            yield piece

    def require(self, digests: Sequence[bytes]) -> None:
        """Compare digests with those of the archive.

        Raises
        ------
        DigestError
            The bytes are not those that were saved.
        """
        first = int(self.reader.index.segment_at[self.row])
        first += self.start // segment_bytes_of(self.reader.index, self.row)
        _require_segments(self.reader, np.arange(first, first + len(digests)), digests)


def cut_array(row: int, offset: int, nbytes: int, cut: Cut, look: Look | None = None) -> Iterator[Part]:
    """Yield an array by 4 MiB, which are segments of any length, and by more where that takes no memory."""
    size = segment_bytes(nbytes)
    step = tuning.STRETCH_BYTES if isinstance(cut(0, 0), Stretch) else MAX_SEGMENT_BYTES
    for start in range(0, nbytes, step):
        stop = min(start + step, nbytes)
        buffers = cut(start, stop)
        require = buffers.require if isinstance(buffers, Stretch) else None
        rows = [row] if stop == nbytes else []
        yield Part(offset + start, stop - start, buffers, size, rows, require, look)


def group_parts(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Yield parts by a few MiB: handing one to a thread costs as much as hashing a piece."""
    group: list[Part] = []
    for part in parts:
        group.append(part)
        if sum(part.nbytes for part in group) >= MAX_SEGMENT_BYTES:
            yield group
            group = []
    if group:
        yield group


def slices_of(flat: NDArray) -> Cut:
    """Return what cuts stored bytes that are in memory."""
    return lambda start, stop: [flat[start:stop]]


def stretch_of(source: object) -> Cut | None:
    """Return what cuts stored bytes of an array that is read as it is written; None for any other array."""
    if isinstance(source, ConvertedPayload):
        return partial(_convert, source)
    place = _place_in_file(source)
    return None if place is None else partial(Stretch, *place)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Small arrays of one local archive that are written together; their digests are compared afterwards."""

    reader: Reader
    """The archive."""
    file: FileSource
    """Its file."""
    rows: NDArray
    """Their rows."""
    places: NDArray
    """Which of the arrays that are written together they are."""

    def read(self) -> list[NDArray]:
        """Return their stored bytes, not verified yet, by one read; none where they lie far apart."""
        self.reader.require_open()
        index = self.reader.index
        offsets, nbytes = index.offset[self.rows].tolist(), index.stored_nbytes[self.rows].tolist()
        ends = [offset + size for offset, size in zip(offsets, nbytes, strict=True)]
        first = min(offsets)
        if max(ends) - first > 2 * tuning.PIECE_BYTES:
            return []
        data = np.empty(max(ends) - first, np.uint8)
        self.file.read_into(first, data)
        return [data[offset - first : end - first] for offset, end in zip(offsets, ends, strict=True)]

    def require(self, counts: NDArray, digests: Sequence[bytes]) -> None:
        """Compare digests, so many of each array that is written, with those of the archive.

        Raises
        ------
        DigestError
            The bytes are not those that were saved.
        """
        index, own = self.reader.index, counts[self.places]
        segments = _number(index.segment_at[self.rows].astype(np.int64), own)
        found = _number((np.cumsum(counts) - counts)[self.places], own)
        _require_segments(self.reader, segments, [digests[number] for number in found.tolist()])


def neighbours_of(sources: Sequence[object]) -> list[Neighbours]:
    """Return those of some arrays, which are written together, that lie in local archives."""
    found: dict[int, tuple[Reader, FileSource, list[int], list[int]]] = {}
    for number, source in enumerate(sources):
        place = _place_in_file(source)
        if place is not None:
            reader, file, row = place
            _, _, rows, places = found.setdefault(id(reader), (reader, file, [], []))
            rows.append(row)
            places.append(number)
    return [
        Neighbours(reader, file, np.array(rows), np.array(places))
        for reader, file, rows, places in found.values()
    ]


def read_together(
    sources: Sequence[object], specs: Sequence[StorageSpec], ahead: Prefetch
) -> tuple[dict[int, NDArray], Requirement | None]:
    """Return stored bytes of small arrays that are written together by number, and what compares them.

    Those of a local archive are not verified yet, and missing where they lie far apart.
    """
    neighbours = neighbours_of(sources)
    found = ahead.take(sources)
    for some in neighbours:
        found.update(zip(some.places.tolist(), some.read(), strict=False))  # none where they lie far apart
    return found, requirement_of(neighbours, specs)


class Prefetch:
    """Small arrays of remote archives, fetched a few requests ahead of their writing.

    Parameters
    ----------
    sources : iterable
        Small arrays, in the order in which they are written.
    """

    def __init__(self, sources: Iterable[object]) -> None:
        rows: dict[Reader, list[int]] = {}
        for source in sources:
            place = _place_remote(source)
            if place is not None:
                rows.setdefault(place[0], []).append(place[1])
        self._fetched = {reader: prefetch_rows(reader, found) for reader, found in rows.items()}

    def take(self, sources: Sequence[object]) -> dict[int, NDArray]:
        """Return the stored bytes of those that are remote, verified, by their numbers."""
        found: dict[int, NDArray] = {}
        for number, source in enumerate(sources if self._fetched else ()):
            place = _place_remote(source)
            if place is not None and isinstance(source, (StoredPayload, ConvertedPayload)):
                next(self._fetched[place[0]])
                found[number] = source.stored()
                place[0].held.pop(place[1], None)
        return found


def requirement_of(neighbours: Sequence[Neighbours], specs: Sequence[StorageSpec]) -> Requirement | None:
    """Return what compares the digests of arrays that are written together; None where none has any."""
    if not neighbours:
        return None
    counts = np.array([spec.segments for spec in specs])

    def require(digests: list[bytes]) -> None:
        for some in neighbours:
            some.require(counts, digests)

    return require


def _number(firsts: NDArray, counts: NDArray) -> NDArray:
    """Return the numbers that follow each first one, so many of each."""
    ends = np.cumsum(counts)
    numbers: NDArray = np.repeat(firsts - (ends - counts), counts) + np.arange(int(ends[-1]))
    return numbers


def _require_segments(reader: Reader, segments: NDArray, digests: Sequence[bytes]) -> None:
    wanted = reader.index.digests[segments]
    if b"".join(digests) != wanted.tobytes():
        failed = (number for number, found in enumerate(digests) if wanted[number].tobytes() != found)
        raise reader.digest_error(int(segments[next(failed)]))


def _place_in_file(source: object) -> _Place | None:
    """Return where in a local archive an array lies under digests that hold; None for any other array."""
    if not isinstance(source, StoredPayload):
        return None
    reader, row = source.place
    file = reader.source
    held = reader.footer is not None and reader.verify != "off" and isinstance(file, FileSource)
    return (reader, cast("FileSource", file), row) if held else None


def _place_remote(source: object) -> tuple[Reader, int] | None:
    """Return reader and row of an array that is fetched, or whose elements are; None for any other array."""
    place = source.place if isinstance(source, (StoredPayload, ConvertedPayload)) else None
    return place if place is not None and place[0].network else None


def _convert(source: ConvertedPayload, start: int, stop: int) -> Iterator[NDArray]:
    # so few that no thread verifies them with the help of others: this is one of these threads
    step = MAX_SEGMENT_BYTES // source.widest * source.dtype.itemsize
    for low in range(start, stop, step):
        yield source.stored_range(low, min(low + step, stop))
