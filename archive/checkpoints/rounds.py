"""The files of a store: saving, opening, verifying and removing rounds; whoever calls decides when."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Mapping
from typing import Any

from archive import writing
from archive.checkpoints.background import side_by_side
from archive.checkpoints.columns import Row, read_row
from archive.checkpoints.layout import client_path, parse_client, parse_round, round_path, spell, unspell
from archive.checkpoints.retention import Goal, best_round, metric_of
from archive.checkpoints.roundfile import (
    DAMAGE,
    RoundReport,
    client_marks,
    describe,
    open_file,
    read_client,
    read_clients,
    round_marks,
)
from archive.engine.archive import Archive
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, DamagedError, ExistsError, MissingError, ReplacedError
from archive.storage.folder import (
    absolute_url,
    file_exists,
    is_remote,
    join,
    list_files,
    make_folder,
    remove_empty,
    remove_file,
)
from archive.storage.url import URL, parse_url

__all__ = ["Rounds"]


class Rounds:
    """Rounds and client files in a folder; parameters are those of `CheckpointStore`."""

    def __init__(self, url: URL, storage_options: Mapping[str, Any] | None) -> None:
        self.url = absolute_url(url, storage_options)
        """The folder, absolute."""
        self.options = storage_options
        self.remote = is_remote(self.url, storage_options)
        """Whether it is behind a network."""
        self._own: dict[int, dict[str, str]] = {}  # digests of client files that were saved here, by round

    def path(self, path: str) -> str:
        """Return the URL of a file."""
        return join(self.url, path)

    def numbers(self) -> list[int]:
        """Return the rounds that are there, oldest first."""
        files = list_files(self.path("rounds"), self.options, below=False)
        return sorted(number for file in files if (number := parse_round(file.path)) is not None)

    def require(self, number: int) -> int:
        """Return the number of a round that is there; MissingError where it is not."""
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
        """Save a client's file of a round that is to come."""
        self._require_new(number)
        url = self.path(client_path(number, spelled))
        make_folder(self.path(round_path(number).removesuffix(".h5")), self.options)
        marks = client_marks(number, spelled)
        report = writing.save(records, url, metrics=metrics, configs=marks, storage_options=self.options)
        self._own.setdefault(number, {})[spelled] = report.digest
        return report

    def save_round(self, number: int, records: Any, metrics: Mapping[str, Any] | None) -> SaveReport:
        """Save a round: it exists when this returns, or another process was faster."""
        self._require_new(number)
        make_folder(self.path("rounds"), self.options)
        try:
            report = writing.save(
                records,
                self.path(round_path(number)),
                metrics=metrics,
                configs=round_marks(number, self._found_clients(number)),
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
        """Return names and digests of the client files of a round that is to be saved."""
        own = self._own.get(number)
        if own is not None:
            found = side_by_side(
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
        """Return names and digests of the client files that lie in a round's folder."""
        folder = round_path(number).removesuffix(".h5")
        paths = [f"{folder}/{entry.path}" for entry in list_files(self.path(folder), self.options)]
        paths = sorted(path for path in paths if parse_client(path.removeprefix("rounds/")))
        found = side_by_side(
            lambda path: read_client(self.path(path), self.options), paths, remote=self.remote
        )
        clients = {}
        for path, (spelled, digest) in zip(paths, found, strict=True):
            if spelled is None or client_path(number, spelled) != path:
                raise DamagedError(
                    f"no file of a client of round {number}",
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
            raise self._missing(f"client {client!r} has no part in round {number}")
        url = self.path(client_path(number, spelled))
        return open_file(url, self.options, mode=mode, verify=verify, digest=digest)

    def clients(self, number: int) -> dict[str, str]:
        """Return spelled names and digests of the clients of a round."""
        return read_clients(self.path(round_path(number)), self.options) or {}

    def stems(self, number: int) -> set[str] | None:
        """Return the names of the client files of a round; None where it cannot be told."""
        try:
            found = read_clients(self.path(round_path(number)), self.options)
        except (*DAMAGE, MissingError):
            return None
        return None if found is None else _stems(number, found)

    def pending(self) -> dict[int, set[str]]:
        """Return the names of the client files that were saved here, of rounds that are to come."""
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
        for number, found in zip(numbers, side_by_side(read, numbers, remote=self.remote), strict=True):
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
            failures += side_by_side(
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
        """Remove a round, then its client files: killed between, they are orphans and the round is gone."""
        self._remove_file(round_path(number))
        folder = round_path(number).removesuffix(".h5")
        for entry in list(list_files(self.path(folder), self.options)):
            if parse_client(f"{folder}/{entry.path}".removeprefix("rounds/")):
                self._remove_file(f"{folder}/{entry.path}")
        remove_empty(self.path(folder), self.options)

    def _remove_file(self, path: str) -> None:
        with contextlib.suppress(MissingError):  # another process was faster
            remove_file(self.path(path), self.options)

    def _missing(self, problem: str) -> MissingError:
        return MissingError(
            problem,
            path=parse_url(self.url, self.options).display,
            errno=errno.ENOENT,
            remedy="see rounds() and clients()",
        )

    def _shown(self, path: str) -> str:
        return parse_url(self.path(path), self.options).display


def _stems(number: int, clients: Iterable[str]) -> set[str]:
    return {client_path(number, spelled).rpartition("/")[2].removesuffix(".h5") for spelled in clients}
