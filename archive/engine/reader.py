"""An open file and its index: stored bytes handed out, checked first.

The reader is what lazy arrays hold on to; it knows rows, not records.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np

from archive.engine.check import failed_segments
from archive.errors import (
    ClosedError,
    DamagedError,
    DigestError,
    HostileFileError,
    NotAnArchiveError,
    TruncatedError,
    VersionError,
)
from archive.format.constants import DATA_AT, FOOTER_BYTES, SUPERBLOCK_BYTES, VERSION_MINOR
from archive.format.digests import digest
from archive.format.footer import REINDEX, Footer, parse_footer, parse_superblock_eof
from archive.format.index import Index, read_index
from archive.format.validation import validate_index
from archive.storage.location import locate_source
from archive.storage.source import Source
from archive.storage.url import Location

__all__ = ["Reader", "open_reader", "reopen"]

NDArray = np.ndarray[Any, np.dtype[Any]]


class Reader:
    """Rows of an index and the bytes behind them.

    Parameters
    ----------
    source : Source
    index : Index
        Validated against ``source``.
    verify : {"first", "open", "off"}
    writable : bool
        Hand out elements that may be written to (mode ``"c"``).
    identity : bytes
        Digest of the footer: by it a handle that was pickled finds the same version again.
    """

    def __init__(
        self,
        source: Source,
        index: Index,
        *,
        verify: str,
        writable: bool = False,
        identity: bytes = b"",
        footer: Footer | None = None,
        access: str = "auto",
        location: Location | None = None,
    ) -> None:
        self.source = source
        self.index = index
        self.verify = verify
        self.writable = writable
        self.identity = identity
        self.footer = footer
        self.access = access
        self.location = location if location is not None else Location(source.path)
        self.closed = False
        # one byte a segment; setting one to 1 twice is harmless, so threads need no lock
        self._checked = bytearray(len(index.digests))

    @property
    def path(self) -> str:
        """Absolute path of the file."""
        return self.source.path

    def stored(self, row: int) -> NDArray:
        """Return the stored bytes of a row, uint8, not to be written to; verified unless told otherwise."""
        return self.stored_range(row, 0, int(self.index.stored_nbytes[row]))

    def stored_range(self, row: int, start: int, stop: int) -> NDArray:
        """Return stored bytes ``start`` to ``stop`` of a row, checking no more than their segments."""
        self._require_open()
        offset, nbytes = int(self.index.offset[row]), int(self.index.stored_nbytes[row])
        if stop <= start:
            return np.empty(0, np.uint8)
        if self.verify == "off":
            return self.source.read(offset + start, stop - start)
        size = self.index.segment_bytes
        first, last = start // size, -(-stop // size)
        low, high = first * size, min(last * size, nbytes)
        data = self.source.read(offset + low, high - low)
        if not self.source.mapped:
            self._check(row, data, first, last, remember=False)
        elif 0 in memoryview(self._checked)[self._segment(row, first) : self._segment(row, last)]:
            self._check(row, data, first, last, remember=True)
        part = data[start - low : stop - low]
        # a row of a segment that was read for it alone must not keep all of it alive
        return part if self.source.mapped or 2 * len(part) >= len(data) else part.copy()

    def private(self, row: int) -> NDArray:
        """Return the stored bytes of a row as writable memory that nobody else sees."""
        self._require_open()
        offset, nbytes = int(self.index.offset[row]), int(self.index.stored_nbytes[row])
        if not self.source.mapped:
            return self.stored(row)
        if self.verify != "off":
            self.stored(row)
        return self.source.private(offset, nbytes)

    def digest_error(self, row: int, segment: int) -> DigestError:
        """Return the error that names a segment of a row."""
        offset = int(self.index.offset[row]) + segment * self.index.segment_bytes
        record = self.index.records[int(self.index.record[row])]
        return DigestError(
            f"segment {segment} does not match its digest",
            path=self.path,
            offset=offset,
            key=f"{record.name}/{self.index.key(row)}",
            remedy="the bytes changed after they were saved: take another copy, or an earlier round",
        )

    def close(self) -> None:
        """Let go of file and map; views that were handed out stay valid."""
        self.closed = True
        self.source.close()

    @property
    def reference(self) -> tuple[Any, ...]:
        """What `reopen` takes to find the same version again."""
        if not self.identity:
            raise TypeError("a foreign file has no digest to find it again by; save it as an archive first")
        return self.location, self.access, self.verify, self.writable, self.identity

    def trust(self) -> None:
        """Take every segment as checked."""
        self._checked[:] = b"\x01" * len(self._checked)

    def __reduce__(self) -> tuple[Any, ...]:
        # arrays of one archive share a reader in the process they come to, which nobody closes
        return _reopen_shared, self.reference

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError(
                "the archive was closed before these bytes were read",
                path=self.path,
                remedy="read inside the with block, or use archive.load()",
            )

    def _segment(self, row: int, number: int) -> int:
        return int(self.index.segment_at[row]) + number

    def _check(self, row: int, data: NDArray, first: int, last: int, *, remember: bool) -> None:
        failed = self._failed(row, data, first, last)
        if failed:
            raise self.digest_error(row, failed[0])
        if remember:
            self._checked[self._segment(row, first) : self._segment(row, last)] = b"\x01" * (last - first)

    def _failed(self, row: int, data: NDArray, first: int, last: int) -> list[int]:
        size = self.index.segment_bytes
        wanted = self.index.segment_digests(row)
        return failed_segments(
            (
                (
                    number,
                    data[(number - first) * size : (number - first + 1) * size],
                    wanted[number].tobytes(),
                )
                for number in range(first, last)
            ),
            len(data),
        )


def open_reader(location: Location, *, access: str, verify: str, writable: bool = False) -> Reader:
    """Open an archive: footer, superblock, metadata and index are checked, array bytes are not read.

    Raises
    ------
    NotAnArchiveError, TruncatedError, VersionError, DamagedError, HostileFileError
        As `archive.errors` says.
    MissingError, StorageError
        The file cannot be read.
    """
    source = locate_source(location, access)
    reader = None
    try:
        footer = _read_footer(source)
        source.extend_tail(footer.meta_at)
        _check_region(source, footer.meta_at, footer.meta_bytes, footer.meta_digest, "the HDF5 metadata")
        index_bytes = _check_region(
            source, footer.index_at, footer.index_bytes, footer.index_digest, "the index"
        )
        try:
            index = read_index(index_bytes, source.path)
            validate_index(index, footer.meta_at)
        except (HostileFileError, VersionError) as error:
            error.path, error.offset = source.path, footer.index_at
            if footer.minor > VERSION_MINOR:
                # what a newer format added is no attack
                raise VersionError(
                    f"format version 1.{footer.minor} uses what this reader does not know: {error.problem}",
                    path=source.path,
                    offset=footer.index_at,
                    remedy="upgrade fedarchive",
                ) from error
            raise
        identity = digest(footer.pack())
        reader = Reader(
            source,
            index,
            verify=verify,
            writable=writable,
            identity=identity,
            footer=footer,
            access=access,
            # a relative path would be another file after a change of folder
            location=location if location.remote else None,
        )
    finally:
        if reader is None:
            source.close()
    return reader


def _read_footer(source: Source) -> Footer:
    if source.nbytes < DATA_AT + FOOTER_BYTES:
        head = source.read(0, min(source.nbytes, SUPERBLOCK_BYTES)).tobytes()
        _refuse_truncated(source, head)
        raise NotAnArchiveError(f"{source.nbytes} bytes are too few for an archive", path=source.path)
    # a request of its own, for a comparison that one version of an object does not need
    head = b"" if source.pinned else source.read(0, SUPERBLOCK_BYTES).tobytes()
    last = source.read(source.nbytes - FOOTER_BYTES, FOOTER_BYTES).tobytes()
    try:
        footer = parse_footer(last, source.nbytes, source.path)
    except NotAnArchiveError:
        _refuse_truncated(source, head or source.read(0, SUPERBLOCK_BYTES).tobytes())
        raise
    if not source.pinned and footer.superblock != head:
        raise DamagedError(
            "the superblock is not the one the footer was written with",
            path=source.path,
            offset=0,
            remedy=f"take another copy, or: {REINDEX}",
        )
    return footer


def _refuse_truncated(source: Source, head: bytes) -> None:
    """Raise where the HDF5 superblock says that the file was longer."""
    stated = parse_superblock_eof(head)
    if stated is not None and stated > source.nbytes:
        raise TruncatedError(
            f"the file has {source.nbytes} of {stated} bytes",
            path=source.path,
            offset=source.nbytes,
            remedy="fetch it again, or take an earlier round",
        )


def _check_region(source: Source, offset: int, nbytes: int, wanted: bytes, what: str) -> NDArray:
    data = source.read(offset, nbytes)
    if digest(data) != wanted:
        raise DamagedError(
            f"{what} does not match its digest: edited in place by another tool, or damaged",
            path=source.path,
            offset=offset,
            remedy=f"take another copy; if you edited it: {REINDEX}",
        )
    return data


# Handles that were pickled, by path, version and settings: 289 arrays of one archive that cross to
# another process share one file descriptor and one map there.
_reopened: weakref.WeakValueDictionary[tuple[Any, ...], Reader] = weakref.WeakValueDictionary()


def _reopen_shared(*reference: Any) -> Reader:
    key = (os.getpid(), reference[0].path, *reference[1:])
    reader = _reopened.get(key)
    if reader is None:
        reader = _reopened[key] = reopen(*reference)
    return reader


def reopen(location: Location, access: str, verify: str, writable: bool, identity: bytes) -> Reader:
    """Open what a pickled handle referred to.

    Raises
    ------
    DamagedError
        The file is another version by now.
    """
    reader = open_reader(location, access=access, verify=verify, writable=writable)
    if reader.identity != identity:
        reader.close()
        raise DamagedError(
            "the file was replaced by another version since this handle was pickled",
            path=location.display,
            remedy="open it again and take the arrays from there",
        )
    return reader
