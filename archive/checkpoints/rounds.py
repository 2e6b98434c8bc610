"""Files of a store: saves and removes rounds; the caller decides when."""

from __future__ import annotations

import contextlib
import errno
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from archive.checkpoints.cataloguekeeper import CatalogueKeeper
from archive.checkpoints.cataloguereport import CatalogueReport, rebuild_catalogue
from archive.checkpoints.contextfiles import ContextFiles
from archive.checkpoints.curve import scalars_of
from archive.checkpoints.filecontent import Content, create_file, metrics_of
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.finitefiles import Check, FileCheck
from archive.checkpoints.knownrounds import read_known
from archive.checkpoints.paths import client_path, round_path
from archive.checkpoints.retention import Goal, Policy
from archive.checkpoints.roundfile import (
    UNREADABLE,
    ClientFile,
    Past,
    client_marks,
    client_of,
    is_client,
    is_named,
    read_past,
    round_marks,
)
from archive.engine.report import SaveReport
from archive.engine.write.inputs import Inputs
from archive.errors import (
    ArchiveWarning,
    DamagedError,
    ExistsError,
    MissingError,
    ReplacedError,
)
from archive.storage.folder import (
    Entry,
    file_exists,
    list_files,
    make_place,
    remove_empty,
    remove_file,
    remove_if,
    remove_slot,
)
from archive.storage.protocols import Source
from archive.storage.remote.objectstore import PROBE_PREFIX, PROBES
from archive.storage.url import URL, Cache, parse_url
from archive.tools.collection import collect_garbage
from archive.tools.columns import Row
from archive.tools.spelling import (
    CATALOGUE,
    RUN_FOLDERS,
    is_spelled,
    parse_client,
    parse_round,
    spell,
)
from archive.workers import map_archives

__all__ = ["Rounds"]

_PROBE_NAMES = (PROBE_PREFIX, f".{PROBE_PREFIX}")
"""Beginnings of the names of the files of `WriterLock.probe`: complete, and while they are written."""


