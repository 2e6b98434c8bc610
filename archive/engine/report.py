"""What saving and verifying tell the caller."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Failure", "SaveReport", "VerifyReport"]


@dataclass(frozen=True, slots=True)
class SaveReport:
    """What a save wrote."""

    url: str
    """Where the archive is."""
    arrays: int
    """Arrays in it, tied ones counted each."""
    array_bytes: int
    """Bytes of array data, tied arrays counted once."""
    file_bytes: int
    """Length of the file."""
    seconds: float
    """Wall-clock time from the first input to the published file."""
    digest: str
    """Hexadecimal digest of the archive's footer: equal for equal bytes."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One place whose bytes do not match their digest."""

    record: str
    """Name of the record, or ``""`` for bytes that belong to no array."""
    key: str
    """Key of the array, or what the bytes are."""
    segment: int
    """Which segment of the array, from 0."""
    offset: int
    """File offset of the first byte of the segment."""
    problem: str
    """What is wrong."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verifying found. Truthy when everything holds.

    Examples
    --------
    >>> bool(VerifyReport(ok=True, arrays=3, checked_bytes=4096, unverifiable=0, failures=()))
    True
    """

    ok: bool
    """Every byte was checked and matches."""
    arrays: int
    """Arrays in the archive."""
    checked_bytes: int
    """Bytes that were read and compared: arrays, padding, metadata, index and footer."""
    unverifiable: int
    """Arrays without a digest (foreign files)."""
    failures: tuple[Failure, ...]
    """Every place that does not match."""

    def __bool__(self) -> bool:
        return self.ok
