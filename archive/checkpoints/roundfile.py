"""Configs that name a file of a round or client: written with the file, compared when it is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from archive import reading
from archive.checkpoints.curve import CURVE, CURVE_KEYS, Curve, parse_curve, scalars_of
from archive.checkpoints.filecontent import OWN_RECORDS
from archive.checkpoints.lineage import Line, parse_chain, parse_token
from archive.checkpoints.paths import RESUME, client_path, is_write
from archive.checkpoints.retention import Goal, Policy, parse_goal
from archive.display.shortfields import ShortFields
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader, read_source
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import record_values
from archive.engine.report import VerifyReport
from archive.errors import (
    ArchiveError,
    DamagedError,
    HostileFileError,
    MissingError,
    NotAnArchiveError,
    ReplacedError,
    TruncatedError,
    ValueRangeError,
    VersionError,
)
from archive.format.constants import KIND_CONFIGS
from archive.format.index import RecordName
from archive.reading import Mode, Verify
from archive.storage.protocols import Source
from archive.storage.url import Location
from archive.tools.archivefacts import Facts, facts_of
from archive.tools.columns import Row, row_of
from archive.tools.spelling import CHECKPOINT, unspell

__all__ = [
    "DAMAGE",
    "GONE",
    "UNREADABLE",
    "ClientFile",
    "Past",
    "RoundFile",
    "RoundReport",
    "client_marks",
    "client_of",
    "clients_of",
    "curve_of",
    "describe",
    "goal_of",
    "is_client",
    "is_named",
    "line_of",
    "open_file",
    "open_named",
    "read_curve",
    "read_digest",
    "read_past",
    "read_round",
    "require_same",
    "round_marks",
]

DAMAGE = (DamagedError, TruncatedError, NotAnArchiveError, HostileFileError)
"""Errors of a file that differs from what was saved."""
GONE = (MissingError, ReplacedError)
"""Errors of a file that was removed or replaced meanwhile."""
UNREADABLE = (*DAMAGE, *GONE, VersionError)
"""These, and that of a file of a version to come."""
T = TypeVar("T")
_MARKS = ("clients", "digests", "writes")


@dataclass(frozen=True, slots=True, repr=False)
class RoundReport(ShortFields):
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


@dataclass(frozen=True, slots=True)
class ClientFile:
    """Which file a client has in a round."""

    round: int
    """Number of the round."""
    spelled: str
    """Name of the client, as `spell` has it."""
    write: str
    """What keeps its name apart from that of an earlier file of this client; usually empty."""
    digest: str
    """Digest of the file."""

    @property
    def name(self) -> str:
        """Name of the client."""
        return unspell(self.spelled)

    @property
    def path(self) -> str:
        """Its path in the store."""
        return client_path(self.round, self.spelled, self.write)


@dataclass(frozen=True, slots=True)
class RoundFile:
    """What the index of a round file holds."""

    round: int
    """Number of the round."""
    facts: Facts
    """Its values, and what else is known without reading an array."""
    clients: dict[str, ClientFile] | None
    """Client files by name; None where the file names none."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the next round takes over from a round."""

    number: int = -1
    """Number of the round; -1 before the first."""
    goal: Goal | None = None
    """What makes a round the best."""
    curve: Curve = field(default_factory=Curve)
    """Metrics of this round and of those before."""


def round_marks(
    number: int, clients: Mapping[str, ClientFile], past: Past, goal: Goal | None, policy: Policy
) -> dict[str, dict[str, Any]]:
    """Return the configs of a round file: client files, goal, what is kept, and the curve before it."""
    files = clients.values()
    spelled = [file.spelled for file in files]
    marks = {"round": number, "clients": spelled, "digests": [file.digest for file in files]}
    writes = [file.write for file in files]
    marks |= {"writes": writes} if any(writes) else {}
    marks |= {"best_by": [goal.metric, goal.word]} if goal else {}
    kept = {"keep_last": policy.last, "keep_every": policy.every}
    marks |= {key: value for key, value in kept.items() if value is not None}
    return {CHECKPOINT: marks, **({CURVE: past.curve.values()} if past.curve.rounds else {})}


def client_marks(number: int, spelled: str, write: str) -> dict[str, dict[str, Any]]:
    """Return the configs that name the client and round of a client file."""
    return {CHECKPOINT: {"round": number, "client": spelled, **({"write": write} if write else {})}}


