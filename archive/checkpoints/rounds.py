"""Files of a store: saves, opens, verifies and removes rounds; the caller decides when."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Iterable, Mapping
from typing import Any

from archive import writing
from archive.checkpoints.columns import Row, read_row
from archive.checkpoints.paths import client_path, parse_client, parse_round, round_path, spell, unspell
from archive.checkpoints.retention import Goal, best_round, metric_of
from archive.checkpoints.roundfile import (
    DAMAGE,
    RoundReport,
    client_marks,
    describe,
    is_client,
    open_file,
    read_client,
    read_clients,
    round_marks,
)
from archive.engine.read.handle import Archive
from archive.engine.report import SaveReport
from archive.errors import (
    ArchiveError,
    DamagedError,
    ExistsError,
    MissingError,
    ReplacedError,
    VersionError,
)
from archive.storage.folder import (
    Entry,
    absolute_url,
    file_exists,
    is_remote,
    join,
    list_files,
    make_place,
    remove_empty,
    remove_file,
    remove_if,
)
from archive.storage.url import URL, parse_url
from archive.tools.collection import collect_garbage
from archive.workers import map_archives

__all__ = ["Rounds"]


class Rounds:
    """Rounds and client files in a folder; parameters are those of `CheckpointStore`."""

    def __init__(self, url: URL, storage_options: Mapping[str, Any] | None) -> None:
        self.url = absolute_url(url, storage_options)
        """The folder, absolute."""
        self.options = storage_options
        self.remote = is_remote(self.url, storage_options)
        """Whether the folder is remote."""
        self._own: dict[int, dict[str, str]] = {}  # by round: digests of client files this store saved

    def path(self, path: str) -> str:
        """Return the URL of a file."""
        return join(self.url, path)

    def numbers(self) -> list[int]:
        """Return the numbers of all rounds, oldest first."""
        files = list_files(self.path("rounds"), self.options, below=False)
        return sorted(number for file in files if (number := parse_round(file.path)) is not None)

    def require(self, number: int) -> int:
        """Return the number of an existing round; MissingError where there is none."""
        if not file_exists(self.path(round_path(number)), self.options):
            raise self._missing(f"there is no round {number}")
        return number

    def newest(self) -> int:
        """Return the newest round; MissingError where there is none."""
        numbers = self.numbers()
        if not numbers:
            raise self._missing("no round was saved")
        return numbers[-1]

    # Saving

    def save_client(
        self, number: int, spelled: str, records: Any, metrics: Mapping[str, Any] | None
    ) -> SaveReport:
        """Save a client's file of a future round."""
        self._require_new(number)
        url = make_place(self.url, client_path(number, spelled), self.options)
        marks = client_marks(number, spelled)
        report = writing.save(records, url, metrics=metrics, configs=marks, storage_options=self.options)
        self._own.setdefault(number, {})[spelled] = report.digest
        return report

    def save_round(self, number: int, records: Any, metrics: Mapping[str, Any] | None) -> SaveReport:
        """Save a round; ExistsError where another process was faster."""
        self._require_new(number)
        url = make_place(self.url, round_path(number), self.options)
        marks = round_marks(number, self._found_clients(number))
        try:
            report = writing.save(
                records,
                url,
                metrics=metrics,
                configs=marks,
                overwrite=False,
                storage_options=self.options,
            )
        except ExistsError:
            self._own.pop(number, None)
            raise
        self._own.pop(number, None)
        return report

    def _require_new(self, number: int) -> None:
        if file_exists(self.path(round_path(number)), self.options):
            self._own.pop(number, None)  # another process was faster, and its clients are those of the round
            raise ExistsError(
                f"round {number} is there already, and complete",
                path=self._shown(round_path(number)),
                errno=errno.EEXIST,
                remedy="save the next one, or remove it first where it is damaged",
            )

    def _found_clients(self, number: int) -> dict[str, str]:
        """Return names and digests of the client files of a future round."""
        own = self._own.get(number)
        if own is not None:
            found = map_archives(
                lambda spelled: read_client(self.path(client_path(number, spelled)), self.options)[1],
                own,
                remote=self.remote,
            )
            for spelled, digest in zip(own, found, strict=True):
                if digest != own[spelled]:
                    raise ReplacedError(
                        f"another process replaced what client {unspell(spelled)!r} sent for round {number}",
                        path=self._shown(client_path(number, spelled)),
                        remedy="let one process at a time run an experiment; this round was not saved",
                    )
            return own
        return self._listed_clients(number)

    def _listed_clients(self, number: int) -> dict[str, str]:
        """Return names and digests of the client files in a round's folder."""
        folder = _folder(number)
        paths = [f"{folder}/{entry.path}" for entry in list_files(self.path(folder), self.options)]
        paths = sorted(path for path in paths if parse_client(path.removeprefix("rounds/")))
        found = map_archives(
            lambda path: read_client(self.path(path), self.options), paths, remote=self.remote
        )
        clients = {}
        for path, (spelled, digest) in zip(paths, found, strict=True):
            if spelled is None or client_path(number, spelled) != path:
                raise DamagedError(
                    f"not the file of a client of round {number}",
                    path=self._shown(path),
                    remedy="move it away; this round was not saved",
                )
            clients[spelled] = digest
        return clients

    # Reading

    def open(self, number: int, client: str | None, mode: str, verify: str) -> Archive:
        """Open a round or a client's file of it."""
        if client is None:
            self.require(number)
            return open_file(self.path(round_path(number)), self.options, mode=mode, verify=verify)
        spelled = spell(client)
        digest = self.clients(self.require(number)).get(spelled)
        if digest is None:
            raise self._missing(f"client {client!r} has no file in round {number}")
        url = self.path(client_path(number, spelled))
        return open_file(url, self.options, mode=mode, verify=verify, digest=digest)

    def clients(self, number: int) -> dict[str, str]:
        """Return spelled names and digests of the clients of a round."""
        return read_clients(self.path(round_path(number)), self.options) or {}

    def stems(self, number: int) -> set[str] | None:
        """Return the names of the client files of a round; None where its file cannot be read."""
        try:
            found = read_clients(self.path(round_path(number)), self.options)
        except (*DAMAGE, MissingError, VersionError):
            return None
        return None if found is None else _stems(number, found)

    def pending(self) -> dict[int, set[str] | None]:
        """Return the names of the client files that this store saved for future rounds."""
        return {number: _stems(number, own) for number, own in self._own.items()}

    def row(self, number: int) -> Row:
        """Return the metrics and configs of a round."""
        return read_row(self.path(round_path(number)), self.options)

    def best(self, goal: Goal) -> tuple[int | None, list[tuple[int, ArchiveError]]]:
        """Return the best of the rounds that can be read, and those that cannot."""
        values: dict[int, float] = {}
        damaged: list[tuple[int, ArchiveError]] = []

        def read(number: int) -> Row | ArchiveError | None:
            try:
                return self.row(number)
            except MissingError:
                return None  # removed meanwhile
            except DAMAGE as error:
                return error

        numbers = self.numbers()
        for number, found in zip(numbers, map_archives(read, numbers, remote=self.remote), strict=True):
            if isinstance(found, ArchiveError):
                damaged.append((number, found))
            elif found is not None:
                value = metric_of(found, goal)
                if value is not None:
                    values[number] = value
        return best_round(values, goal), damaged

    def verify(self, number: int) -> RoundReport:
        """Read every byte of a round and its client files."""
        path = round_path(number)
        failures = [self._verify_file(path, None)]
        clients: dict[str, str] = {}
        if not failures[0]:
            clients = self.clients(number)
            failures += map_archives(
                lambda spelled: self._verify_file(client_path(number, spelled), clients[spelled]),
                clients,
                remote=self.remote,
            )
        return RoundReport(number, 1 + len(clients), tuple(filter(None, failures)))

    def newest_whole(self) -> int | None:
        """Return the newest round of which every byte verifies; None where none does."""
        return next((number for number in reversed(self.numbers()) if self.verify(number)), None)

    def _verify_file(self, path: str, digest: str | None) -> str:
        try:
            with open_file(self.path(path), self.options, digest=digest) as handle:
                problem = describe(handle.verify())
        except (*DAMAGE, MissingError) as error:
            problem = error.problem
        return f"{path}: {problem}" if problem else ""

    # Removing

    def remove(self, number: int) -> None:
        """Remove a round, then its client files; after a kill in between `collect` removes them."""
        named = self.stems(number) or set()
        self._remove_file(round_path(number))
        folder = _folder(number)
        for entry in list(list_files(self.url, self.options, path=folder)):
            path = f"{folder}/{entry.path}"
            client = parse_client(path.removeprefix("rounds/"))
            if client is None:
                continue
            if client[1] in named:
                self._remove_file(path)
            else:
                self._remove_client(path)
        remove_empty(self.url, folder, self.options)

    def collect(self, older_than: float) -> list[str]:
        """Remove garbage older than so many seconds, and return the paths."""
        before = time.time() - older_than
        # list files first: those of a round that is saved meanwhile are no garbage
        entries = list(list_files(self.url, self.options, path="rounds"))
        removed = [
            path
            for path in self._unnamed(entry for entry in entries if entry.modified <= before)
            if self._remove_client(path)
        ]
        shown = parse_url(self.url, self.options).display + "/"
        for path in ("rounds", "contexts"):
            with contextlib.suppress(MissingError):  # there is no store yet
                found = collect_garbage(
                    self.url, older_than=older_than, storage_options=self.options, path=path
                )
                removed += [garbage.path.removeprefix(shown) for garbage in found]
        for folder in {entry.path.rpartition("/")[0] for entry in entries}:
            if parse_round(f"{folder}.h5") is not None:
                remove_empty(self.url, f"rounds/{folder}", self.options)
        return removed

    def _unnamed(self, entries: Iterable[Entry]) -> list[str]:
        """Return the paths of client files that no round names or will name."""
        clients = [(entry.path, found) for entry in entries if (found := parse_client(entry.path))]
        there = set(self.numbers()) & {number for _, (number, _) in clients}
        named = self.pending() | {number: self.stems(number) for number in there}
        unnamed = []
        for path, (number, stem) in clients:
            stems = named.get(number, set())
            if stems is not None and stem not in stems:  # None: the round cannot tell
                unnamed.append(f"rounds/{path}")
        return unnamed

    def _remove_client(self, path: str) -> bool:
        """Remove a file if its content is that of a client, and return whether it was."""
        number = int(path.split("/")[1])
        return remove_if(self.url, path, lambda source: is_client(source, number, path), self.options)

    def _remove_file(self, path: str) -> None:
        with contextlib.suppress(MissingError):  # another process was faster
            remove_file(self.url, path, self.options)

    def _missing(self, problem: str) -> MissingError:
        return MissingError(
            problem,
            path=parse_url(self.url, self.options).display,
            errno=errno.ENOENT,
            remedy="see rounds() and clients()",
        )

    def _shown(self, path: str) -> str:
        return parse_url(self.path(path), self.options).display


def _folder(number: int) -> str:
    return round_path(number).removesuffix(".h5")


def _stems(number: int, clients: Iterable[str]) -> set[str]:
    return {client_path(number, spelled).rpartition("/")[2].removesuffix(".h5") for spelled in clients}
