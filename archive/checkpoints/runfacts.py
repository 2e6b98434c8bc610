"""Facts about runs for people: which runs a folder has, and what each has; damage is reported, not raised."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archive.checkpoints.paths import RESUME, node_of
from archive.checkpoints.retention import Goal, best_round, metric_of
from archive.checkpoints.roundfile import UNREADABLE, goal_of, line_of
from archive.checkpoints.rounds import Rounds
from archive.display.shortfields import ShortFields
from archive.storage.folder import Entry, list_files, locate_folder
from archive.storage.subfolders import find_subfolders
from archive.storage.url import URL, Location
from archive.tools.columns import Row
from archive.tools.spelling import CATALOGUE, CHECKPOINT, RUN_FOLDERS, parse_round

__all__ = ["Attempt", "RunFacts", "contexts_of", "facts_of", "find_experiments", "list_runs"]

SHORT = 200
"""Characters of a value that is shown."""
Options = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a resumable server, and the rounds of it that the run has."""

    token: str
    """Random name of the attempt."""
    after: int
    """Round that the attempt resumed after; 0 where it began the run."""
    last: int
    """Last round that the run has of the attempt."""


@dataclass(frozen=True, slots=True, repr=False)
class RunFacts(ShortFields):
    """What a run has."""

    path: str
    """Folder of the run."""
    experiment: str
    """Name of the folder, where it was found in another one; else empty."""
    rounds: tuple[int, ...]
    """Numbers of the rounds that are kept, oldest first."""
    damaged: tuple[int, ...]
    """Those whose metadata cannot be read."""
    clients: tuple[str, ...]
    """Names of the clients that have a file in the newest round that can be read."""
    nodes: tuple[str, ...]
    """Names of the nodes of which a context or a state is there, sorted."""
    contexts: int
    """Files of contexts."""
    file_bytes: int
    """Length of all files of the run together."""
    saved: float | None
    """When the newest round was saved, in seconds since 1970; None where the store does not say."""
    best: int | None
    """The best round; None where nothing says what makes a round the best."""
    best_by: tuple[str, str] | None
    """The metric that does, and ``min`` or ``max``."""
    best_value: float | None
    """Its value in the best round."""
    keep_last: int | None
    """Newest rounds that are kept; None for all."""
    keep_every: int | None
    """Divisor of the numbers of rounds that are kept besides."""
    attempts: tuple[Attempt, ...]
    """Starts of the server, the newest last; empty where no resumable server saved the run."""
    resume: dict[str, int | float | str | bool]
    """What else the server says of itself in the newest round: version of its record, class of its strategy,
    ``identity`` of the app, ``nodes`` that had saved states."""


def find_experiments(url: URL, storage_options: Options = None) -> list[str]:
    """Return the names of the runs in a folder: ``""`` where the folder itself is one.

    Raises
    ------
    StorageError, UnsupportedURLError
        The folder cannot be listed.
    """
    place = locate_folder(url, storage_options)
    return find_subfolders(place.path, RUN_FOLDERS, place.options)


def list_runs(url: URL, storage_options: Options = None) -> list[RunFacts]:
    """Return the facts about every run in a folder."""
    names = find_experiments(url, storage_options)
    return [facts_of(Rounds(url, name or None, storage_options), name) for name in names]


def facts_of(files: Rounds, experiment: str = "") -> RunFacts:
    """Return the facts about a run.

    Raises
    ------
    MissingError
        The folder has no files, and is not one of several that were found.
    StorageError
    """
    files.find()
    entries = list(list_files(files.location.path, files.location.options))
    times = {number: entry.modified for entry in entries if (number := _round_of(entry)) is not None}
    if not experiment and all(entry.path == CATALOGUE for entry in entries):
        files.newest()  # raises
    rows = _rows(files, sorted(times))
    readable = [number for number in sorted(times, reverse=True) if number in rows]
    newest = rows[readable[0]] if readable else {}
    goal = next((found for number in readable if (found := goal_of(rows[number]))), None)
    best, value = _best(rows, goal)
    kept: Any = {key: newest.get(("configs", CHECKPOINT, key)) for key in ("keep_last", "keep_every")}
    return RunFacts(
        path=files.location.display,
        experiment=experiment,
        rounds=tuple(sorted(times)),
        damaged=tuple(sorted(times.keys() - rows.keys())),
        clients=_clients(files, readable),
        nodes=tuple(sorted({node for entry in entries if (node := _node_of(entry)) is not None})),
        contexts=sum(_node_of(entry) is not None for entry in entries),
        file_bytes=sum(entry.nbytes for entry in entries),
        saved=(times[max(times)] or None) if times else None,
        best=best,
        best_by=None if goal is None else (goal.metric, goal.word),
        best_value=value,
        attempts=_attempts(newest, readable[:1]),
        resume=_resume(newest),
        **kept,
    )


def contexts_of(files: Rounds) -> list[Location]:
    """Return the locations of all contexts of a run."""
    files.find()
    found = list_files(files.location.path, files.location.options, path="contexts")
    return [files.at(f"contexts/{path}") for path in sorted(e.path for e in found) if path.endswith(".h5")]


def _round_of(entry: Entry) -> int | None:
    folder, _, name = entry.path.partition("/")
    return parse_round(name) if folder == "rounds" else None


def _node_of(entry: Entry) -> str | None:
    folder, _, name = entry.path.partition("/")
    return node_of(name) if folder == "contexts" else None


def _rows(files: Rounds, numbers: Sequence[int]) -> dict[int, Row]:
    rows = {}
    for number in numbers:
        with contextlib.suppress(*UNREADABLE):
            rows[number] = files.row(number)
    return rows


def _best(rows: Mapping[int, Row], goal: Goal | None) -> tuple[int | None, float | None]:
    if goal is None:
        return None, None
    values: dict[int, float] = {}
    for number, row in rows.items():
        with contextlib.suppress(ValueError):  # several records have that key
            if (value := metric_of(row, goal)) is not None:
                values[number] = value
    best = best_round(values, goal)
    return best, None if best is None else values[best]


def _clients(files: Rounds, readable: Sequence[int]) -> tuple[str, ...]:
    for number in readable:
        with contextlib.suppress(*UNREADABLE):
            return tuple(sorted(files.clients(number)))
    return ()


def _attempts(row: Row, newest: Sequence[int]) -> tuple[Attempt, ...]:
    line = line_of(row)
    if line is None or not newest:
        return ()
    ends = [*line.ancestors, (line.token, newest[0])]
    starts = [0, *(last for _, last in ends)]
    return tuple(Attempt(name, after, last) for (name, last), after in zip(ends, starts[:-1], strict=True))


def _resume(row: Row) -> dict[str, int | float | str | bool]:
    """Return what a server says of itself that people can read."""
    values = {key: value for (kind, name, key), value in row.items() if (kind, name) == ("configs", RESUME)}
    shown = {key: value for key, value in values.items() if key in ("version", "strategy")}
    for key in ("identity", "nodes"):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(str(values.get(key)))
            parts = found.values() if isinstance(found, dict) else found if isinstance(found, list) else []
            shown[key] = ", ".join(str(part) for part in parts if part)
    return {
        key: value
        for key, value in shown.items()
        if isinstance(value, (int, float, str, bool)) and value != "" and len(str(value)) <= SHORT
    }
