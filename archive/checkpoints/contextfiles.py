"""Contexts of nodes as files in a store: one a node, replaced by the next save."""

from __future__ import annotations

import contextlib
import errno
from typing import Any

from archive import reading, writing
from archive.checkpoints.filecontent import Content
from archive.checkpoints.lineage import Line, Version
from archive.checkpoints.paths import context_folder, context_path, node_of
from archive.checkpoints.roundfile import DAMAGE, GONE, UNREADABLE, line_of
from archive.checkpoints.roundreader import RoundReader
from archive.engine.report import SaveReport
from archive.errors import DamagedError, ExistsError, MissingError
from archive.records import Context, RecordSet
from archive.storage.folder import file_exists, list_files, make_place
from archive.tools.columns import read_row
from archive.tools.spelling import CHECKPOINT, is_spelled, spell, spellings, unspell

__all__ = ["ContextFiles"]

SHOWN_NODES = 10
"""Nodes that an error names."""
_REMEDY = "this file system ignores case: give the nodes names that differ in more than that"


class ContextFiles(RoundReader):
    """Contexts in the folder of a run; parameters are those of `CheckpointStore`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._mine: set[str] = set()  # nodes whose file this store has saved

    def save_context(self, node: str, content: Content) -> SaveReport:
        """Save the context of a node, unless the file of that name is another node's."""
        path, options = context_path(spell(node)), self.location.options
        if node not in self._mine and (found := self._node(path)) not in (None, node):
            raise ExistsError(
                f"the context of node {node!r} would replace that of node {found!r}",
                path=self.shown(path),
                errno=errno.EEXIST,
                remedy=_REMEDY,
            )
        place = make_place(self.location.path, path, options)
        marks = {CHECKPOINT: {"node": spell(node)}}
        report = writing.save(content.records, place, configs=marks, storage_options=options)
        self._mine.add(node)
        return report

    def context(self, node: str) -> Context:
        """Return the context of a node."""
        now, *before = spellings(node)
        try:
            return self._open_context(node, context_path(now))
        except MissingError:
            for path in (self._newest_context(now), *map(context_path, before)):  # of an earlier version
                if path is not None:
                    with contextlib.suppress(MissingError):
                        return self._open_context(node, path)
            if file_exists(self.path(context_path(now)), self.location.options):
                raise  # of another node
        raise self._unsaved(node)

    def _unsaved(self, node: str) -> MissingError:
        """Return the error of a node without a state; it names nodes that have one."""
        files = list_files(self.location.path, self.location.options, path="contexts")
        nodes = sorted({found for file in files if (found := node_of(file.path)) is not None})
        shown = ", ".join(map(repr, nodes[:SHOWN_NODES]))
        more = f" and {len(nodes) - SHOWN_NODES} more" if len(nodes) > SHOWN_NODES else ""
        problem, remedy = f"no state of node {node!r} was saved", f"there are: {shown}{more}"
        if node in nodes:
            problem = f"no state of node {node!r} belongs to this run as its newest round is"
            remedy = "its states are of attempts that the run does not go on from"
        elif not nodes:
            remedy = "no node has a state here: check the folder"
        return MissingError(problem, path=self.shown("contexts"), errno=errno.ENOENT, remedy=remedy)

    def _newest_context(self, spelled: str) -> str | None:
        """Return the path of the state of a node of a Flower run, as of its newest round."""
        folder = context_folder(spelled)
        files = list_files(self.location.path, self.location.options, path=folder, below=False)
        versions = [version for file in files if (version := Version.parse(file.path)) is not None]
        found = self._line().newest(versions, before=None)
        return f"{folder}/{found[0].file}" if found else None

    def _line(self) -> Line:
        """Return the attempt of the newest readable round; one without a token where there is none."""
        for number in reversed(self.numbers()):
            with contextlib.suppress(*DAMAGE, *GONE):
                return line_of(self.row(number)) or Line("")
        return Line("")

    def _open_context(self, node: str, path: str) -> Context:
        place = self.at(path, cached=True)
        handle = reading.open(place)
        if handle.info.container != "context":
            raise DamagedError(
                f"the file is not the state of node {node!r}: no Context was saved in it",
                path=place.display,
                remedy="restore the file from a copy, or remove it",
            )
        context = handle.context
        if self.remote:
            # the next save replaces the object, and with it arrays that were not read yet
            context.state = reading.load(place)
        state: Any = context.state
        space = state.configs_records if isinstance(state, RecordSet) else state
        marks: Any = space.pop(CHECKPOINT, {})
        if (found := _name(marks.get("node"))) not in (None, node):
            raise MissingError(
                f"no context of node {node!r} was saved; the file is that of node {found!r}",
                path=place.display,
                errno=errno.ENOENT,
                remedy=_REMEDY,
            )
        return context

    def _node(self, path: str) -> str | None:
        """Return whose context a file is, None where it does not say."""
        try:
            return _name(read_row(self.at(path)).get(("configs", CHECKPOINT, "node")))
        except UNREADABLE:
            return None


def _name(spelled: object) -> str | None:
    """Return the name of a node as its context says it; None where it says none."""
    return unspell(spelled) if isinstance(spelled, str) and is_spelled(spelled) else None
