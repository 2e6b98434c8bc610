"""Saved states of nodes by round: listed, opened, saved, and removed when they are obsolete."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from archive import reading, writing
from archive.checkpoints.paths import spell
from archive.errors import MissingError
from archive.interop.flower.runstore import experiment_url
from archive.records import Context
from archive.storage.folder import join, list_files, locate_folder, make_place, remove_file
from archive.storage.url import URL

__all__ = ["NodeContexts", "Version"]

_NAME = re.compile(r"(\d{8,})-(\d)\.h5")


class Version(NamedTuple):
    """The message that made a state; later messages are greater."""

    round: int
    """Round of the message."""
    phase: int
    """1 for train, 2 for evaluate, 0 for any other."""

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.round:08d}-{self.phase}.h5"

    def __str__(self) -> str:
        kind = {1: "training of ", 2: "evaluation of "}.get(self.phase, "")
        return f"{kind}round {self.round}"


class NodeContexts:
    """Contexts by node and version: ``contexts/NODE/ROUND-PHASE.h5``.

    Parameters
    ----------
    url, experiment, storage_options
        As for `experiment_url`.
    keep_last : int
        Rounds to keep of each node.
    """

    def __init__(
        self, url: URL, experiment: str, *, keep_last: int, storage_options: Mapping[str, Any] | None
    ) -> None:
        if keep_last < 1:
            raise ValueError(f"keep_last must be 1 or more, not {keep_last}")
        self._folder = locate_folder(experiment_url(url, experiment, storage_options), storage_options)
        self._keep_last = keep_last
        self.shown: str = self._folder.display
        """Absolute URL for messages, without credentials."""

    def versions(self, node: str) -> list[Version]:
        """Return the versions of a node's state, oldest first."""
        files = list_files(self._path(node), self._folder.options, below=False)
        matches = [_NAME.fullmatch(file.path) for file in files]
        return sorted(Version(int(match[1]), int(match[2])) for match in matches if match)

    def newest(self, node: str, before: Version | None) -> Version | None:
        """Return the newest version, or the newest before a given version; None if there is none."""
        found = [version for version in self.versions(node) if before is None or version < before]
        return found[-1] if found else None

    def open(self, node: str, version: Version) -> Context:
        """Return a state; its arrays stay in the file until they are read.

        Raises
        ------
        ArchiveError
            The file is missing or damaged.
        """
        return reading.open(replace(self._folder, path=self._path(node, version))).context

    def save(self, node: str, version: Version, context: Context) -> None:
        """Save a state, then remove obsolete ones: too old, or later ones of a stopped run."""
        folder, options = self._folder.path, self._folder.options
        place = make_place(folder, _inner(node, version), options)
        writing.save(context, place, storage_options=options)
        there = self.versions(node)
        rounds = sorted({known.round for known in there if known <= version})
        oldest = rounds[-self._keep_last :][0]
        for known in there:
            if known > version or known.round < oldest:
                with contextlib.suppress(MissingError):
                    remove_file(folder, _inner(node, known), options)

    def _path(self, node: str, version: Version | None = None) -> str:
        """Return the folder of a node, or the file of a version of its state."""
        return join(self._folder.path, _inner(node, version))


def _inner(node: str, version: Version | None = None) -> str:
    """Return the path of a node's folder, or of a version of its state, in that of the experiment."""
    return "/".join(["contexts", spell(node), *([] if version is None else [version.file])])
