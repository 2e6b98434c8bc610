"""Rounds of a resumable run: a CheckpointStore, its one writer, and its newest round that verifies."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from archive.checkpoints import CheckpointStore
from archive.checkpoints.finitefiles import Check
from archive.checkpoints.paths import require_experiment
from archive.checkpoints.retention import BestBy
from archive.checkpoints.roundfile import DAMAGE, GONE
from archive.checkpoints.writerlock import WriterLock
from archive.errors import DamagedError, ExistsError
from archive.interop.flower.appfolder import require_app_url
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.roundstate import Snapshot, from_archive, to_records
from archive.interop.flower.strategystate import SchemaError
from archive.storage.folder import join
from archive.storage.url import URL, Location

__all__ = ["DEFAULT", "Rounds", "experiment_folder"]

_log = logging.getLogger(LOGGER)
DEFAULT = "default"
"""Experiment of those who name none."""
_held: dict[str, WriterLock] = {}
"""Locks of this process by folder: a server that starts again in one process goes on with the lock it has."""


def experiment_folder(location: Location, experiment: str) -> Location:
    """Return the folder of an experiment.

    Raises
    ------
    ValueError
        ``experiment`` is not the name of a folder.

    Examples
    --------
    >>> experiment_folder(Location("/data/runs"), "adam").path
    '/data/runs/adam'
    """
    return replace(location, path=join(location.path, require_experiment(experiment)))


class Rounds:
    """Rounds of one experiment.

    Parameters
    ----------
    url, storage_options
        As for `Resumable`.
    experiment : str
    keep_last : int or None
        Rounds to keep; None for all.
    best_by : str or (str, "min" or "max") or None
        The metric whose best round is kept too.
    check : {"warn", "error", "off"}
        What NaN and infinities do.
    """

    def __init__(
        self,
        url: URL,
        experiment: str,
        *,
        keep_last: int | None,
        best_by: BestBy | None = None,
        check: Check = "warn",
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        self._place = experiment_folder(require_app_url(url, storage_options), experiment)
        self._keeps_all = keep_last is None
        self.experiment: str = experiment
        """Name of its folder in the URL."""
        self.store: CheckpointStore = CheckpointStore(
            self._place, keep_last=keep_last, best_by=best_by, check=check
        )
        self.shown: str = self.store.url
        """Absolute URL for messages, without credentials."""
        _log.info("fedarchive: rounds are saved in %s", self.shown)

    def claim(self, owner: str) -> None:
        """Become the one writer of the run, and prove that rounds can be saved; ``owner`` is for messages.

        Raises
        ------
        LockedError
            Another process is.
        StorageError, UnsupportedURLError, MissingError
            Nothing can be saved in the folder.
        """
        held = _held.get(self.shown)
        if held is None or not held.taken:
            held = WriterLock(self._place, owner=owner)
            held.take()
            _held[self.shown] = held

    def release(self) -> None:
        """Let another process write the run."""
        lock = _held.pop(self.shown, None)
        if lock is not None:
            lock.release()

    def newest(self) -> tuple[Snapshot | None, list[int]]:
        """Return the newest round that verifies, and the damaged rounds after it, which are logged.

        Raises
        ------
        DamagedError
            There are rounds, and none verifies.
        SchemaError, VersionError
            A file verifies, but is not a round of a resumable run, is another round, or was saved by a newer
            fedarchive. The file stays.
        """
        damaged: list[tuple[int, Exception]] = []
        for number in reversed(self.store.rounds()):
            try:
                found = from_archive(self.store.open(number, verify="open"))
            except GONE:
                continue  # removed since it was listed
            except DAMAGE as error:
                damaged.append((number, error))
                continue
            if found.round != number:
                raise SchemaError(
                    f"the file of round {number} is that of round {found.round}",
                    path=self.store.url,
                    remedy="move it away: it was copied or renamed",
                )
            for bad, why in damaged:
                _log.warning("fedarchive: round %d is not taken: %s", bad, why)
            if damaged:
                _log.warning("fedarchive: round %d is the newest that verifies", number)
            return found, [bad for bad, _ in damaged]
        if damaged:
            raise DamagedError(
                f"none of {len(damaged)} rounds verifies; the newest: {damaged[0][1]}",
                path=self.shown,
                remedy="restore a round from a copy, or give another url or experiment",
            )
        return None, []

    def discard(self, damaged: Iterable[int]) -> None:
        """Remove damaged rounds, the newest first: the run will save them again."""
        for number in damaged:
            self.store.remove(number)

    def kept(self) -> tuple[int, ...] | None:
        """Return the rounds that the run may resume after; None where all are kept."""
        return None if self._keeps_all else tuple(self.store.rounds())

    def save(self, snapshot: Snapshot, metrics: Mapping[str, Any]) -> None:
        """Save a round, and remove rounds that retention does not keep.

        Raises
        ------
        ExistsError
            Another server of this run saved the round.
        """
        try:
            self.store.save(to_records(snapshot), snapshot.round, metrics=metrics)
        except ExistsError as error:
            error.problem = f"another server of this run saved round {snapshot.round}, so this one stops"
            error.remedy = (
                "let the other one finish, or stop it and start this one again to go on after its round"
            )
            raise
