"""Reads an archive from its first byte to its last, a few megabytes at a time, and compares every byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xxhash

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.progress import Report
from archive.engine.read.content import content_failures
from archive.engine.read.reader import Reader
from archive.engine.read.treecheck import tree_failures
from archive.engine.report import Failure, VerifyReport
from archive.errors import HostileFileError
from archive.format.constants import FOOTER_BYTES, NO_ALIAS, SUPERBLOCK_BYTES
from archive.format.digests import digest, name_hash
from archive.format.footer import Footer
from archive.format.index import Index
from archive.format.segments import (
    Segment,
    failed_pieces,
    locate_segment,
    segment_bytes_of,
    segments_of_rows,
)
from archive.storage.remote.ranges import Piece, Request, plan_requests
from archive.workers import run_parallel

__all__ = ["Stretch", "read_whole", "verify_reader"]

Region = Literal["superblock", "padding", "HDF5 metadata", "index", "values", "footer"]
_SEGMENTS = 2048
"""Segments that are listed at a time."""
_DAMAGED = "does not match its digest"
Content = Segment | Region
"""Content of a piece: a segment, or bytes that belong to no array."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes that follow those of the stretch before."""

    start: int
    """File offset."""
    data: NDArray
    """The bytes."""
    array_bytes: int
    """Number of array bytes among them."""
    failures: list[Failure]
    """Places that do not match."""


def read_whole(reader: Reader) -> Iterator[Stretch]:
    """Yield every byte of an archive, in order.

    Bytes that do not match are fetched once more from a server. Metadata, index or values of more than 32 MiB
    come in pieces, and their failure is reported with the last piece. Nothing is yielded of a foreign file:
    it has no digests.
    """
    footer = reader.footer
    if footer is None:
        return
    digests = _digests(footer)
    hashers = {content: xxhash.xxh3_128() for content in digests}

    def read(request: Request[Content]) -> tuple[Request[Content], NDArray, list[Failure]]:
        data = reader.source.read(request.start, request.nbytes)
        failures = _validate(reader, footer, request, data)
        again = reader.source.reread(request.start, request.nbytes) if failures else None
        if again is not None:
            data, failures = again, _validate(reader, footer, request, again)
        return request, data, failures

    requests = plan_requests(
        _pieces(reader, footer), request_bytes=tuning.REQUEST_BYTES if reader.network else tuning.SCAN_BYTES
    )
    ahead = 0 if reader.source.mapped and not reader.network else tuning.SCAN_REQUESTS
    for request, data, failures in run_parallel(read, requests, network=reader.network, ahead=ahead):
        stored = 0
        for offset, nbytes, content in request.pieces:
            if isinstance(content, int):
                stored += nbytes
            elif content in digests and nbytes != digests[content][1]:
                at = offset - request.start
                hashers[content].update(data[at : at + nbytes].data)
                wanted, length, begin = digests[content]
                if offset + nbytes == begin + length and hashers[content].digest() != wanted:
                    failures.append(Failure("", str(content), 0, begin, _DAMAGED))
        yield Stretch(request.start, data, stored, failures)


def verify_reader(reader: Reader, progress: Report | None = None) -> VerifyReport:
    """Compare every byte of an open archive, whatever was checked before."""
    index, footer = reader.index, reader.footer
    if footer is None:
        return VerifyReport(False, index.arrays, 0, index.arrays, ())
    failures: list[Failure] = []
    total = int(index.stored_nbytes[index.alias_of == NO_ALIAS].sum())
    done = 0
    for stretch in read_whole(reader):
        failures += stretch.failures
        done += stretch.array_bytes
        reader.source.release(stretch.start, len(stretch.data))
        if progress is not None and stretch.array_bytes:
            progress(done, total)
    if not _names_hold(index):
        failures.append(Failure("", "name table", 0, footer.index_at, "a key is not where its hash says"))
    arrays = [at for at in failures if at.offset < footer.meta_at and at.problem == _DAMAGED]
    damaged = {(at.record, at.key) for at in arrays}
    failures += content_failures(reader, footer.values_at, damaged)
    # what the tree should say is not known where its bytes or the document are wrong
    after = [at for at in failures if at.offset >= footer.meta_at]
    if not any(at.bytes_match or at.offset == footer.meta_at for at in after):
        failures += tree_failures(reader, footer, damaged)
    failures.sort(key=lambda failure: failure.offset)
    return VerifyReport(
        ok=not failures,
        arrays=index.arrays,
        checked_bytes=reader.source.nbytes,
        unverifiable=0,
        failures=tuple(failures),
    )


