"""Files of states: the rounds of a server, and the states of clients beside them.

They lie where those of Flower's strategies and mods do: ``rounds/00000003.h5`` and
``contexts/CLIENT/00000003-1-TOKEN.h5`` in the folder of the experiment. No file is ever replaced.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from archive.checkpoints.lineage import Line, Version, obsolete_without_server, parse_chain
from archive.checkpoints.paths import RESUME
from archive.checkpoints.roundfile import DAMAGE, GONE
from archive.errors import DamagedError, ExistsError, VersionError
from archive.interop.fl4health.objectstate import StateMismatchError
from archive.interop.flower.contexts import NodeContexts
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.runstore import Rounds
from archive.interop.statearrays import JSON, Found
from archive.interop.statefile import SavedState, names_at, places_in, read_arrays, to_records
from archive.interop.statevalues import decode
from archive.records import ConfigRecord, Context, RecordDict
from archive.storage.url import URL, Location

__all__ = ["ClientFiles", "ServerFiles"]

_log = logging.getLogger(LOGGER)

_KIND = "fl4health"
"""What the record of a resumable server says where FL4Health's is one."""
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
        self.rounds: Rounds = Rounds(url, experiment, keep_last=keep_last, storage_options=storage_options)

    def newest(self) -> tuple[int, Line, Any, list[int]] | None:
        """Return the newest round that verifies, its attempt, its state, and the damaged rounds after it.

        None without rounds. Damaged rounds are logged; `Rounds.discard` removes them.

        Raises
        ------
        DamagedError
            There are rounds, and none verifies.
        """
        store = self.rounds.store
        damaged: list[tuple[int, Exception]] = []
        for number in reversed(store.rounds()):
            try:
                with store.open(number, verify="open") as handle:
                    marks, state = _unpack(handle)
            except GONE:
                continue
            except DAMAGE as error:
                _log.warning("fedarchive: round %d is not taken: %s", number, error)
                damaged.append((number, error))
                continue
            line = Line(marks["token"], parse_chain(json.loads(marks["ancestors"])))
            return number, line, state, [bad for bad, _ in damaged]
        if damaged:
            raise DamagedError(
                f"none of {len(damaged)} rounds verifies; the newest: {damaged[0][1]}",
                path=self.rounds.shown,
                remedy="restore a round from a copy, or give another folder or experiment",
            )
        return None

    def save(self, number: int, line: Line, strategy: str, state: Any, metrics: Mapping[str, float]) -> None:
        """Save the state after a round, and remove rounds that retention does not keep."""
        ancestors = json.dumps(line.ancestors)
        marks = {"round": number, "token": line.token, "ancestors": ancestors, "strategy": strategy}
        self.rounds.store.save(_pack(state, marks), number, metrics=dict(metrics))


class ClientFiles:
    """States of one client by round, phase and attempt, as the contexts of a node.

    Parameters
    ----------
    folder : Location
        Folder of all experiments.
    experiment : str
    client : str
        Name of the client.
    """

    def __init__(self, folder: Location, experiment: str, client: str) -> None:
        self._contexts = NodeContexts(folder, experiment)
        self._client = client
        self.shown: str = self._contexts.shown
        """Absolute URL for messages, without credentials."""

    def versions(self) -> list[Version]:
        """Return the versions of the client's state, in no order."""
        return self._contexts.versions(self._client)

    def load(self, version: Version) -> Any:
        """Return a state.

        Raises
        ------
        ArchiveError
            The file is missing or damaged, or is the state of another client.
        """
        context = self._contexts.open(self._client, version)
        info = SimpleNamespace(path=f"{self.shown}: state of {self._client} of {version}")
        return _unpack(SimpleNamespace(records=context.state, info=info), lazy=True)[1]

    def save(self, version: Version, process: str, state: Any) -> Version:
        """Save a state; return its version, with the next turn where this process saved that version before.

        Raises
        ------
        ExistsError
            Another client of the same name saved a state for the same message.
        """
        records = _pack(state, {"token": version.token})
        context = Context(run_id=0, node_id=0, node_config={}, state=records, run_config={})
        try:
            return self._contexts.save(self._client, version, context, {"node_id": process})
        except ExistsError as error:
            error.problem = f"another client called {self._client!r} saved its state of {version}"
            error.remedy = "give every client a name of its own, by client_name="
            raise

    def prune(self, line: Line, kept: tuple[int, ...] | None, made: Version) -> None:
        """Remove the states that no kept round of the server goes on from; those of other attempts stay."""
        if not line.token:
            obsolete = obsolete_without_server(self.versions(), made)
        else:
            obsolete = [] if kept is None else line.obsolete(self.versions(), kept, made)
        self._contexts.remove(self._client, obsolete)


def _pack(state: Any, marks: Mapping[str, JSON]) -> RecordDict:
    """Return a state as records, with the record that says which attempt made it."""
    records = to_records(state)
    run = ConfigRecord({"version": _VERSION, "kind": _KIND, **marks})
    return RecordDict({**records.parameters_records, **records.configs_records, RESUME: run})


def _unpack(handle: Any, *, lazy: bool = False) -> tuple[Mapping[str, Any], Any]:
    """Return what `_pack` was given, of an open archive.

    Raises
    ------
    StateMismatchError
        The file is whole, but is not the state of a server or client of FL4Health.
    VersionError
        A newer fedarchive saved it.
    """
    path = handle.info.path
    marks: Mapping[str, Any] = handle.records.config_records.get(RESUME, {})
    if marks.get("kind") != _KIND:
        raise StateMismatchError(
            "not the state of an FL4Health server or client",
            path=path,
            key=RESUME,
            remedy="give a folder or experiment of its own",
        )
    if marks.get("version") != _VERSION:
        problem = f"version {marks.get('version')!r} of the state"
        raise VersionError(problem, path=path, remedy="upgrade fedarchive")
    saved = SavedState.of(handle)
    arrays = read_arrays(handle, names_at(places_in(saved.tree), saved.path), lazy=lazy)
    return dict(marks), decode(saved.tree, Found(arrays, own=not lazy), key="state", path=saved.path)
