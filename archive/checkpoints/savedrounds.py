"""Rounds that a store saved and the catalogue lacks: read again once their files have settled."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from archive import tuning
from archive.checkpoints.catalogue import KnownRound
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.knownrounds import read_known_rounds
from archive.checkpoints.roundfile import ClientFile
from archive.checkpoints.roundreader import RoundReader

__all__ = ["SavedRounds"]

Clients = dict[ClientFile, KnownFile | None]


@dataclass(slots=True)
class _Saved:
    since: float
    """When it was saved, or read in vain."""
    clients: Clients
    """Files of its clients, and what is known of them already."""
    turns: int = 1
    """It is read after so many times the time that files take to settle."""


class SavedRounds:
    """Rounds that wait to be read; several threads may save some."""

    def __init__(self) -> None:
        self._rounds: dict[int, _Saved] = {}
        self._clients: dict[int, Clients] = {}  # of rounds to come

    @property
    def numbers(self) -> list[int]:
        """Their numbers."""
        return list(self._rounds)

    def read_client(self, file: ClientFile, known: KnownFile) -> None:
        """Take note of what was read of a client file of a round to come."""
        self._clients.setdefault(file.round, {})[file] = known if known.tag else None

    def forget(self, number: int) -> None:
        """Forget the client files of a round to come."""
        self._clients.pop(number, None)

    def add(self, number: int) -> None:
        """Take note that a round was saved."""
        self._rounds[number] = _Saved(time.time(), self._clients.pop(number, {}))

    def remove(self, number: int) -> None:
        """Forget a round."""
        self._rounds.pop(number, None)
        self.forget(number)

    def clear(self) -> None:
        """Forget all."""
        self._rounds.clear()
        self._clients.clear()

    def read(self, files: RoundReader) -> list[KnownRound]:
        """Return what is known of rounds whose files may be read, after reading some of them.

        Nothing tells yet whether a file changes that is new.
        """
        settled = 0.0 if files.remote else 1.1 * tuning.SETTLED_SECONDS
        now, count, ready = time.time(), 0, dict[int, _Saved]()
        for number, saved in list(self._rounds.items()):
            if saved.since + settled * saved.turns <= now and count < tuning.CATALOGUE_READ:
                ready[number] = saved
                count += 1 + len(saved.clients)
        known = {file: one for saved in ready.values() for file, one in saved.clients.items() if one}
        found = []
        for one in read_known_rounds(files, list(ready), known):
            if one.file.tag:
                found.append(one)
            else:  # a clock of the file system that is ahead of ours: once more, later and later
                again = ready.pop(one.number)
                self._rounds[one.number] = replace(again, since=now, turns=2 * again.turns)
        for number in ready:
            self._rounds.pop(number, None)
        return found
