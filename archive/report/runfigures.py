"""What is measured of a run: metrics, norms of layers, what clients sent, differences of rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from archive.checkpoints.roundfile import ClientFile, clients_of, open_file
from archive.checkpoints.roundrows import FileRow, read_history
from archive.checkpoints.runfacts import RunFacts, facts_of
from archive.checkpoints.store import CheckpointStore
from archive.engine.read.handle import Archive
from archive.errors import ArchiveError
from archive.report.archivefigures import ArchiveFigures, measure_contents, measure_rows
from archive.report.clientfigures import ClientFigures, GlobalModels, measure_client
from archive.report.excerpts import Name, spread
from archive.report.metriclines import MetricLine, metric_lines
from archive.tools.arraystats import array_rows
from archive.tools.comparison import diff
from archive.tools.differences import Diff
from archive.tools.tabulation import Failed

__all__ = [
    "Difference",
    "RoundFigures",
    "RunFigures",
    "compare_newest",
    "measure_archive_alone",
    "measure_run",
]

ROUNDS_BY_LAYER = 6
"""Rounds in which the figures of clients are of each layer too."""
Step = Callable[[int, int], object]
"""Called after each archive with archives read, and archives in all."""


@dataclass(slots=True)
class RoundFigures:
    """What is measured of the global model of a round and of its clients."""

    norms: dict[Name, float] = field(default_factory=dict)
    """L2 norm of the finite elements of each array of numbers."""
    odd: dict[Name, int] = field(default_factory=dict)
    """NaN and infinities; arrays without any are left out."""
    clients: dict[str, ClientFigures] = field(default_factory=dict)
    base: bool = False
    """Whether the round before is there, which clients started from."""
    layers: Sequence[str] = ()
    """Names of layers by which clients were measured; of some rounds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two archives compared."""

    first: str
    second: str
    found: Diff
    across: bool = False
    """Whether they are of two runs."""


@dataclass(slots=True)
class RunFigures:
    """A run; of an archive on its own, only what the archive holds."""

    name: str
    path: str
    facts: RunFacts | None = None
    every_client: Sequence[str] = ()
    clients: Sequence[str] = ()
    """Those whose arrays were read."""
    lines: Sequence[MetricLine] = ()
    rounds: dict[int, RoundFigures] = field(default_factory=dict)
    """Those whose arrays were read."""
    newest: int | None = None
    """The newest round that can be read, of which ``contents`` are."""
    contents: ArchiveFigures | None = None
    differences: list[Difference] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    """Path and error of what cannot be read."""

    def fail(self, path: str, error: ArchiveError) -> None:
        """Take note of what cannot be read, once."""
        if all((path, str(error)) != (known, str(other)) for known, other in self.failures):
            self.failures.append((path, error))


def measure_archive_alone(handle: Archive) -> RunFigures:
    """Return the figures of an archive that is no run."""
    contents = measure_contents(handle)
    name = contents.path.rstrip("/").rpartition("/")[2]
    found = RunFigures(name, contents.path, contents=contents)
    for error in contents.failures:
        found.fail(contents.path, error)
    return found


def measure_run(store: CheckpointStore, *, rounds: int, clients: int, step: Step | None) -> RunFigures:
    """Return the figures of a run; what cannot be read is named, and the rest measured.

    Parameters
    ----------
    store : CheckpointStore
    rounds, clients : int
        The most of which arrays are read.
    step : callable, optional
        Called after each archive of which arrays are read.

    Raises
    ------
    ArchiveError
        There is no run, or it cannot be listed.
    """
    files = store._files
    facts = facts_of(files)
    rows = read_history(files, clients=True, errors="column")
    found = RunFigures(files.location.name, files.location.display, facts)
    for row in rows:
        if row.error is not None:
            found.fail(row.place, row.error)
    found.lines = metric_lines(rows)
    found.every_client = sorted({row.client for row in rows if row.client})
    found.clients = spread(found.every_client, clients)
    readable = [row.round for row in rows if not row.client and row.path and row.error is None]
    _RunReader(store, found, rows, step).read(readable, spread(readable, rounds))
    return found


class _RunReader:
    """Reads arrays of rounds and clients."""

    def __init__(
        self, store: CheckpointStore, found: RunFigures, rows: Sequence[FileRow], step: Step | None
    ) -> None:
        self._store, self._found, self._step = store, found, step
        chosen = set(found.clients)
        self._clients: dict[int, set[str]] = {}
        for row in rows:
            if row.client in chosen and row.error is None:
                self._clients.setdefault(row.round, set()).add(row.client)
        self._by_layer: set[int] = set()
        self._done = self._total = 0

    def read(self, readable: Sequence[int], shown: Sequence[int]) -> None:
        self._total = sum(1 + len(self._clients.get(number, ())) for number in shown)
        there = set(readable)
        based = [number for number in shown if number in self._clients and number - 1 in there]
        self._by_layer = set(spread(based, ROUNDS_BY_LAYER))
        for number in shown:
            self._read_round(number, number - 1 if number - 1 in there else None)
        for number in reversed(readable):
            handle = self._open(number)
            if handle is not None:
                with handle:
                    self._found.newest = number
                    self._found.contents = measure_contents(handle)
                break
        self._compare([number for number in shown if number in self._found.rounds])

    def _open(self, number: int, file: ClientFile | None = None) -> Archive | None:
        """Open a file of the run; None where it cannot be."""
        try:
            if file is None:
                return self._store.open(number, verify="first")
            return open_file(self._store._files.at(file.path, cached=True), digest=file.digest)
        except ArchiveError as error:
            self._fail(error, number, file)
            return None

    def _fail(self, error: ArchiveError, number: int, file: ClientFile | None = None) -> None:
        place = f"round {number}" + ("" if file is None else f", client {file.name}")
        self._found.fail(error.path or place, error)

    def _read_round(self, number: int, before: int | None) -> None:
        new = self._open(number)
        wanted = self._clients.get(number, set())
        if new is None:
            self._advance(1 + len(wanted))
            return
        with ExitStack() as stack:
            stack.enter_context(new)
            base = self._open(before) if before is not None and wanted else None
            if base is not None:
                stack.enter_context(base)
            figures = self._found.rounds[number] = self._model(new, number)
            figures.base = base is not None
            self._advance()
            files = clients_of(new._reader, number) or {}
            models = GlobalModels(base, new, by_layer=number in self._by_layer and base is not None)
            figures.layers = models.layers
            for file in (files[name] for name in sorted(wanted & files.keys())):
                measured = self._client(number, file, models)
                if measured is not None:
                    figures.clients[file.name] = measured
                self._advance()

    def _model(self, new: Archive, number: int) -> RoundFigures:
        """Return the norms of the arrays of a global model."""
        reader = new._reader
        index = reader.index
        rows = array_rows(reader, None)
        moments, failures = measure_rows(reader, rows)
        for error in failures.values():
            self._fail(error, number)
        figures = RoundFigures()
        for row, key, measured in zip(rows, index.keys(rows), moments, strict=True):
            if measured is None:
                continue
            name = index.records[index.record.item(row)].name, key
            figures.norms[name] = measured.norm
            if measured.nan or measured.inf:
                figures.odd[name] = measured.nan + measured.inf
        return figures

    def _client(self, number: int, file: ClientFile, models: GlobalModels) -> ClientFigures | None:
        handle = self._open(number, file)
        if handle is None:
            return None
        with handle:
            try:
                return measure_client(handle, models)
            except ArchiveError as error:
                self._fail(error, number, file)
                return None

    def _compare(self, shown: Sequence[int]) -> None:
        """Compare the newest round with the one before, and with the first."""
        pairs = [] if len(shown) < 2 else dict.fromkeys([(shown[-2], shown[-1]), (shown[0], shown[-1])])
        for first, second in pairs:
            one, two = self._open(first), self._open(second)
            if one is None or two is None:
                continue
            with one, two:
                try:
                    found = diff(one, two)
                except ArchiveError as error:
                    self._fail(error, second)
                    continue
            self._found.differences.append(Difference(f"round {first}", f"round {second}", found))

    def _advance(self, archives: int = 1) -> None:
        self._done += archives
        if self._step is not None:
            self._step(self._done, self._total)


def compare_newest(runs: Sequence[RunFigures], handles: Sequence[Archive]) -> None:
    """Compare the newest archives of two runs, as a difference of the first."""
    names = [run.name if run.newest is None else f"{run.name}, round {run.newest}" for run in runs]
    try:
        runs[0].differences.insert(0, Difference(names[0], names[1], diff(*handles), across=True))
    except ArchiveError as error:
        runs[0].fail(error.path or runs[0].path, error)
