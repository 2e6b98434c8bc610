"""The rows of a run's history: one for each round that ever was, and for each client of it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from archive.checkpoints.catalogue import Catalogue, Listed
from archive.checkpoints.cataloguefile import find_catalogue
from archive.checkpoints.curve import CURVE, Curve
from archive.checkpoints.paths import round_path
from archive.checkpoints.roundfile import (
    GONE,
    ClientFile,
    RoundFile,
    read_curve,
    read_digest,
    read_round,
    require_same,
)
from archive.checkpoints.roundreader import RoundReader
from archive.engine.progress import Report
from archive.errors import ArchiveError, MissingError
from archive.storage.url import Location
from archive.tools.archivefacts import Facts, read_facts
from archive.tools.leftout import is_bad_input
from archive.tools.many import Errors, Input, read_each
from archive.tools.spelling import CATALOGUE, parse_round

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["FileRow", "read_history"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of a round; or what the newest round says of a round that was removed."""

    round: int
    """Number of the round."""
    client: str
    """Name of the client; empty for the round itself."""
    path: str | None
    """Its URL without secrets; None where the round was removed."""
    facts: Facts | None
    """What the file says; None where it cannot be read."""
    error: ArchiveError | None = None
    """Why it cannot be read."""

    @property
    def place(self) -> str:
        """What a list of failures names."""
        return self.path or f"round {self.round}"


Rows = list[FileRow]


def read_history(
    files: RoundReader,
    *,
    clients: bool,
    errors: Errors,
    executor: Executor | None = None,
    progress: Report | None = None,
) -> Rows:
    """Return the rows of all rounds, oldest first; ``clients``: and after each those of its clients.

    Of rounds that were removed these are the scalar metrics that the newest round carries. But for
    ``errors="raise"``, what cannot be read has a row with its error. Nobody knows the clients of a round
    whose own file cannot be read.

    What the catalogue of the run knows of files that are still the same is not read again; the others are, by
    the executor where there is one. ``progress`` is called with (files read, files in all), those among them
    that the catalogue knows: files of clients count from when the rounds that name them were read.
    """
    return _History(files, executor, progress, clients=clients, raises=errors == "raise").rows()


