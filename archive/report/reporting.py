"""`archive.tools.report`: one HTML file about a run, two runs, or an archive."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from archive.checkpoints.store import CheckpointStore
from archive.display.shortfields import ShortFields
from archive.engine.progress import Bar, Progress, Report
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.errors import ArchiveError
from archive.report.htmlpage import page_html
from archive.report.pagedata import MOST, page_data
from archive.report.runfigures import RunFigures, compare_newest, measure_archive_alone, measure_run
from archive.storage.location import locate_sink
from archive.storage.url import URL, Cache, parse_mixed

__all__ = ["PageReport", "report"]

PAGE_BYTES = 4_900_000
"""Longest page: mail and chats take it, and a browser opens it at once."""
ROUNDS = 50
"""Rounds and clients of which arrays are read, if not given."""

Subject: TypeAlias = "URL | CheckpointStore | Archive"


@dataclass(frozen=True, slots=True, repr=False)
class PageReport(ShortFields):
    """What `report` wrote."""

    url: str
    """The page, without secrets."""
    file_bytes: int
    """Its length."""
    seconds: float
    failures: tuple[tuple[str, ArchiveError], ...]
    """Path and error of what cannot be read: the page names them too."""


def report(
    run: URL | CheckpointStore | Archive,
    out: URL,
    *,
    compare: URL | CheckpointStore | Archive | None = None,
    title: str | None = None,
    rounds: int = ROUNDS,
    clients: int = ROUNDS,
    overwrite: bool = True,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> PageReport:
    """Save one HTML file about a run, two runs side by side, or an archive.

    The file needs no network, no server and no other file. It has the metrics of rounds and clients as
    curves; heat maps of the norm of each layer by round, of what each client sent by round, and of what it
    did to each layer in some rounds; the arrays of the newest round with sizes, types, statistics and
    histograms; the differences of rounds; and what is damaged, NaN or an outlier. It is less than 5 MB,
    whatever the run has.

    Parameters
    ----------
    run : str, path-like, CheckpointStore or Archive
        The folder of a run, or an archive.
    out : str or path-like
        Where the page goes; it appears complete or not at all.
    compare : str, path-like, CheckpointStore or Archive, optional
        Another run or archive, shown beside the first.
    title : str, optional
        Of the page; the names of the runs if not given.
    rounds, clients : int, default 50
        At most so many rounds and clients have their arrays read, at even distances, the first and the last
        among them. The metrics of all are shown.
    overwrite : bool, default True
        Replace a file that is at ``out``.
    progress : callable or True, optional
        Called with archives read and all archives of which arrays are read.
    cache, cache_bytes, storage_options
        As for `archive.open`.

    Returns
    -------
    PageReport
        Its ``failures`` are what could not be read, which the page names too.

    Raises
    ------
    MissingError
        There is no such run or archive, or the folder has several runs.
    ExistsError
        ``overwrite=False``, and a file is there.
    ArchiveError
        An archive that is no part of a run cannot be opened; or the page cannot be written.
    ValueError
        ``rounds`` or ``clients`` is less than 1.

    Notes
    -----
    An update is what a client sent less the global model of the round before, where that is kept; its cosine
    is that with the step of the global model in the round. Outliers are values more than 3.5 scaled median
    absolute deviations from the median of the clients of the round.

    Examples
    --------
    >>> import archive, numpy as np, shutil
    >>> shutil.rmtree("/tmp/fedarchive-doctest-report", ignore_errors=True)
    >>> store = archive.CheckpointStore("/tmp/fedarchive-doctest-report")
    >>> for number in (1, 2):
    ...     _ = store.save({"w": np.full(3, number)}, number, client="Oslo", metrics={"loss": 1 / number})
    ...     _ = store.save({"w": np.full(3, number)}, number, metrics={"loss": 1 / number})
    >>> page = archive.tools.report(store, "/tmp/fedarchive-report.html")
    >>> page.url, page.file_bytes < 100_000, page.failures
    ('/tmp/fedarchive-report.html', True, ())
    """
    if rounds < 1 or clients < 1:
        raise ValueError(f"rounds and clients must be at least 1, not {rounds!r} and {clients!r}")
    begun = time.perf_counter()
    place = parse_mixed(out, storage_options)
    with ExitStack() as stack:
        subjects = [
            _subject(one, stack, cache, cache_bytes, storage_options)
            for one in (run, compare)
            if one is not None
        ]
        with Bar(progress, "reading", " archives") as bar:
            found = [_measure(one, rounds, clients, bar) for one in subjects]
        if len(found) == 2:
            _compare(subjects, found, stack)
    name = title if title is not None else " and ".join(figures.name for figures in found)
    page = _page(found, name)
    sink = locate_sink(place, overwrite=overwrite, durable=True, push=False, nbytes=len(page), marked=True)
    try:
        sink.write(page, 0)
        sink.publish()
    finally:
        sink.discard()
    failures = tuple(failed for figures in found for failed in figures.failures)
    return PageReport(place.display, len(page), time.perf_counter() - begun, failures)


def _subject(
    one: Subject, stack: ExitStack, cache: Cache, cache_bytes: int | None, options: Mapping[str, Any] | None
) -> CheckpointStore | Archive:
    """Return the store or the open archive that is meant."""
    if isinstance(one, (CheckpointStore, Archive)):
        return one
    place = parse_mixed(one, options, cache, cache_bytes)
    if place.name.endswith((".h5", ".hdf5")) if place.remote else not Path(place.path).is_dir():
        return stack.enter_context(Archive(open_reader(place, access="auto", verify="first")))
    return CheckpointStore(
        one, cache=cache, cache_bytes=cache_bytes, storage_options=options if place.remote else None
    )


def _measure(one: CheckpointStore | Archive, rounds: int, clients: int, bar: Report | None) -> RunFigures:
    if isinstance(one, Archive):
        return measure_archive_alone(one)
    return measure_run(one, rounds=rounds, clients=clients, step=bar)


def _compare(
    subjects: Sequence[CheckpointStore | Archive], found: Sequence[RunFigures], stack: ExitStack
) -> None:
    """Compare what is newest of two runs."""
    handles = []
    for one, figures in zip(subjects, found, strict=True):
        if isinstance(one, CheckpointStore):
            if figures.newest is None:
                return
            try:
                one = stack.enter_context(one.open(figures.newest, verify="first"))
            except ArchiveError as error:
                figures.fail(error.path or figures.path, error)
                return
        handles.append(one)
    compare_newest(found, handles)


def _page(found: Sequence[RunFigures], title: str) -> bytes:
    """Return the page with as much as fits."""
    page = b""
    for limits in MOST:
        page = page_html(page_data(found, title, limits)).encode()
        if len(page) <= PAGE_BYTES:
            break
    return page
