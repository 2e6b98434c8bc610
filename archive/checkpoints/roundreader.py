"""Reads the rounds of a store, while other processes save and remove some.

A round exists as long as its file does, and some round exists throughout. So what was listed and is gone by
the time that it is read is no error: the rounds are listed again.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from archive import tuning
from archive.checkpoints.paths import require_experiment, round_path
from archive.checkpoints.retention import Goal, best_round, metric_of
from archive.checkpoints.roundcheck import check_round, digest_now
from archive.checkpoints.roundfile import (
    DAMAGE,
    GONE,
    UNREADABLE,
    ClientFile,
    RoundFile,
    RoundReport,
    goal_of,
    open_file,
    read_round,
)
from archive.checkpoints.stacks import StackedFile
from archive.engine.read.handle import Archive
from archive.errors import (
    ArchiveError,
    DamagedError,
    MissingError,
    StorageError,
    UnsupportedURLError,
)
from archive.reading import Mode, Verify
from archive.storage.folder import Entry, file_exists, join, list_files, locate_folder
from archive.storage.subfolders import find_subfolders
from archive.storage.url import URL, Cache, Location
from archive.tools.columns import Row, read_row
from archive.tools.spelling import RUN_FOLDERS, parse_round
from archive.workers import map_archives

__all__ = ["RoundReader", "several_runs"]

T = TypeVar("T")
R = TypeVar("R")
SHOWN_RUNS = 20
"""Experiments that an error names."""
LISTINGS = 3
"""A listing that is made while one round appears and the last is removed may show neither; the next does."""


class RoundReader:
    """Rounds and client files in a folder, to be read; parameters are those of `CheckpointStore`."""

    def __init__(
        self,
        url: URL,
        experiment: str | None,
        storage_options: Mapping[str, Any] | None,
        cache: Cache,
        cache_bytes: int | None,
    ) -> None:
        self.location: Location = locate_folder(url, storage_options, cache, cache_bytes)
        """The folder of the run; until it is found the given folder. Pickled without secrets."""
        self._found = experiment is not None
        if experiment is not None:
            place = join(self.location.path, require_experiment(experiment))
            self.location = replace(self.location, path=place)

    def find(self, *, keep: bool = False) -> None:
        """Find the run in the given folder: the folder itself, or the only experiment in it.

        Where there is none yet, the folder itself is taken; for good with ``keep``, and where nobody may list
        (a web server; a bucket of which one may read and write objects).

        Raises
        ------
        MissingError
            There are several.
        StorageError
            The folder cannot be read.
        """
        if self._found:
            return
        try:
            runs = find_subfolders(self.location.path, RUN_FOLDERS, self.location.options)
        except (UnsupportedURLError, StorageError) as error:
            if isinstance(error, StorageError) and error.errno not in (errno.EACCES, errno.EPERM):
                raise
            runs = [""]
        if len(runs) > 1:
            raise several_runs(self.location.display, runs, f"experiment={runs[0]!r}")
        if runs and runs[0]:
            self.location = replace(self.location, path=join(self.location.path, runs[0]))
        self._found = keep or bool(runs)

    @property
    def remote(self) -> bool:
        """Whether the folder is remote."""
        return self.location.remote

    def path(self, path: str) -> str:
        """Return the URL of a file."""
        return join(self.location.path, path)

    def shown(self, path: str) -> str:
        """Return the URL of a file without secrets."""
        return self.at(path).display

    def at(self, path: str, *, cached: bool = False) -> Location:
        """Return the location of a file; ``cached``: with the cache of the store."""
        cache = self.location.cache if cached else ""
        return replace(self.location, path=self.path(path), cache=cache)

    def numbers(self) -> list[int]:
        """Return the numbers of all rounds, oldest first."""
        return list(self.listed())

    def listed(self) -> dict[int, Entry]:
        """Return the files of all rounds by number, oldest first."""
        found: list[tuple[int, Entry]] = []
        for _ in range(LISTINGS):
            files = list_files(self.path("rounds"), self.location.options, below=False)
            numbered = ((parse_round(file.path), file) for file in files)
            found = [(number, file) for number, file in numbered if number is not None]
            if found:
                break
        return dict(sorted(found, key=lambda pair: pair[0]))

    def listed_clients(self, numbers: Sequence[int], files: int) -> dict[str, Entry]:
        """Return the files in the folders of rounds at least, by their path in the run.

        A remote folder tells a thousand names a request: ranges of them are listed side by side, as many as
        the number of ``files`` that may be there is worth.
        """
        most = min(tuning.LISTINGS, 1 + files // tuning.LISTED_FILES) if self.remote else 1
        each = max(1, -(-len(numbers) // most))
        spans = [
            (f"{numbers[at]:08d}/", f"{numbers[min(at + each, len(numbers)) - 1]:08d}0")
            for at in range(0, len(numbers), each)
        ]

        def read(span: tuple[str, str]) -> list[Entry]:
            return list(list_files(self.path("rounds"), self.location.options, span=span))

        listed = map_archives(read, spans, remote=self.remote)
        return {f"rounds/{entry.path}": entry for entries in listed for entry in entries}

    def exists(self, number: int) -> bool:
        """Return whether a round exists."""
        return file_exists(self.path(round_path(number)), self.location.options)

    def require(self, number: int) -> int:
        """Return the number of an existing round; MissingError where there is none."""
        if not self.exists(number):
            raise self._missing(f"there is no round {number}")
        return number

    def newest(self) -> int:
        """Return the newest round; MissingError where there is none."""
        numbers = self.numbers()
        if not numbers:
            raise self._missing("no round was saved")
        return numbers[-1]

    def open(self, number: int, client: str | None, mode: Mode, verify: Verify) -> Archive:
        """Open a round or a client's file of it."""
        self.require(number)
        if client is None:
            return open_file(self.at(round_path(number), cached=True), mode=mode, verify=verify)
        while True:
            file = self._client(number, client)
            try:
                place = self.at(file.path, cached=True)
                return open_file(place, mode=mode, verify=verify, digest=file.digest)
            except (DamagedError, *GONE):
                self.require(number)  # removed meanwhile, or saved anew
                if self._client(number, client) == file:
                    raise

    def open_found(self, find: Callable[[], int], client: str | None, mode: Mode, verify: Verify) -> Archive:
        """Open the round that is found; another one where it is removed before it is open."""
        number = find()
        while True:
            try:
                return self.open(number, client, mode, verify)
            except DAMAGE as error:
                whole = self.newest_whole()
                error.remedy = (
                    "no round verifies"
                    if whole is None
                    else f"round {whole} is the newest that verifies: open({whole})"
                )
                raise
            except GONE:
                if self.exists(number) or (another := find()) == number:
                    raise
                number = another

    def clients(self, number: int) -> dict[str, ClientFile]:
        """Return the client files of a round by name."""
        return self.read_round(number).clients or {}

    def client_files(self, number: int) -> list[StackedFile]:
        """Return the files of the clients of a round, sorted by name."""
        return [
            StackedFile(number, name, self.at(file.path, cached=True), file.digest)
            for name, file in sorted(self.clients(number).items())
        ]

    def stacked_file(self, number: int, client: str | None) -> StackedFile:
        """Return the file of a round, or of a client in it; MissingError where there is none."""
        if client is None:
            return StackedFile(self.require(number), None, self.at(round_path(number), cached=True), None)
        file = self._client(self.require(number), client)
        return StackedFile(number, client, self.at(file.path, cached=True), file.digest)

    def row(self, number: int) -> Row:
        """Return the metrics and configs of a round."""
        return read_row(self.at(round_path(number)))

    def best(self, goal: Goal) -> tuple[int | None, list[tuple[int, ArchiveError]]]:
        """Return the best of the rounds that can be read, and those that cannot."""
        values: dict[int, float] = {}
        damaged: list[tuple[int, ArchiveError]] = []

        def read(number: int) -> Row | ArchiveError:
            try:
                return self.row(number)
            except DAMAGE as error:
                return error

        rows: dict[int, Row | ArchiveError] = self.read_all(
            lambda listed: self.map_present(read, list(listed))
        )
        for number, found in rows.items():
            if isinstance(found, ArchiveError):
                damaged.append((number, found))
            elif (value := metric_of(found, goal)) is not None:
                values[number] = value
        return best_round(values, goal), damaged

    def goal(self) -> Goal | None:
        """Return what makes a round the best, as the newest round says that says it; None where none does."""
        for number in reversed(self.numbers()):
            with contextlib.suppress(*UNREADABLE):
                if (goal := goal_of(self.row(number))) is not None:
                    return goal
        return None

    def verify(self, number: int) -> RoundReport:
        """Read every byte of a round and its client files; MissingError where it is removed meanwhile."""
        while True:
            report, digest = check_round(self.at, number)
            if report:
                return report
            self.require(number)
            if digest_now(self.at(round_path(number))) == digest:
                return report

    def require_best(self, goal: Goal) -> int:
        """Return the best round.

        Raises
        ------
        ArchiveError
            A round that cannot be read may be the best.
        MissingError
            No round has the metric.
        """
        best, damaged = self.best(goal)
        if damaged:
            number, error = damaged[-1]
            error.remedy = f"it may be the best: remove({number}), or open a round by its number" + (
                f"; of the others {best} is the best" if best is not None else ""
            )
            raise error
        if best is None:
            raise MissingError(
                f"no round has the metric {goal.metric!r}",
                path=self.location.display,
                remedy="pass metrics= to save()",
            )
        return best

    def newest_whole(self) -> int | None:
        """Return the newest round of which every byte verifies; None where none does."""
        for number in reversed(self.numbers()):
            try:
                if self.verify(number):
                    return number
            except GONE:
                continue  # removed meanwhile
        return None

    def read_all(self, read: Callable[[Mapping[int, Entry]], Sequence[T | None]]) -> dict[int, T]:
        """Return what is read of each round, oldest first.

        ``read`` takes rounds as they are listed, and returns None for one that was removed meanwhile. Then
        those that were saved meanwhile are read too: one of them may have taken its place.
        """
        found: dict[int, T | None] = {}
        while True:
            listed = self.listed()
            new = {number: entry for number, entry in listed.items() if number not in found}
            made = read(new)
            found.update(zip(new, made, strict=True))
            if None not in made:
                return {n: value for n in listed if (value := found[n]) is not None}

    def map_present(self, read: Callable[[T], R], items: Sequence[T]) -> list[R | None]:
        """Return what is read of each item; None where its file is gone."""

        def read_present(item: T) -> R | None:
            try:
                return read(item)
            except GONE:
                return None

        return map_archives(read_present, items, remote=self.remote)

    def read_round(self, number: int) -> RoundFile:
        """Return what the file of a round holds."""
        return read_round(self.at(round_path(number)), number)

    def _client(self, number: int, client: str) -> ClientFile:
        file = self.clients(number).get(client)
        if file is None:
            raise self._missing(f"client {client!r} has no file in round {number}")
        return file

    def _missing(self, problem: str) -> MissingError:
        return MissingError(
            problem,
            path=self.location.display,
            errno=errno.ENOENT,
            remedy="see rounds() and clients()",
        )


def several_runs(path: str, runs: Sequence[str], naming: str) -> MissingError:
    """Return the error of a folder of several runs; ``naming`` is how the caller names the first."""
    shown = ", ".join(map(repr, runs[:SHOWN_RUNS]))
    more = f" and {len(runs) - SHOWN_RUNS} more" if len(runs) > SHOWN_RUNS else ""
    return MissingError(
        f"several runs are here: {shown}{more}",
        path=path,
        errno=errno.ENOENT,
        remedy=f"name one of them, such as {naming}",
    )
