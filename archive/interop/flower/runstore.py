"""Rounds of a resumable run: a CheckpointStore and its newest round that verifies."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from archive.checkpoints import CheckpointStore
from archive.checkpoints.roundfile import DAMAGE, GONE
from archive.errors import DamagedError
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.roundstate import Snapshot, from_archive, to_records
from archive.storage.folder import join, locate_folder
from archive.storage.url import URL

__all__ = ["Rounds", "experiment_url"]

_log = logging.getLogger(LOGGER)


def experiment_url(url: URL, experiment: str, storage_options: Mapping[str, Any] | None) -> str:
    """Return the absolute URL of an experiment's folder; a relative path starts in the working directory.

    Raises
    ------
    ValueError
        ``experiment`` is not the name of a folder.

    Examples
    --------
    >>> experiment_url("/data/runs/", "adam", None)
    '/data/runs/adam'
    """
    if not experiment or experiment.startswith(".") or "/" in experiment:
        raise ValueError(f"experiment must be the name of a folder, not {experiment!r}")
    return join(locate_folder(url, storage_options).path, experiment)


class Rounds:
    """Rounds of one experiment.

    Parameters
    ----------
    url, experiment, storage_options
        As for `experiment_url`.
    keep_last : int or None
        Rounds to keep; None for all.
    """

    def __init__(
        self, url: URL, experiment: str, *, keep_last: int | None, storage_options: Mapping[str, Any] | None
    ) -> None:
        folder = experiment_url(url, experiment, storage_options)
        self.store: CheckpointStore = CheckpointStore(
            folder, keep_last=keep_last, storage_options=storage_options
        )
        self.shown: str = self.store.url
        """Absolute URL for messages, without credentials."""
        _log.info("fedarchive: rounds are saved in %s", self.shown)

    def newest(self) -> Snapshot | None:
        """Return the newest round that verifies.

        Damaged rounds after it are logged and removed: the run will save them again.

        Raises
        ------
        DamagedError
            There are rounds, and none verifies.
        SchemaError, VersionError
            A file verifies, but is not a round of a resumable run, or was saved by a newer fedarchive. The
            file stays.
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
            for bad, why in damaged:
                _log.warning("fedarchive: round %d is not taken: %s", bad, why)
            if damaged:
                _log.warning("fedarchive: round %d is the newest that verifies", number)
            for bad, _ in damaged:
                self.store.remove(bad)
            return found
        if damaged:
            raise DamagedError(
                f"none of {len(damaged)} rounds verifies; the newest: {damaged[0][1]}",
                path=self.shown,
                remedy="restore a round from a copy, or give another url or experiment",
            )
        return None

    def save(self, snapshot: Snapshot, metrics: Mapping[str, Any]) -> None:
        """Save a round, and remove rounds that retention does not keep."""
        self.store.save(to_records(snapshot), snapshot.round, metrics=metrics)