def open_file(
    location: Location,
    *,
    mode: Mode = "r",
    verify: Verify = "first",
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
    handle = reading.open(location, mode=mode, verify=verify)
    try:
        _require_named(handle, digest, location)
        handle._hidden = OWN_RECORDS
        _ = handle.records  # an error of its values comes now
    except ArchiveError:
        handle.close()
        raise
    return handle


def open_named(location: Location, digest: str | None) -> Archive:
    """Open a file of a store for some of its arrays; its records are not looked at.

    Raises
    ------
    DamagedError, ArchiveError
        As for `open_file`.
    """
    # no map: whether a file may be mapped takes as long to find out as to open it
    handle = reading.open(location, access="auto" if location.remote else "pread")
    try:
        _require_named(handle, digest, location)
    except ArchiveError:
        handle.close()
        raise
    return handle


def _require_named(handle: Archive, digest: str | None, location: Location) -> None:
    if digest is not None:
        require_same(handle._reader.identity.hex(), digest, location.display)


def require_same(digest: str, named: str, path: str) -> None:
    """Raise DamagedError unless a client's file has the digest that its round names."""
    if digest != named:
        raise DamagedError(
            "its round was saved with another file",
            path=path,
            remedy="something replaced it afterwards: take a copy, or an earlier round",
        )


def read_round(location: Location, number: int) -> RoundFile:
    """Return what the index of a round file holds.

    Raises
    ------
    ArchiveError
        The round file is missing or damaged.
    """

    def read(reader: Reader) -> RoundFile:
        return RoundFile(number, facts_of(reader), clients_of(reader, number))

    return _read(location, read)


def read_past(location: Location, number: int) -> Past:
    """Return what the round after this one takes over.

    Raises
    ------
    ArchiveError
        The round file is missing or damaged.
    """

    def read(reader: Reader) -> Past:
        row = row_of(reader.values)
        return Past(number, goal_of(row), curve_of(reader).after(number, scalars_of(row)))

    return _read(location, read)


def read_curve(location: Location) -> Curve:
    """Return the metrics of the rounds before a round, as its file has them.

    Raises
    ------
    ArchiveError
        The round file is missing or damaged.
    """
    return _read(location, curve_of)


def goal_of(row: Row) -> Goal | None:
    """Return what makes a round the best, as the file of a round says it."""
    found: Any = row.get(("configs", CHECKPOINT, "best_by"))
    try:
        metric, word = found
        return parse_goal((metric, word))
    except (TypeError, ValueError):
        return None


def line_of(row: Row) -> Line | None:
    """Return the attempt that saved a round, as its file says; None where no resumable server saved it."""
    token, ancestors = (row.get(("configs", RESUME, key)) for key in ("token", "ancestors"))
    try:
        return Line(parse_token(token), parse_chain(json.loads(str(ancestors))))
    except (ValueError, TypeError, RecursionError):
        return None


def curve_of(reader: Reader) -> Curve:
    """Return the curve that an open round file carries."""
    record = RecordName(KIND_CONFIGS, CURVE)
    if record not in reader.index.records:
        return Curve()
    row = row_of(reader.values)
    values = {key: value for (kind, name, key), value in row.items() if (kind, name) == ("configs", CURVE)}
    if len(values) < CURVE_KEYS:  # the others are datasets because there are thousands of rounds
        values = record_values(reader, "values").get(record, {})
    return parse_curve(values, reader.path)


def client_of(facts: Facts) -> ClientFile | None:
    """Return which file of which round a client file is, by what it says; None where it does not say."""
    row = facts.row
    number, spelled = (row.get(("configs", CHECKPOINT, key)) for key in ("round", "client"))
    write = row.get(("configs", CHECKPOINT, "write"), "")
    if not isinstance(number, int) or not isinstance(spelled, str) or not is_write(write):
        return None
    return ClientFile(number, spelled, str(write), facts.digest)


def read_digest(location: Location) -> str:
    """Return the digest of a file; empty where it is missing or damaged."""
    try:
        return _read(location, lambda reader: reader.identity.hex())
    except UNREADABLE:
        return ""


def is_client(source: Source, path: str) -> bool:
    """Return whether an open file says of itself that it is the client file of this path."""
    try:
        found = client_of(facts_of(read_source(source)))
    except (*DAMAGE, VersionError):
        return False
    return found is not None and found.path == path


def is_named(source: Source, digest: str) -> bool:
    """Return whether an open file is the one that a round named, perhaps damaged since, and no later one."""
    try:
        return read_source(source).identity.hex() == digest
    except (*DAMAGE, VersionError):
        return True


def describe(report: VerifyReport) -> str:
    """Return the result of verifying a file in a few words; empty where every byte matches."""
    if report.ok:
        return ""
    if not report.failures:
        return "has no digests"
    first = report.failures[0]
    more = f", and {len(report.failures) - 1} more places" if len(report.failures) > 1 else ""
    return f"{first.name or first.key}: {first.problem}{more}"


def _read(location: Location, read: Callable[[Reader], T]) -> T:
    """Return what a function reads from the index of a file."""
    reader = open_reader(location, access="pread", verify="first")
    try:
        return read(reader)
    finally:
        reader.close()


def clients_of(reader: Reader, number: int) -> dict[str, ClientFile] | None:
    """Return the client files that an open round file names; None where it names none."""
    row = row_of(reader.values)
    marks: dict[str, Any] = {key: row.get(("configs", CHECKPOINT, key)) for key in _MARKS}
    if marks["clients"] is None or marks["digests"] is None:
        # absent, or stored as datasets because there are thousands of clients
        record = RecordName(KIND_CONFIGS, CHECKPOINT)
        if record not in reader.index.records:
            return None
        marks |= record_values(reader, "values").get(record, {})
    names, digests, writes = (marks[key] for key in _MARKS)
    try:
        writes = [""] * len(names) if writes is None else writes
        clients = list(map(unspell, names))
        if not len(names) == len(digests) == len(writes) or len(set(clients)) != len(clients):
            raise HostileFileError("names and digests of clients that do not match", path=reader.path)
        if not all(map(is_write, writes)):
            raise HostileFileError("invalid names of client files", path=reader.path)
    except (TypeError, ValueRangeError) as error:
        raise HostileFileError("invalid names of clients", path=reader.path) from error
    found = zip(clients, names, writes, digests, strict=True)
    return {client: ClientFile(number, name, write, digest) for client, name, write, digest in found}