class Rounds(ContextFiles):
    """Rounds and client files in a folder; parameters are those of `CheckpointStore`."""

    def __init__(
        self,
        url: URL,
        experiment: str | None,
        storage_options: Mapping[str, Any] | None,
        cache: Cache = None,
        cache_bytes: int | None = None,
        check: Check = "warn",
    ) -> None:
        super().__init__(url, experiment, storage_options, cache, cache_bytes)
        self._check: Check = check
        self.warnings: list[ArchiveWarning] = []
        """What is to be said of files that were saved."""
        self._keeper = CatalogueKeeper()
        self._past = Past()  # of the round that this store saved last
        self._own: dict[int, dict[str, ClientFile]] = {}  # by round and client: files that this store saved

    # Saving

    def save_client(self, number: int, client: str, content: Content) -> SaveReport:
        """Save a client's file of a future round; it replaces no file, a round may name each."""
        self._require_new(number)
        spelled, write = spell(client), ""
        if file_exists(
            make_place(self.location.path, client_path(number, spelled), self.location.options),
            self.location.options,
        ):
            write = secrets.token_hex(8)  # of a killed run, of another process, or of a name in another case
        path = client_path(number, spelled, write)
        inputs = content.inputs(client_marks(number, spelled, write))
        report = self._create(path, inputs, f"round {number}, client {client!r}")
        file = ClientFile(number, spelled, write, report.digest)
        if self.exists(number) and not self._is_named(file):
            self._remove_client(path)
            self._require_new(number)
        self._own.setdefault(number, {})[client] = file
        return report

    def save_round(
        self, number: int, content: Content, goal: Goal | None, policy: Policy
    ) -> tuple[SaveReport, Row]:
        """Save a round and return its metrics too; ExistsError where another process was faster."""
        self._require_new(number)
        past = self._before(number)
        goal = goal or past.goal
        inputs = content.inputs(round_marks(number, self._found_clients(number), past, goal, policy))
        metrics = metrics_of(inputs)
        try:
            report = self._create(round_path(number), inputs, f"round {number}")
        except ExistsError:
            self._own.pop(number, None)
            raise
        self._own.pop(number, None)
        self._past = Past(number, goal, past.curve.after(number, scalars_of(metrics)))
        return report, metrics

    def update_catalogue(self, number: int) -> None:
        """Have the catalogue know of a round that was saved; where that fails, there is a warning more."""
        if (warning := self._keeper.save(number, self)) is not None:
            self.warnings.append(warning)

    def goal(self) -> Goal | None:
        """Return what makes a round the best; nothing is read after a save of this store."""
        if self.numbers()[-1:] == [self._past.number]:
            return self._past.goal
        return super().goal()

    def reindex(self) -> CatalogueReport:
        """Write the catalogue anew."""
        self._keeper = CatalogueKeeper()
        return rebuild_catalogue(self)

    def _before(self, number: int) -> Past:
        """Return what a round takes over from the newest readable round before it."""
        if self._past.number == number - 1:
            return self._past  # saved by this store, and not asked for again
        for earlier in reversed(self.numbers()):
            if earlier < number:
                if earlier == self._past.number:
                    return self._past
                with contextlib.suppress(*UNREADABLE):
                    return read_past(self.at(round_path(earlier)), earlier)
        return Past()

    def _create(self, path: str, inputs: Inputs, what: str) -> SaveReport:
        url = make_place(self.location.path, path, self.location.options)
        check = FileCheck(self._check, what, self.shown(path))
        try:
            report = create_file(inputs, parse_url(url, self.location.options), check)
        except ExistsError as error:
            error.remedy = (
                "another process saved it at the same time: save the next round, or this file again"
            )
            raise
        if (warning := check.warning()) is not None:
            self.warnings.append(warning)
        return report

    def _require_new(self, number: int) -> None:
        if self.exists(number):
            self._own.pop(number, None)  # another process was faster, and its clients are those of the round
            raise ExistsError(
                f"round {number} is there already",
                path=self.shown(round_path(number)),
                errno=errno.EEXIST,
                remedy=f"save the next round; where this round is damaged, call remove({number}) first",
            )

    def _found_clients(self, number: int) -> dict[str, ClientFile]:
        """Return the client files of a future round."""
        own = self._own.get(number)
        self._keeper.forget(number)  # what was read for a save that failed
        if own is None:
            return self._listed_clients(number)
        found = map_archives(self._read_own, own.values(), remote=self.remote)
        for file, known in zip(own.values(), found, strict=True):
            if known is None or known.facts.digest != file.digest:
                raise ReplacedError(
                    f"the file of client {file.name!r} for round {number} is damaged or gone",
                    path=self.shown(file.path),
                    remedy="save it again; this round was not saved",
                )
            self._keeper.read_client(file, known)
        return own

    def _read_own(self, file: ClientFile) -> KnownFile | None:
        """Return what is known of a client file; None where it is missing or damaged."""
        with contextlib.suppress(*UNREADABLE):
            return read_known(self.at(file.path))
        return None

    def _listed_clients(self, number: int) -> dict[str, ClientFile]:
        """Return the client files in a round's folder, of each client the last."""
        folder = _folder(number)
        entries = list(list_files(self.location.path, self.location.options, path=folder, below=False))
        entries.sort(key=lambda entry: (entry.modified, entry.path))
        paths = [f"{folder}/{entry.path}" for entry in entries]
        paths = [path for path in paths if parse_client(path.removeprefix("rounds/"))]
        found = map_archives(lambda path: read_known(self.at(path)), paths, remote=self.remote)
        clients = {}
        for path, known in zip(paths, found, strict=True):
            file = client_of(known.facts)
            if file is None or file.path != path or not is_spelled(file.spelled):
                raise DamagedError(
                    f"not the file of a client of round {number}",
                    path=self.shown(path),
                    remedy="move it away; this round was not saved",
                )
            clients[file.name] = file
            self._keeper.read_client(file, known)
        return dict(sorted(clients.items()))

    def _is_named(self, file: ClientFile) -> bool:
        """Return whether its round names a client file."""
        try:
            return self.clients(file.round).get(file.name) == file
        except UNREADABLE:
            return True  # nobody can tell: the file stays

    # Removing

    def rewind(self, number: int) -> list[int]:
        """Remove every round after a round, the newest first, and return their numbers in that order.

        A kill in between leaves a shorter run, which is whole.
        """
        removed = [later for later in reversed(self.numbers()) if later > number]
        for later in removed:
            self.remove(later)
        return removed

    def remove(self, number: int) -> None:
        """Remove a round, then its client files; after a kill in between `collect` removes them."""
        if number >= self._past.number:
            self._past = Past()  # what comes next follows another round
        self._keeper.remove(number)
        folder = _folder(number)
        named = {file.path: file for file in (self._named(number) or ())}
        # listed while the round is there: what comes later is of a round that is saved anew
        entries = list(list_files(self.location.path, self.location.options, path=folder))
        paths = [f"{folder}/{entry.path}" for entry in entries]
        paths = [path for path in paths if parse_client(path.removeprefix("rounds/"))]
        try:
            remove_file(self.location.path, round_path(number), self.location.options)
        except MissingError:
            return  # another process was faster, and removes the client files
        map_archives(lambda path: self._remove_client(path, named.get(path)), paths, remote=self.remote)
        remove_empty(self.location.path, folder, self.location.options)

    def collect(self, older_than: float) -> list[str]:
        """Remove garbage older than so many seconds, and return the paths."""
        before = time.time() - older_than
        # list files first: those of a round that is saved meanwhile are no garbage
        entries = list(list_files(self.location.path, self.location.options, path="rounds"))
        removed = [
            path
            for path in self._unnamed(entry for entry in entries if entry.modified <= before)
            if self._remove_client(path)
        ]
        shown = self.location.display + "/"
        for path in (*RUN_FOLDERS, CATALOGUE):
            with contextlib.suppress(MissingError):  # there is no store yet
                found = collect_garbage(
                    self.location.path,
                    older_than=older_than,
                    storage_options=self.location.options,
                    path=path,
                )
                removed += [garbage.path.removeprefix(shown) for garbage in found]
        removed += self._collect_beside(before)
        for folder in {entry.path.rpartition("/")[0] for entry in entries}:
            if parse_round(f"{folder}.h5") is not None:
                remove_empty(self.location.path, f"rounds/{folder}", self.location.options)
        return removed

    def _collect_beside(self, before: float) -> list[str]:
        """Remove what killed servers left beside the folders: files by which they tried these, catalogues."""

        def is_ours(source: Source) -> bool:
            return source.nbytes <= max(map(len, PROBES)) and bytes(source.read(0, source.nbytes)) in (
                b"",
                *PROBES,
            )

        entries = list_files(self.location.path, self.location.options, below=False)
        old = [entry.path for entry in entries if entry.modified <= before]
        removed = [
            path
            for path in old
            if path.startswith(_PROBE_NAMES)
            and remove_if(self.location.path, path, is_ours, self.location.options)
        ]
        if not self.remote:
            slots = (path for path in old if path.startswith(f".{CATALOGUE}.") and path.endswith(".tmp"))
            removed += [path for path in slots if remove_slot(self.location.path, path)]
        return removed

    def _unnamed(self, entries: Iterable[Entry]) -> list[str]:
        """Return the paths of client files that no round names or will name."""
        clients = [(entry.path, found[0]) for entry in entries if (found := parse_client(entry.path))]
        listed = set(self.numbers())  # on NFS it may lack new rounds, which are asked for by name
        there = {
            number for number in {number for _, number in clients} if number in listed or self.exists(number)
        }
        files = {number: own.values() for number, own in self._own.items()} | {
            number: self._named(number) for number in there
        }
        unnamed = []
        for path, number in clients:
            named = files.get(number, ())
            if named is not None and f"rounds/{path}" not in {file.path for file in named}:
                unnamed.append(f"rounds/{path}")
        return unnamed

    def _named(self, number: int) -> Collection[ClientFile] | None:
        """Return the client files that a round names; None where nobody can tell."""
        try:
            clients = self.read_round(number).clients
        except UNREADABLE:
            return None
        return None if clients is None else clients.values()

    def _remove_client(self, path: str, named: ClientFile | None = None) -> bool:
        """Remove a client file, known by its content, and return whether that was done.

        ``named``: by a round that is gone. Later files may have got that name.
        """

        def is_ours(source: Source) -> bool:
            return is_client(source, path) if named is None else is_named(source, named.digest)

        return remove_if(self.location.path, path, is_ours, self.location.options)


def _folder(number: int) -> str:
    return round_path(number).removesuffix(".h5")