def _digests(footer: Footer) -> dict[Content, tuple[bytes, int, int]]:
    """Return digest, length and offset of the regions with one digest each."""
    return {
        "HDF5 metadata": (footer.meta_digest, footer.meta_bytes, footer.meta_at),
        "index": (footer.index_digest, footer.index_bytes, footer.index_at),
        "values": (footer.values_digest, footer.values_bytes, footer.values_at),
    }


def _pieces(reader: Reader, footer: Footer) -> Iterator[Piece[Content]]:
    """Yield every byte of the file as pieces without a gap: segments, the padding between, and the end."""
    index = reader.index
    yield 0, SUPERBLOCK_BYTES, "superblock"
    position = SUPERBLOCK_BYTES
    for piece in _segments(index):
        if piece[0] > position:
            yield from _cut(position, piece[0], "padding")
        yield piece
        position = piece[0] + piece[1]
    yield from _cut(position, footer.meta_at, "padding")
    yield from _cut(footer.meta_at, footer.index_at, "HDF5 metadata", tuning.SCAN_REGION_BYTES)
    yield from _cut(footer.index_at, footer.values_at, "index", tuning.SCAN_REGION_BYTES)
    yield from _cut(footer.values_at, footer.file_bytes - FOOTER_BYTES, "values", tuning.SCAN_REGION_BYTES)
    yield footer.file_bytes - FOOTER_BYTES, FOOTER_BYTES, "footer"


def _segments(index: Index) -> Iterator[Piece[Content]]:
    """Yield all segments, a few thousand at a time: those of 1.1 GB would take 3 MB as a list."""
    rows = np.flatnonzero((index.alias_of == NO_ALIAS) & (index.stored_nbytes > 0))
    ends = np.cumsum(index.segment_count[rows])
    cuts = np.arange(_SEGMENTS, int(ends[-1]) if len(ends) else 0, _SEGMENTS)
    for part in np.split(rows, np.unique(np.searchsorted(ends, cuts))):
        yield from segments_of_rows(index, part)


def _cut(start: int, stop: int, content: Region, whole: int = 0) -> Iterator[Piece[Content]]:
    step = max(whole, 1) if stop - start <= whole else tuning.SCAN_BYTES
    for low in range(start, stop, step):
        yield low, min(step, stop - low), content


def _validate(reader: Reader, footer: Footer, request: Request[Content], data: NDArray) -> list[Failure]:
    """Return the failures of the pieces that can be compared one by one."""
    index, digests = reader.index, _digests(footer)
    failures = []
    segments = [(at, size, content) for at, size, content in request.pieces if isinstance(content, int)]
    for segment in failed_pieces(index, data, request.start, segments):
        row, number = locate_segment(index, segment)
        name = index.records[int(index.record[row])].name
        offset = int(index.offset[row]) + number * segment_bytes_of(index, row)
        failures.append(Failure(name, index.key(row), number, offset, _DAMAGED))
    for offset, nbytes, content in request.pieces:
        if isinstance(content, int):
            continue
        part = data[offset - request.start : offset - request.start + nbytes]
        if content == "padding":
            # padding has no digest: anything but zeros was written by somebody else
            if part.any():
                failures.append(Failure("", content, 0, offset + int(np.argmax(part != 0)), "is not zero"))
        elif content in digests and nbytes == digests[content][1]:
            if digest(part) != digests[content][0]:
                failures.append(Failure("", str(content), 0, offset, _DAMAGED))
        elif content == "superblock" and part.tobytes() != footer.superblock:
            failures.append(Failure("", content, 0, 0, "is not that of the footer"))
        elif content == "footer" and part.tobytes() != footer.pack():
            failures.append(Failure("", content, 0, offset, "is another than at open"))
    return failures


def _names_hold(index: Index) -> bool:
    """Return whether every key is text, and stands in the name table under its own hash."""
    try:
        keys = index.keys(index.name_row.tolist())
    except HostileFileError:
        return False
    hashes = np.fromiter((name_hash(key.encode()) for key in keys), np.uint64, len(keys))
    return bool((hashes == index.name_hash).all())
