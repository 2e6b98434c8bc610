"""Files of states by round and attempt: the rounds of a server, and the states of clients beside them.

They lie where those of Flower's strategies and mods do: ``rounds/00000003.h5`` and
``contexts/CLIENT/00000003-1-TOKEN.h5`` in the folder of the experiment. No file is ever replaced.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from archive import reading, writing
from archive.checkpoints import CheckpointStore
from archive.checkpoints.paths import context_path
from archive.checkpoints.roundfile import DAMAGE, GONE
from archive.engine.read.handle import Archive
from archive.errors import DamagedError, ExistsError, HostileFileError, MissingError, VersionError
from archive.interop.flower.lineage import Line, Version, new_token, obsolete_without_server, parse_chain
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.runstore import experiment_url
from archive.interop.statearrays import JSON, Found
from archive.interop.statefile import SavedState, names_at, places_in, read_arrays, to_records
from archive.interop.statevalues import decode
from archive.records import ConfigRecord, RecordSet
from archive.storage.folder import join, list_files, locate_folder, make_place, remove_file
from archive.storage.url import URL

__all__ = ["ClientFiles", "ServerFiles", "new_process"]

_log = logging.getLogger(LOGGER)

_RUN = "fl4health"
"""Config record of a state: the attempt that made it, and whose it is."""
_VERSION = 1


class ServerFiles:
    """States of a server by round, as the rounds of a `CheckpointStore`.

    Parameters
    ----------
    url, experiment, storage_options
        As for `Resumable`.
    keep_last : int or None
        Rounds to keep; None for all.
    """

    def __init__(
        self, url: URL, experiment: str, keep_last: int | None, storage_options: Mapping[str, Any] | None
    ) -> None:
        folder = experiment_url(url, experiment, storage_options)
        self.store: CheckpointStore = CheckpointStore(
            folder, keep_last=keep_last, storage_options=storage_options
        )
        self.shown: str = self.store.url
        """Absolute URL for messages, without credentials."""

    def newest(self) -> tuple[int, Line, Any] | None:
        """Return the newest round that verifies, its attempt and its state; None without rounds.

        Raises
        ------
        DamagedError
            There are rounds, and none verifies.
        """
        damaged: list[tuple[int, Exception]] = []
        for number in reversed(self.store.rounds()):
            try:
                with self.store.open(number, verify="open") as handle:
                    marks = _marks(handle)
                    line = Line(marks["token"], parse_chain(_pairs(marks)))
                    found = number, line, _state(handle)
            except GONE:
                continue
            except DAMAGE as error:
                _log.warning("fedarchive: round %d is not taken: %s", number, error)
                damaged.append((number, error))
                continue
            for bad, _ in damaged:
                self.store.remove(bad)
            return found
        if damaged:
            raise DamagedError(
                f"none of {len(damaged)} rounds verifies; the newest: {damaged[0][1]}",
                path=self.shown,
                remedy="restore a round from a copy, or give another folder or experiment",
            )
        return None

    def save(self, number: int, line: Line, state: Any, metrics: Mapping[str, float]) -> None:
        """Save the state after a round, and remove rounds that retention does not keep."""
        marks = {
            "ancestors": [token for token, _ in line.ancestors],
            "last_rounds": [last for _, last in line.ancestors],
        }
        self.store.save(_records(state, token=line.token, **marks), number, metrics=dict(metrics))


class ClientFiles:
    """States of one client by round, phase and attempt.

    Parameters
    ----------
    url, experiment, storage_options
        As for `Resumable`.
    client : str
        Name of the client.
    """

    def __init__(
        self, url: URL, experiment: str, client: str, storage_options: Mapping[str, Any] | None
    ) -> None:
        self._folder = locate_folder(experiment_url(url, experiment, storage_options), storage_options)
        self._client = client
        self.shown: str = self._folder.display
        """Absolute URL for messages, without credentials."""

    def versions(self) -> list[Version]:
        """Return the versions of the client's state, in no order."""
        files = list_files(join(self._folder.path, self._inner()), self._folder.options, below=False)
        return [version for file in files if (version := Version.parse(file.path)) is not None]

    def load(self, version: Version) -> Any:
        """Return a state.

        Raises
        ------
        ArchiveError
            The file is missing or damaged, or is the state of another client.
        """
        place = replace(self._folder, path=join(self._folder.path, self._inner(version)))
        with reading.open(place, verify="open") as handle:
            owner = _marks(handle)["client"]
            if owner != self._client:
                raise DamagedError(
                    f"the state of client {owner!r}, where that of {self._client!r} should be",
                    path=place.display,
                    remedy="give clients names that differ in more than case",
                )
            return _state(handle)

    def save(self, version: Version, process: str, state: Any) -> Version:
        """Save a state; return its version, with the next turn where this process saved that version before.

        Raises
        ------
        ExistsError
            Another client of the same name saved a state for the same message.
        """
        options = self._folder.options
        records = _records(state, client=self._client, process=process, token=version.token)
        while True:
            place = make_place(self._folder.path, self._inner(version), options)
            try:
                # without a resumable server, a run that starts again has no token of its own
                writing.save(records, place, overwrite=not version.token, storage_options=options)
            except ExistsError as error:
                if self._process(version) != process:
                    error.problem = f"another client called {self._client!r} saved its state of {version}"
                    error.remedy = "give every client a name of its own, by client_name="
                    raise
                version = version._replace(turn=version.turn + 1)
            else:
                return version

    def prune(self, line: Line, kept: tuple[int, ...] | None, made: Version) -> None:
        """Remove the states that no kept round of the server goes on from; those of other attempts stay."""
        if not line.token:
            obsolete = obsolete_without_server(self.versions(), made)
        else:
            obsolete = [] if kept is None else line.obsolete(self.versions(), kept)
        for version in obsolete:
            with contextlib.suppress(MissingError):
                remove_file(self._folder.path, self._inner(version), self._folder.options)

    def _process(self, version: Version) -> object:
        """Return the id of the process that saved a state."""
        place = replace(self._folder, path=join(self._folder.path, self._inner(version)))
        with reading.open(place) as handle:
            return _marks(handle)["process"]

    def _inner(self, version: Version | None = None) -> str:
        folder = context_path(self._client).removesuffix(".h5")
        return folder if version is None else f"{folder}/{version.file}"