class _History:
    def __init__(
        self,
        files: RoundReader,
        executor: Executor | None,
        progress: Report | None,
        *,
        clients: bool,
        raises: bool,
    ) -> None:
        self._files = files
        self._executor = executor
        self._progress = progress
        self._clients = clients
        self._raises = raises
        self._catalogue = Catalogue()
        self._done = self._total = 0

    def rows(self) -> Rows:
        self._catalogue, _, _ = find_catalogue(self._files.at(CATALOGUE), clients=self._clients)
        found: dict[int, Rows] = self._files.read_all(self._read)
        curve = self._curve(found)
        removed = {
            number: [FileRow(number, "", None, Facts(row, "", None, None, ""))]
            for number, row in curve.rows()
            if number not in found
        }
        return [row for _, of_round in sorted((removed | found).items()) for row in of_round]

    def _curve(self, found: dict[int, Rows]) -> Curve:
        """Return the curve of the newest round that has one."""
        for number in sorted(found, reverse=True):
            first = found[number][0]
            if first.facts is None or ("configs", CURVE, "length") not in first.facts.row:
                continue
            try:
                return read_curve(self._files.at(round_path(number)))
            except GONE:
                continue
            except ArchiveError as error:
                if self._raises or not is_bad_input(error):
                    raise
                found[number][0] = FileRow(number, "", first.path, None, error)
        return Curve()

    def _read(self, listed: Listed) -> list[Rows | None]:
        """Return the rows of rounds; None for one that was removed meanwhile.

        What the catalogue says is taken where the listing proves it, and the rest read.
        """
        remote, catalogue = self._files.remote, self._catalogue
        known = catalogue.fresh_rounds(listed, clients=self._clients, remote=remote)
        new = [number for number in listed if number not in known]
        rounds: dict[int, RoundFile | FileRow | None] = dict(
            zip(new, self._read_rounds(new, len(known)), strict=True)
        )
        rounds |= known
        there: dict[ClientFile, Facts | ArchiveError | None] = {}
        if self._clients:
            with_clients = {number: len(one.clients) for number, one in known.items() if one.clients}
            entries = self._files.listed_clients(list(with_clients), sum(with_clients.values()))
            there |= catalogue.fresh_clients(with_clients, entries, remote=remote)
            whole = (one for one in rounds.values() if isinstance(one, RoundFile))
            unread = [file for one in whole for file in _clients_of(one) if file not in there]
            # an error comes later: its round may be gone by now, and this its file half removed
            read = self._read_files(read_facts, [file.path for file in unread], len(there))
            there |= zip(unread, (None if isinstance(one, GONE) else one for one in read), strict=True)
        return [self._rows(rounds[number], there) for number in listed]

    def _rows(
        self, found: RoundFile | FileRow | None, there: Mapping[ClientFile, Facts | ArchiveError | None]
    ) -> Rows | None:
        if found is None:
            return None
        if isinstance(found, FileRow):
            return [found]
        place = self._files.at(round_path(found.round))
        rows = [FileRow(found.round, "", place.display, found.facts)]
        rows += [self._client_row(file, there[file]) for file in _clients_of(found) if self._clients]
        errors = [row.error for row in rows if row.error is not None]
        if errors and read_digest(place) != found.facts.digest:
            return self._read({found.round: None})[0]  # removed, or saved anew
        if errors and self._raises:
            raise errors[0]
        return rows

    def _client_row(self, file: ClientFile, facts: Facts | ArchiveError | None) -> FileRow:
        path, error = self._files.shown(file.path), facts if isinstance(facts, ArchiveError) else None
        if facts is None:
            error = MissingError(
                f"round {file.round} names this file of client {file.name!r}, and it is gone",
                path=path,
                errno=errno.ENOENT,
                remedy='put a copy there, or leave it out by errors="skip"',
            )
        elif isinstance(facts, Facts):
            try:
                require_same(facts.digest, file.digest, path)
            except ArchiveError as found:
                error = found
        known = facts if isinstance(facts, Facts) and error is None else None
        return FileRow(file.round, file.name, path, known, error)

    def _read_rounds(self, numbers: Sequence[int], known: int) -> list[RoundFile | FileRow | None]:
        """Return what the files of rounds say, or that they cannot be read; None for one that is gone."""
        paths = [round_path(number) for number in numbers]
        rounds: list[RoundFile | FileRow | None] = []
        with closing(self._read_files(_read_named if self._clients else _read_alone, paths, known)) as found:
            for number, path, one in zip(numbers, paths, found, strict=True):
                if isinstance(one, RoundFile):
                    rounds.append(one)
                elif isinstance(one, GONE):
                    rounds.append(None)
                elif self._raises:
                    raise one
                else:
                    rounds.append(FileRow(number, "", self._files.shown(path), None, one))
        return rounds

    def _read_files(
        self, read: Callable[[Location], R], paths: Sequence[str], known: int
    ) -> Generator[R | ArchiveError, None, None]:
        """Yield what a function reads of files, or their errors; so many others are known already."""
        before = self._done + known
        self._total += known + len(paths)

        def report(done: int, _: int) -> None:
            self._done = before + done
            if self._progress is not None:
                self._progress(self._done, self._total)

        if known:
            report(0, 0)
        places = map(self._files.at, paths)
        inputs = [Input(place.display, place) for place in places]
        outcomes = read_each(read, inputs, errors="column", progress=report, executor=self._executor)
        with closing(outcomes):
            for one in outcomes:
                yield cast("R", one.result) if one.error is None else one.error


def _read_named(place: Location) -> RoundFile:
    """Return what the file of a round says, the files of its clients too."""
    return read_round(place, _number_of(place))


def _read_alone(place: Location) -> RoundFile:
    return RoundFile(_number_of(place), read_facts(place), None)


def _number_of(place: Location) -> int:
    number = parse_round(place.path.rpartition("/")[2])  # what is shown ends at a question mark
    if number is None:
        raise ValueError(f"{place.display} is no file of a round")
    return number


def _clients_of(found: RoundFile) -> list[ClientFile]:
    return [file for _, file in sorted((found.clients or {}).items())]
