"""Reads every byte of a round and its client files: every damage is a line of the report, no exception."""

from __future__ import annotations

from collections.abc import Callable

from archive import reading
from archive.checkpoints.paths import round_path
from archive.checkpoints.roundfile import (
    UNREADABLE,
    ClientFile,
    RoundReport,
    clients_of,
    curve_of,
    describe,
    open_file,
    read_digest,
)
from archive.errors import ArchiveError, StorageError
from archive.storage.remedies import SYSTEM_ERRNOS
from archive.storage.url import Location
from archive.workers import map_archives

__all__ = ["check_round", "digest_now", "problem_of"]

At = Callable[[str], Location]
"""Returns the location of a file of the store."""


def check_round(at: At, number: int) -> tuple[RoundReport, str]:
    """Return the outcome for what is there now, and the digest of the round file.

    Raises
    ------
    StorageError
        The network failed, or the system lacks memory or descriptors.
    """
    path, digest = round_path(number), ""
    clients: dict[str, ClientFile] = {}
    try:
        # `open_file` asks for the values, which may be what is damaged
        with reading.open(at(path)) as handle:
            digest = handle._reader.identity.hex()
            problem = describe(handle.verify())
            if not problem:
                clients = clients_of(handle._reader, number) or {}
                curve_of(handle._reader)
    except (*UNREADABLE, StorageError) as error:
        problem = problem_of(error, remote=at(path).remote)
    failures = [f"{path}: {problem}" if problem else ""]
    failures += map_archives(lambda file: _check_client(at, file), clients.values(), remote=at(path).remote)
    return RoundReport(number, 1 + len(clients), tuple(filter(None, failures))), digest


def digest_now(location: Location) -> str:
    """Return the digest of a file as it is now; empty where the file cannot be read."""
    try:
        return read_digest(location)
    except StorageError as error:
        problem_of(error, remote=location.remote)
        return ""


def problem_of(error: ArchiveError, *, remote: bool) -> str:
    """Return what is wrong with a file that could not be read; raise what is wrong with anything else."""
    if isinstance(error, StorageError) and (remote or error.errno in SYSTEM_ERRNOS):
        raise error
    return f"{error.key}: {error.problem}" if error.key else error.problem


def _check_client(at: At, file: ClientFile) -> str:
    place = at(file.path)
    try:
        with open_file(place, digest=file.digest) as handle:
            problem = describe(handle.verify())
    except (*UNREADABLE, StorageError) as error:
        problem = problem_of(error, remote=place.remote)
    return f"{file.path}: {problem}" if problem else ""