def new_process() -> str:
    """Return an id of this client, which tells its own files from those of another of the same name."""
    return new_token()


def _records(state: Any, **marks: JSON) -> RecordSet:
    """Return a state as records, with the record that says whose it is."""
    records = to_records(state)
    records.configs_records[_RUN] = ConfigRecord({"version": _VERSION, **marks})
    return records


def _marks(handle: Archive) -> Mapping[str, Any]:
    """Return the record that says whose a state is.

    Raises
    ------
    HostileFileError
        The file is whole, but is no state of this package's.
    VersionError
        A newer fedarchive saved it.
    """
    path = handle.info.path
    configs: Any = getattr(handle.records, "config_records", None)
    found = (handle.records.configs_records if configs is None else configs).get(_RUN)
    if found is None:
        raise HostileFileError(
            "not the state of an FL4Health server or client",
            path=path,
            key=_RUN,
            remedy="give a folder or experiment of its own",
        )
    if found.get("version") != _VERSION:
        raise VersionError(
            f"version {found.get('version')!r} of the state", path=path, remedy="upgrade fedarchive"
        )
    return found


def _pairs(marks: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    return list(zip(marks["ancestors"], marks["last_rounds"], strict=True))


def _state(handle: Archive) -> Any:
    """Read the state of an open file into memory."""
    saved = SavedState.of(handle)
    arrays = read_arrays(handle, names_at(places_in(saved.tree), saved.path))
    return decode(saved.tree, Found(arrays, own=True), key="state", path=saved.path)
