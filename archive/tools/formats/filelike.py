"""Files for libraries that want a Python file: over a source, into a sink, and a local copy of an object."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from archive import tuning
from archive.dtypes import NDArray
from archive.errors import (
    ArchiveError,
    DamagedError,
    HostileFileError,
    NotAnArchiveError,
    TruncatedError,
    ValueRangeError,
    VersionError,
)
from archive.storage.location import locate_sink, locate_source
from archive.storage.protocols import Sink, Source
from archive.storage.remote.ranges import plan_requests
from archive.storage.remote.staging import Spool, parse_spool
from archive.storage.url import Location
from archive.workers import run_parallel

__all__ = [
    "READ_BACK",
    "SinkFile",
    "SourceFile",
    "Target",
    "require_apart",
    "sibling",
    "staged",
    "stream_ranges",
]


READ_BACK = "convert again; check the disk or the store"
"""What helps where a file is not what was written."""
_BROKEN = (DamagedError, HostileFileError, NotAnArchiveError, TruncatedError, VersionError)


class SourceFile(io.RawIOBase):
    """A source as a seekable file."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self._position = source, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset; a negative one is the OSError that it is of any file: `zipfile` counts on it."""
        start = (0, self._position, self._source.nbytes)[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the offset."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._source.nbytes - self._position))
        if count:
            view[:count] = self._source.read(self._position, count).data
        self._position += count
        return count


class SinkFile(io.RawIOBase):
    """A sink as a file that is written front to back; so `zipfile` and torch write to any storage."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self.sink: Sink = sink
        self.error: ArchiveError | None = None
        """Why a write failed: torch's writer, which is C++, raises another error."""
        self._position = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._position

    def write(self, buffer: Any) -> int:
        """Write all of a buffer."""
        view = memoryview(buffer).cast("B")
        try:
            if len(view):
                self.sink.write(view, self._position)
                self._position += len(view)
                self.sink.push_to(self._position)
        except ArchiveError as error:
            self.error = error
            raise
        return len(view)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes, and how."""

    location: Location
    overwrite: bool = True
    durable: bool = True
    spool: Spool = True
    check: Callable[[Location], object] | None = None
    """Reads back what was written, and raises where it is another."""

    @contextlib.contextmanager
    def open(self, nbytes: int = 0) -> Iterator[SinkFile]:
        """Begin the file; it appears when the block ends, and not at all after an exception."""
        sink = locate_sink(
            self.location,
            overwrite=self.overwrite,
            durable=self.durable,
            push=True,
            nbytes=nbytes,
            spool=self.spool,
            marked=True,
        )
        try:
            if nbytes:
                sink.reserve(nbytes)
            yield SinkFile(sink)
            self.publish(sink)
        finally:
            sink.discard()

    def publish(self, sink: Sink) -> None:
        """Check what is in a sink and publish it: nothing takes the place of a file before it was read back.

        The parts of an object cannot be read before it appears: an object is checked after.
        """
        local = bool(sink.temporary)
        if local:
            self._read_back(Location(sink.temporary))
        sink.publish()
        if not local:
            self._read_back(self.location)

    def _read_back(self, place: Location) -> None:
        if self.check is None:
            return
        try:
            self.check(place)
        except _BROKEN as error:
            if error.path == self.location.display:
                raise
            raise DamagedError(
                f"read back after it was written, it is another: {error.problem}",
                path=self.location.display,
                key=error.key,
                remedy=READ_BACK,
            ) from error


def require_apart(source: Location, target: Location) -> None:
    """Raise ValueRangeError where a file would take the place of the one that it is made of."""
    # a loop of links is no error here: who opens it finds it
    paths = [place.path if place.remote else os.path.realpath(place.path) for place in (source, target)]
    if source.remote == target.remote and paths[0] == paths[1]:
        raise ValueRangeError(
            "it is read from there, and would be replaced", path=target.display, remedy="name another file"
        )


def sibling(location: Location, name: str) -> Location:
    """Return the location of another file in the same folder."""
    return replace(location, path=f"{location.path.rpartition('/')[0]}/{name}")


@contextlib.contextmanager
def staged(location: Location, spool: Spool = True) -> Iterator[str]:
    """Give the path of a local file with the bytes of a file or object: some libraries read no others."""
    if not location.remote:
        yield location.path
        return
    source = locate_source(location, "pread")
    try:
        with tempfile.TemporaryDirectory(prefix="fedarchive-", dir=parse_spool(spool)) as folder:
            path = Path(folder, "object")
            with path.open("wb") as file:
                for _, chunk in stream_ranges(source, [(0, source.nbytes)]):
                    file.write(chunk.data)
            yield str(path)
    finally:
        source.close()


def stream_ranges(source: Source, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, NDArray]]:
    """Yield ranges (offset, nbytes) of a source in pieces, each with the number of its range.

    Neighbours share a request, several of which are under way: 20,000 small arrays of an object take as long
    as a few large ones. A range without bytes yields nothing.
    """
    network = min(source.parallel, tuning.REQUESTS) if source.pinned else 0
    step = tuning.PREFETCH_BYTES

    def cut() -> Iterator[tuple[int, int, int]]:
        for number, (offset, nbytes) in enumerate(ranges):
            for low in range(0, nbytes, step):
                yield offset + low, min(step, nbytes - low), number

    requests = plan_requests(cut(), request_bytes=tuning.REQUEST_BYTES if network else step)
    read = run_parallel(
        lambda request: (request, source.read(request.start, request.nbytes)),
        requests,
        network=network,
        ahead=tuning.SCAN_REQUESTS if network else tuning.WRITE_GROUPS,
    )
    for request, data in read:
        for offset, nbytes, number in request.pieces:
            at = offset - request.start
            yield number, data[at : at + nbytes]
        source.release(request.start, request.nbytes)
