"""The end of an archive, read and judged: footer, HDF5 metadata, index."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.errors import DamagedError, HostileFileError, NotAnArchiveError, TruncatedError, VersionError
from archive.format.constants import DATA_AT, FOOTER_BYTES, SUPERBLOCK_BYTES
from archive.format.digests import digest
from archive.format.footer import REINDEX, Footer, parse_footer, parse_superblock_eof
from archive.format.index import Index, read_index
from archive.format.validation import validate_index
from archive.storage.remotesource import RemoteSource
from archive.storage.source import Source

__all__ = ["judge_footer", "judge_index", "judge_region"]

NDArray = np.ndarray[Any, np.dtype[Any]]


def judge_footer(source: Source) -> Footer:
    """Return the footer, compared with the superblock where the storage may show another version."""
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


def judge_region(source: Source, offset: int, nbytes: int, wanted: bytes, what: str) -> NDArray:
    """Return a region, compared with its digest."""
    data = source.read(offset, nbytes)
    matches = digest(data) == wanted
    if not matches and isinstance(source, RemoteSource) and source.keeps:
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


def judge_index(data: NDArray, path: str, footer: Footer) -> Index:
    """Return an index whose digest holds, laid out and validated."""
    try:
        index = read_index(data, path, footer.minor)
        validate_index(index, footer.meta_at)
    except (HostileFileError, VersionError) as error:
        error.path, error.offset = path, footer.index_at
        raise
    return index


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
