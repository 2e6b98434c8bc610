"""The end of an archive, read and judged: footer, HDF5 metadata, index."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.errors import DamagedError, HostileFileError, NotAnArchiveError, TruncatedError, VersionError
from archive.format.constants import DATA_AT, FOOTER_BYTES, SUPERBLOCK_BYTES
from archive.format.digests import digest
from archive.format.footer import REINDEX, Footer, parse_footer, parse_superblock_eof
from archive.format.index import Index
from archive.format.recent import judge_index
from archive.storage.local.source import Source

__all__ = ["Regions"]

NDArray = np.ndarray[Any, np.dtype[Any]]

END_BYTES = 64 << 10
"""What is read of a file's end by one call: 2 us, where each first touch of a map costs 3 to 5."""


class Regions:
    """What must hold before an array is looked for: each region, read and compared with its digest."""

    def __init__(self, source: Source) -> None:
        self._source = source
        # remote sources keep their end themselves
        self._end = np.empty(0 if source.pinned else min(END_BYTES, source.nbytes), np.uint8)
        self._end_at = source.nbytes - len(self._end)
        if len(self._end):
            source.read_into(self._end_at, self._end)

    def footer(self) -> Footer:
        """Return the footer, compared with the superblock where the storage may show another version."""
        source = self._source
        if source.nbytes < DATA_AT + FOOTER_BYTES:
            _refuse_truncated(source, self._superblock())
            raise NotAnArchiveError(f"{source.nbytes} bytes are too few for an archive", path=source.path)
        # a request of its own, for a comparison that one version of an object does not need
        head = b"" if source.pinned else self._superblock()
        last = self._read(source.nbytes - FOOTER_BYTES, FOOTER_BYTES).tobytes()
        try:
            footer = parse_footer(last, source.nbytes, source.path)
        except NotAnArchiveError:
            _refuse_truncated(source, head or self._superblock())
            raise
        if not source.pinned and footer.superblock != head:
            raise DamagedError(
                "the superblock is not the one the footer was written with",
                path=source.path,
                offset=0,
                remedy=f"take another copy, or: {REINDEX}",
            )
        return footer

    def check(self, offset: int, nbytes: int, wanted: bytes, what: str) -> NDArray:
        """Return a region, compared with its digest."""
        source = self._source
        data = self._read(offset, nbytes)
        matches = digest(data) == wanted
        if not matches and source.keeps:
            again = source.reread(offset, nbytes)
            if again is not None:
                data, matches = again, digest(again) == wanted
        if not matches:
            raise DamagedError(
                f"{what} does not match its digest: edited in place by another tool, or damaged",
                path=source.path,
                offset=offset,
                remedy=f"take another copy; if you edited it: {REINDEX}",
            )
        return data

    def index(self, footer: Footer) -> Index:
        """Return the index, laid out and validated."""
        data = self.check(footer.index_at, footer.index_bytes, footer.index_digest, "the index")
        try:
            return judge_index(data, footer.meta_at, self._source.path, footer.minor)
        except (HostileFileError, VersionError) as error:
            error.path, error.offset = self._source.path, footer.index_at
            raise

    def _superblock(self) -> bytes:
        source = self._source
        head = np.empty(min(source.nbytes, SUPERBLOCK_BYTES), np.uint8)
        if self._end_at:
            source.read_into(0, head)
        else:
            head = self._read(0, len(head))
        return head.tobytes()

    def _read(self, offset: int, nbytes: int) -> NDArray:
        at = offset - self._end_at
        return self._end[at : at + nbytes] if at >= 0 else self._source.read(offset, nbytes)


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
