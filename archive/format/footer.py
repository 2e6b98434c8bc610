"""The last 256 bytes of a file: offsets of its parts, and digests of everything but array data."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from archive.errors import DamagedError, HostileFileError, NotAnArchiveError, TruncatedError, VersionError
from archive.format.constants import (
    ALIGN,
    DATA_AT,
    DIGEST_ALGORITHM,
    DIGEST_BYTES,
    END_MAGIC,
    FOOTER_BYTES,
    FOOTER_MAGIC,
    INDEX_HEADER_BYTES,
    MAX_FILE_BYTES,
    SUPERBLOCK_BYTES,
    VERSION_MAJOR,
    VERSION_MINOR,
)
from archive.format.digests import digest
from archive.format.versions import unknown_feature

__all__ = ["Footer", "parse_footer", "parse_superblock_eof"]

# magic, major, minor, footer bytes, flags, file bytes, digest algorithm, reserved, meta at/bytes, index
# at/bytes, values at/bytes, superblock, digests of meta, index and values, each with room for 32 bytes,
# footer digest, end magic
_LAYOUT = struct.Struct("<8sIIIIQIIQQQQQQ48s32s32s32s16s8s")
_DIGESTED = FOOTER_BYTES - 24
assert _LAYOUT.size == FOOTER_BYTES

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
REINDEX = (
    "open(..., foreign=True) or --foreign reads the HDF5 tree of a local file unverified, "
    "`fedarchive reindex` makes an archive of it"
)


@dataclass(frozen=True, slots=True)
class Footer:
    """The fields of a footer."""

    file_bytes: int
    """Length of the whole file."""
    meta_at: int
    """Offset of the HDF5 metadata; array bytes lie between DATA_AT and here."""
    meta_bytes: int
    """Length of the HDF5 metadata, a multiple of 64."""
    index_at: int
    """Offset of the index: right after the metadata."""
    index_bytes: int
    """Length of the index."""
    values_at: int
    """Offset of the values section: right after the index."""
    values_bytes: int
    """Length of the values section, which the footer follows."""
    superblock: bytes
    """A copy of the file's first 48 bytes."""
    meta_digest: bytes
    """xxh3-128 of the metadata."""
    index_digest: bytes
    """xxh3-128 of the index."""
    values_digest: bytes
    """xxh3-128 of the values section."""
    minor: int = VERSION_MINOR
    """Minor version of the format."""

    def pack(self) -> bytes:
        """Return the 256 bytes of this footer, its own digest included."""
        head = _LAYOUT.pack(
            FOOTER_MAGIC,
            VERSION_MAJOR,
            self.minor,
            FOOTER_BYTES,
            0,
            self.file_bytes,
            DIGEST_ALGORITHM,
            0,
            self.meta_at,
            self.meta_bytes,
            self.index_at,
            self.index_bytes,
            self.values_at,
            self.values_bytes,
            self.superblock,
            self.meta_digest,
            self.index_digest,
            self.values_digest,
            bytes(16),
            END_MAGIC,
        )[:_DIGESTED]
        return head + digest(head) + END_MAGIC


def parse_footer(last: bytes, file_bytes: int, path: str | None = None) -> Footer:
    """Return the footer of a file after checking its digest, its fields and the length of the file.

    Parameters
    ----------
    last : bytes
        Last 256 bytes of the file.
    file_bytes : int
        Length of the file as the storage reports it.
    path : str, optional
        Named in errors.

    Raises
    ------
    NotAnArchiveError
        Both markers are missing.
    VersionError
        A newer major version, or flags of a newer minor one.
    DamagedError
        A marker is there, but the footer does not match its digest.
    TruncatedError
        The footer is whole, but belongs to a file of another length.
    HostileFileError
        The digest holds, but the fields contradict each other.
    """
    start = file_bytes - FOOTER_BYTES
    marked = last[:8] == FOOTER_MAGIC or last[-8:] == END_MAGIC
    if len(last) != FOOTER_BYTES or not marked:
        raise NotAnArchiveError("no archive footer at the end of the file", path=path, remedy=REINDEX)
    fields = _LAYOUT.unpack(last)
    _, major, minor, size, flags, total, algorithm, reserved, *places, superblock = fields[:15]
    unused = [wide[DIGEST_BYTES:] for wide in fields[15:18]]
    meta_digest, index_digest, values_digest = (wide[:DIGEST_BYTES] for wide in fields[15:18])
    if digest(last[:_DIGESTED]) != last[_DIGESTED:-8] or last[:8] != FOOTER_MAGIC or last[-8:] != END_MAGIC:
        raise DamagedError(
            "the footer does not match its digest",
            path=path,
            offset=start,
            remedy=f"take another copy, or: {REINDEX}",
        )
    if major != VERSION_MAJOR:
        raise VersionError(
            f"format version {major}.{minor}; this reader knows {VERSION_MAJOR}.{VERSION_MINOR}",
            path=path,
            offset=start + 8,
            remedy="upgrade fedarchive",
        )
    if total != file_bytes:
        raise TruncatedError(
            f"the footer belongs to a file of {total} bytes, this one has {file_bytes}",
            path=path,
            offset=start,
            remedy="fetch it again",
        )
    if algorithm != DIGEST_ALGORITHM:
        raise VersionError(
            f"digests by algorithm {algorithm}; this reader knows {DIGEST_ALGORITHM}",
            path=path,
            offset=start + 32,
            remedy="upgrade fedarchive",
        )
    if flags != 0 or reserved != 0 or any(map(any, unused)):
        raise unknown_feature("a flag or reserved field of the footer is set", minor, path=path, offset=start)
    meta_at, meta_bytes, index_at, index_bytes, values_at, values_bytes = places
    footer = Footer(
        file_bytes,
        meta_at,
        meta_bytes,
        index_at,
        index_bytes,
        values_at,
        values_bytes,
        superblock,
        meta_digest,
        index_digest,
        values_digest,
        minor,
    )
    if size != FOOTER_BYTES or not _agrees(footer):
        raise HostileFileError("the footer's fields contradict each other", path=path, offset=start)
    return footer


def _agrees(footer: Footer) -> bool:
    """Return whether sizes and offsets fit together ([FOOTER-4], [FOOTER-5])."""
    return (
        footer.file_bytes <= MAX_FILE_BYTES
        and footer.meta_at >= DATA_AT
        and footer.meta_at % ALIGN == footer.meta_bytes % ALIGN == 0
        and footer.meta_at + footer.meta_bytes == footer.index_at
        and footer.index_bytes >= INDEX_HEADER_BYTES
        and footer.index_at + footer.index_bytes == footer.values_at
        and footer.values_at + footer.values_bytes + FOOTER_BYTES == footer.file_bytes
        and parse_superblock_eof(footer.superblock) == footer.file_bytes
        and footer.meta_at <= int.from_bytes(footer.superblock[36:44], "little") < footer.index_at
    )


def parse_superblock_eof(superblock: bytes) -> int | None:
    """Return the file length in a version-2 superblock; None for any other bytes."""
    if len(superblock) < SUPERBLOCK_BYTES or superblock[:11] != HDF5_SIGNATURE + b"\x02\x08\x08":
        return None
    return int.from_bytes(superblock[28:36], "little")
