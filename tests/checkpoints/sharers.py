"""Processes that share one store: ``python -m tests.checkpoints.sharers URL NUMBER SECONDS OPTIONS``.

Each saves clients and rounds, prunes, and reads back what any of them saved, until its time is over; then it
prints one line of JSON. Processes with a number above `READERS_FROM` only read.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

import archive
from archive.errors import ArchiveError

CLIENTS = ("a", "B")
READERS_FROM = 100
SIZE = 200


class Sharer:
    """One process; counts what it did and what it met."""

    def __init__(self, url: str, number: int, options: dict[str, Any] | None) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.number = number
        self.store = archive.CheckpointStore(url, keep_last=2, best_by="loss", storage_options=options)

    def save(self) -> None:
        """Save the next round with its clients; another process may be faster."""
        with self.counting("saved"):
            number = self.latest() + 1
            for client in CLIENTS:
                self.store.save(arrays(number, self.number), number, client=client)
            self.store.save(arrays(number, self.number), number, metrics={"loss": float(number % 7)})

    def prune(self) -> None:
        """Remove what nothing keeps, in a store that prunes on request only."""
        with self.counting("pruned"):
            self.store.prune()

    def read(self) -> None:
        """Ask everything that a store answers; a whole round is there throughout."""
        with self.counting("latest", strict=True), self.store.open("latest") as found:
            self.check(found)
        with self.counting("best", strict=True), self.store.open("best") as found:
            self.check(found)
        with self.counting("history", strict=True):
            table = self.store.history(clients=True)
            self.expect(len(table["round"]) > 0, "an empty history")
            whole = Counter(table["round"][table["kept"]].tolist())
            self.expect(set(whole.values()) == {1 + len(CLIENTS)}, f"a history with parts of rounds: {whole}")
        with self.counting("verified"):
            report = self.store.verify(self.latest())
            self.expect(report.ok, f"damage: {report}")
        with self.counting("client"):
            number = self.latest()
            self.expect(self.store.clients(number) == sorted(CLIENTS), "clients are missing")
            with self.store.open(number, client="a") as found:
                self.check(found)

    def latest(self) -> int:
        """Return the newest round."""
        rounds = self.store.rounds()
        self.expect(rounds, "no rounds")
        return rounds[-1] if rounds else 0

    def check(self, found: archive.Archive) -> None:
        """Check that an archive is of one writer."""
        values = set(found["w"].numpy().tolist())
        self.expect(len(values) == 1, f"torn: {values}")

    def expect(self, true: object, otherwise: str) -> None:
        """Note what is wrong."""
        if not true:
            self.wrong.append(otherwise)

    @contextlib.contextmanager
    def counting(self, done: str, *, strict: bool = False) -> Iterator[None]:
        """Count what was done, or the typed error it ended in, which ``strict`` ones have none of."""
        try:
            yield
            self.counts[done] += 1
        except ArchiveError as error:
            self.counts[f"{done}: {type(error).__name__}"] += 1
            self.expect(not strict, f"{done}: {error!r} {error}")
            self.expect(error.remedy, f"no remedy: {error!r}")
        except Exception:  # noqa: BLE001 the parent shows it
            self.wrong.append(traceback.format_exc()[-1500:])


def arrays(number: int, writer: int) -> dict[str, Any]:
    """Return arrays that tell round and writer."""
    return {"w": np.full(SIZE, number * 1000 + writer, "f8")}


def main() -> None:
    """Share a store until the time is over."""
    url, number, seconds, options = sys.argv[1:]
    sharer = Sharer(url, int(number), json.loads(options))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()  # all start together
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        if sharer.number < READERS_FROM:
            sharer.save()
            sharer.prune()
        sharer.read()
    sys.stdout.write(json.dumps({"counts": sharer.counts, "wrong": sharer.wrong}))


if __name__ == "__main__":
    main()
