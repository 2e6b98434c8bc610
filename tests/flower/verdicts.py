"""What became of a run that was killed and run again: the control's equal, or different and its user told."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

Result = dict[str, Any]

KILLS = int(os.environ.get("FEDARCHIVE_KILLS", "2"))
"""How often a test kills its run."""
SEED = int(os.environ.get("FEDARCHIVE_SEED", "18"))
"""Seed of the moments."""

LOUD = re.compile(
    r"WARNING.*fedarchive: .*|archive\.[\w.]*Error: .*|received \d+ results and [1-9]\d* failures",
    re.IGNORECASE,
)
"""Our warnings and errors, and Flower's lines of clients that failed."""


class Verdicts:
    """Counts of what became of the runs of a test.

    Parameters
    ----------
    control : dict
        What the uninterrupted run ended with.
    title : str
        What is printed before each line.
    """

    def __init__(self, control: Result, title: str) -> None:
        self.control, self.title = control, title
        self.counts: Counter[str] = Counter()

    def add(self, found: Result | None, said: str, what: str) -> None:
        """Judge a run by its result and its log, and print the verdict; a silent difference is a failure."""
        loud = [match[0] for match in LOUD.finditer(said)]
        verdict = "equal" if found == self.control else "loud" if loud else "silent"
        self.counts[verdict] += 1
        why = f", as in: {loud[0]}" if verdict == "loud" else ""
        print(f"{self.title}: {what}: {verdict}{why}")  # noqa: T201 shown by pytest -s
        assert verdict != "silent", f"{self.difference(found)}\n{said[-8000:]}"

    def difference(self, found: Result | None) -> str:
        """Return what differs from the control."""
        if found is None:
            return "no result"
        return "; ".join(
            f"{key}: {value}, not {found.get(key)}"
            for key, value in self.control.items()
            if value != found.get(key)
        )

    def __str__(self) -> str:
        counts = ", ".join(f"{self.counts[verdict]} {verdict}" for verdict in ("equal", "loud", "silent"))
        return f"{self.title}: {sum(self.counts.values())} kills: {counts}"
