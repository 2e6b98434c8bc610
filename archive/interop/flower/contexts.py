"""Saved states of nodes: listed, opened, saved and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from archive import reading, writing
from archive.checkpoints.lineage import Version
from archive.checkpoints.paths import context_folder
from archive.errors import DamagedError, ExistsError, MissingError
from archive.interop.flower.runstore import experiment_folder
from archive.records import ConfigRecord, Context, RecordDict
from archive.storage.folder import join, list_files, make_place, remove_file
from archive.storage.url import Location
from archive.tools.columns import read_row
from archive.tools.spelling import CHECKPOINT, is_spelled, spell, unspell

__all__ = ["NodeContexts"]


class NodeContexts:
    """Contexts of one experiment by node and version: ``contexts/NODE/ROUND-PHASE-TOKEN.h5``.

    Parameters
    ----------
    location : Location
        Folder of all experiments.
    experiment : str
    """

    def __init__(self, location: Location, experiment: str) -> None:
        self._folder = experiment_folder(location, experiment)
        self.experiment = experiment
        """Name of its folder."""
        self.shown: str = self._folder.display
        """Absolute URL for messages, without credentials."""

    def versions(self, node: str) -> list[Version]:
        """Return the versions of a node's state, in no order."""
        files = list_files(join(self._folder.path, _inner(node)), self._folder.options, below=False)
        return [version for file in files if (version := Version.parse(file.path)) is not None]

    def open(self, node: str, version: Version) -> Context:
        """Return a state of which every byte was verified; its arrays stay in the file.

        Raises
        ------
        ArchiveError
            The file is missing or damaged, or is the state of another node.
        """
        place = replace(self._folder, path=join(self._folder.path, _inner(node, version)))
        try:
            context = reading.open(place, verify="open").context
        except TypeError as error:
            raise _not_a_state(place) from error
        records: Any = context.state
        marks: Any = records.pop(CHECKPOINT, {}) if isinstance(records, RecordDict) else None
        if not isinstance(marks, Mapping):
            raise _not_a_state(place)
        owner = marks.get("node", spell(node))
        if not isinstance(owner, str) or not is_spelled(owner):
            raise _not_a_state(place)
        if owner != spell(node):
            raise DamagedError(
                f"the state of node {unspell(owner)!r}, where that of {node!r} should be",
                path=place.display,
                remedy="this file system takes both names for one: give nodes names that differ more",
            )
        return context

    def save(self, node: str, version: Version, context: Context, marks: Mapping[str, Any]) -> Version:
        """Save a state; return its version, with the next turn where this node saved one for that message.

        Raises
        ------
        ExistsError
            Another node of the same name saved a state for the same message.
        """
        folder, options = self._folder.path, self._folder.options
        while True:
            own = {**marks, "node": spell(node), **version._asdict()}
            saved = replace(context, state=_with(context.state, own))
            place = make_place(folder, _inner(node, version), options)
            try:
                # without a resumable server a run that starts again has no token of its own
                writing.save(saved, place, overwrite=not version.token, storage_options=options)
            except ExistsError as error:
                if self._node_id(node, version) != marks.get("node_id"):
                    error.problem = f"another node called {node!r} saved a state of {version}"
                    error.remedy = "give every node a name of its own, by node_key="
                    raise
                version = version._replace(turn=version.turn + 1)
            else:
                return version

    def remove(self, node: str, versions: Iterable[Version]) -> None:
        """Remove states; those that another process removed meanwhile are no error."""
        for version in versions:
            with contextlib.suppress(MissingError):
                remove_file(self._folder.path, _inner(node, version), self._folder.options)

    def _node_id(self, node: str, version: Version) -> object:
        """Return the id of the node that saved a state."""
        place = replace(self._folder, path=join(self._folder.path, _inner(node, version)))
        return read_row(place).get(("configs", CHECKPOINT, "node_id"))


def _inner(node: str, version: Version | None = None) -> str:
    """Return the path of a node's folder, or of a version of its state, in that of the experiment."""
    folder = context_folder(spell(node))
    return folder if version is None else f"{folder}/{version.file}"


def _not_a_state(place: Location) -> DamagedError:
    return DamagedError(
        "not the state of a node",
        path=place.display,
        remedy="something else put the file there: move it away",
    )


def _with(state: Any, marks: Mapping[str, Any]) -> Any:
    """Return a state with the record that says whose the file is."""
    made = type(state)(dict(state.items()))
    made[CHECKPOINT] = ConfigRecord(dict(marks))
    return made
