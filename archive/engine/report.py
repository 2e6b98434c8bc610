"""Reports of saving and verifying."""

from __future__ import annotations

from dataclasses import dataclass

from archive.display.shortfields import ShortFields
from archive.errors import ArchiveError, DamagedError, DigestError, HostileFileError

__all__ = ["Failure", "SaveReport", "VerifyReport"]


@dataclass(frozen=True, slots=True, repr=False)
class SaveReport(ShortFields):
    """An archive that was saved."""

    url: str
    """Path or URL of the archive."""
    arrays: int
    """Arrays in the archive, tied arrays counted each."""
    array_bytes: int
    """Bytes of array data, tied arrays counted once."""
    file_bytes: int
    """Length of the file."""
    seconds: float
    """Wall-clock time from the first input to the published file."""
    digest: str
    """Hexadecimal digest of the archive's footer: equal for equal bytes."""


@dataclass(frozen=True, slots=True, repr=False)
class Failure(ShortFields):
    """One place whose bytes do not match their digest, or whose content breaks a rule of the format."""

    record: str
    """Name of the record, or ``""`` for bytes that belong to no array."""
    key: str
    """Key of the array, or the name of a region: ``index``. Of an object of the HDF5 tree that is neither
    array nor value its path: ``/metrics/fit``."""
    segment: int
    """Number of the segment in its array, from 0."""
    offset: int
    """File offset of the first byte of the segment, or of what is invalid."""
    problem: str
    """What is wrong."""
    bytes_match: bool = False
    """Whether the bytes match their digest all the same, and break a rule of the format."""

    @property
    def name(self) -> str | None:
        """``record/key`` of the array; None for bytes that belong to no array."""
        return f"{self.record}/{self.key}" if self.record else None

    def error(self, path: str, remedy: str, others: int = 0) -> ArchiveError:
        """Return the error that names this place, and how many others there are."""
        kind: type[ArchiveError] = DigestError if self.record else DamagedError
        what = f"segment {self.segment} " if self.record else f"{self.key} "
        if self.bytes_match:
            kind, what = HostileFileError, "" if self.record else f"{self.key}: "
        more = f", and {others} more {'places' if others > 1 else 'place'}" if others else ""
        return kind(
            f"{what}{self.problem}{more}", path=path, offset=self.offset, key=self.name, remedy=remedy
        )


@dataclass(frozen=True, slots=True, repr=False)
class VerifyReport(ShortFields):
    """Result of verifying. Truthy when every byte matches and the content is valid.

    Examples
    --------
    >>> bool(VerifyReport(ok=True, arrays=3, checked_bytes=4096, unverifiable=0, failures=()))
    True
    """

    ok: bool
    """Every byte was checked and matches, and the content is valid."""
    arrays: int
    """Arrays in the archive."""
    checked_bytes: int
    """Bytes that were read and compared: arrays, padding, metadata, index, values and footer."""
    unverifiable: int
    """Arrays without a digest (foreign files)."""
    failures: tuple[Failure, ...]
    """All places that do not match; of a document with invalid values the first, of the HDF5 tree the first
    1,000."""

    def __bool__(self) -> bool:
        return self.ok
