"""What files of rounds and clients say of themselves: written with them, compared when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
"""A file that is not as it was saved."""
Options = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What verifying a round found. Truthy when everything holds."""

    round: int
    """Its number."""
    files: int
    """Files that were checked: that of the round, and one a client."""
    failures: tuple[str, ...]
    """Everything that does not hold, each beginning with its file."""

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
    """Return the configs by which a client file says whose it is."""
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
        It is another file than its round was saved with.
    ArchiveError
        As `archive.open` says.
    """
    handle = reading.open(url, mode=mode, verify=verify, storage_options=storage_options)
    if digest is not None and handle._reader.identity.hex() != digest:
        handle.close()
        raise DamagedError(
            "not the file that its round was saved with",
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
    reader = open_reader(parse_url(url, storage_options), access="pread", verify="first")
    try:
        return _clients(reader)
    finally:
        reader.close()


def read_client(url: str, storage_options: Options) -> tuple[str | None, str]:
    """Return the spelled name in a client file, None where there is none, and its digest."""
    reader = open_reader(parse_url(url, storage_options), access="pread", verify="first")
    try:
        spelled = read_reader(reader).get(("configs", CHECKPOINT, "client"))
        return spelled if isinstance(spelled, str) else None, reader.identity.hex()
    finally:
        reader.close()


def is_client(source: Source, number: int, path: str) -> bool:
    """Tell whether an open file says of itself that a client of a round saved it at this path."""
    try:
        row = read_reader(read_source(source))
    except (*DAMAGE, VersionError):
        return False
    spelled = row.get(("configs", CHECKPOINT, "client"))
    same = row.get(("configs", CHECKPOINT, "round")) == number
    return same and isinstance(spelled, str) and client_path(number, spelled) == path


def describe(report: VerifyReport) -> str:
    """Return what verifying a file found, in a few words; empty where everything holds."""
    if report.ok:
        return ""
    if not report.failures:
        return "has no digests"
    first = report.failures[0]
    where = f"{first.record}/{first.key}" if first.record else first.key
    more = f", and {len(report.failures) - 1} more places" if len(report.failures) > 1 else ""
    return f"{where}: {first.problem}{more}"


def _clients(reader: Reader) -> dict[str, str] | None:
    row = read_reader(reader)
    marks: dict[str, Any] = {key: row.get(("configs", CHECKPOINT, key)) for key in ("clients", "digests")}
    if None in marks.values():  # not there, or of thousands of clients and stored as datasets
        records = reader.index.records
        numbers = [
            number
            for number, record in enumerate(records)
            if record.kind == KIND_CONFIGS and record.name == CHECKPOINT
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
        raise HostileFileError("names of clients that are none", path=reader.path) from error
    return dict(zip(names, digests, strict=True))
