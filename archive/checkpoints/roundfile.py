"""Configs that name a file of a round or client: written with the file, compared when it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from archive import reading
from archive.checkpoints.columns import read_reader
from archive.checkpoints.paths import CHECKPOINT, client_path, unspell
from archive.engine.read.containers import record_values
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader, read_source
from archive.engine.read.reader import Reader
from archive.engine.report import VerifyReport
from archive.errors import (
    DamagedError,
    HostileFileError,
    NotAnArchiveError,
    TruncatedError,
    ValueRangeError,
    VersionError,
)
from archive.format.constants import KIND_CONFIGS
from archive.records import RecordSet
from archive.storage.protocols import Source
from archive.storage.url import parse_url

__all__ = [
    "DAMAGE",
    "RoundReport",
    "client_marks",
    "describe",
    "is_client",
    "open_file",
    "read_client",
    "read_clients",
    "round_marks",
]

DAMAGE = (DamagedError, TruncatedError, NotAnArchiveError, HostileFileError)
"""Errors of a file that differs from what was saved."""
T = TypeVar("T")
Options = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RoundReport:
    """Result of verifying a round. Truthy when every byte matches."""

    round: int
    """Number of the round."""
    files: int
    """Files that were checked: the round file, and one for each client."""
    failures: tuple[str, ...]
    """Everything that does not match, each beginning with its file."""

    @property
    def ok(self) -> bool:
        """Every byte of every file was checked and matches."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.ok


def round_marks(number: int, clients: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the configs by which a round file names its client files: spelled names and their digests."""
    marks = {"round": number, "clients": list(clients), "digests": list(clients.values())}
    return {CHECKPOINT: marks}


def client_marks(number: int, spelled: str) -> dict[str, dict[str, Any]]:
    """Return the configs that name the client and round of a client file."""
    return {CHECKPOINT: {"round": number, "client": spelled}}


def open_file(
    url: str,
    storage_options: Options,
    *,
    mode: str = "r",
    verify: str = "first",
    digest: str | None = None,
) -> Archive:
    """Open a file of a store; its records are those that were saved.

    Raises
    ------
    DamagedError
        The round was saved with another file.
    ArchiveError
        As `archive.open` says.
    """
    handle = reading.open(url, mode=mode, verify=verify, storage_options=storage_options)
    if digest is not None and handle._reader.identity.hex() != digest:
        handle.close()
        raise DamagedError(
            "its round was saved with another file",
            path=parse_url(url, storage_options).display,
            remedy="something replaced it afterwards: take a copy, or an earlier round",
        )
    records = handle.records
    space: Any = records.configs_records if isinstance(records, RecordSet) else records
    space.pop(CHECKPOINT, None)
    return handle


def read_clients(url: str, storage_options: Options) -> dict[str, str] | None:
    """Return spelled names and digests of the client files of a round; None where its file names none.

    Raises
    ------
    ArchiveError
        The round file is missing or damaged.
    """
    return _read(url, storage_options, _clients)


def read_client(url: str, storage_options: Options) -> tuple[str | None, str]:
    """Return the spelled name in a client file, None where there is none, and the digest of the file."""

    def read(reader: Reader) -> tuple[str | None, str]:
        spelled = read_reader(reader).get(("configs", CHECKPOINT, "client"))
        return spelled if isinstance(spelled, str) else None, reader.identity.hex()

    return _read(url, storage_options, read)


def is_client(source: Source, number: int, path: str) -> bool:
    """Return whether the configs of an open file are those of this client path of a round."""
    try:
        row = read_reader(read_source(source))
    except (*DAMAGE, VersionError):
        return False
    spelled = row.get(("configs", CHECKPOINT, "client"))
    same = row.get(("configs", CHECKPOINT, "round")) == number
    return same and isinstance(spelled, str) and client_path(number, spelled) == path


def describe(report: VerifyReport) -> str:
    """Return the result of verifying a file in a few words; empty where every byte matches."""
    if report.ok:
        return ""
    if not report.failures:
        return "has no digests"
    first = report.failures[0]
    more = f", and {len(report.failures) - 1} more places" if len(report.failures) > 1 else ""
    return f"{first.name or first.key}: {first.problem}{more}"


def _read(url: str, storage_options: Options, read: Callable[[Reader], T]) -> T:
    """Return what a function reads from the index of a file."""
    reader = open_reader(parse_url(url, storage_options), access="pread", verify="first")
    try:
        return read(reader)
    finally:
        reader.close()


def _clients(reader: Reader) -> dict[str, str] | None:
    row = read_reader(reader)
    marks: dict[str, Any] = {key: row.get(("configs", CHECKPOINT, key)) for key in ("clients", "digests")}
    if None in marks.values():  # absent, or stored as datasets because there are thousands of clients
        record = (KIND_CONFIGS, CHECKPOINT)
        numbers = [
            number for number, found in enumerate(reader.index.records) if (found.kind, found.name) == record
        ]
        if not numbers:
            return None
        marks |= record_values(reader, "values").get(numbers[0], {})
    names, digests = marks["clients"], marks["digests"]
    try:
        if len(names) != len(digests) or len(set(names)) != len(names):
            raise HostileFileError("names and digests of clients that do not match", path=reader.path)
        for name in names:
            unspell(name)
    except (TypeError, ValueRangeError) as error:
        raise HostileFileError("invalid names of clients", path=reader.path) from error
    return dict(zip(names, digests, strict=True))
