"""Verifies many archives: a table of what is wrong with each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.progress import Bar, Progress
from archive.engine.report import VerifyReport
from archive.storage.url import URL, Cache
from archive.tools.many import Errors, find_inputs, read_each, require_errors
from archive.tools.tabulation import Table, texts, warn_skipped
from archive.tools.verification import verify_place

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["verify_all"]


def verify_all(
    urls: URL | Iterable[URL],
    *,
    errors: Errors = "raise",
    executor: Executor | None = None,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Table:
    """Verify many archives, each as `verify` does.

    Parameters
    ----------
    urls : str, path-like or iterable of them
        A pattern as for `archive.table`, or a folder, which stands for the archives below it; or archives one
        by one.
    errors : {"raise", "skip", "column"}, default "raise"
        What an archive does that cannot be opened, as for `archive.table`. One that can be opened has a row,
        whatever is damaged in it.
    executor : concurrent.futures.Executor, optional
        What reads the archives, up to 64 a task: a pool of processes, ``distributed.Client.get_executor()``.
    progress : True or callable, optional
        True draws a bar (needs tqdm); a callable gets (archives read, archives in all).
    cache, cache_bytes, storage_options
        Of remote archives, as for `verify`.

    Returns
    -------
    Table
        A dict of arrays of one length, one row an archive: ``path``; ``ok``; ``arrays``, ``checked_bytes``
        and ``unverifiable`` as of `VerifyReport`; ``damage``, a tuple of its failures; ``error`` with
        ``errors="column"``.

    Raises
    ------
    MissingError
        A pattern matches nothing, or an archive is not there.
    ArchiveError
        An archive cannot be opened.

    Examples
    --------
    >>> import archive, numpy as np
    >>> names = [f"/tmp/fedarchive-verify-{number}.h5" for number in range(2)]
    >>> for name in names:
    ...     _ = archive.save({"w": np.arange(6.0)}, name)
    >>> found = archive.tools.verify_all([*names, "/tmp/fedarchive-none.h5"], errors="column")
    >>> found["ok"].tolist(), found["error"][2]
    ([True, True, False], '/tmp/fedarchive-none.h5: no such file; check the path')
    """
    require_errors(errors)
    inputs = find_inputs(urls, storage_options, cache, cache_bytes, folders=True)
    with (
        Bar(progress, "verifying", " archives") as report,
        closing(read_each(verify_place, inputs, errors=errors, progress=report, executor=executor)) as read,
    ):
        outcomes = list(read)
    failures = [(one.input.path, one.error) for one in outcomes if one.error is not None]
    if errors == "skip":
        warn_skipped(failures, len(outcomes))
        outcomes = [one for one in outcomes if one.error is None]
    unread = VerifyReport(ok=False, arrays=0, checked_bytes=0, unverifiable=0, failures=())
    reports = [unread if one.result is None else one.result for one in outcomes]
    damage: NDArray = np.fromiter((report.failures for report in reports), object, len(reports))
    columns = {
        "path": texts([one.input.path for one in outcomes]),
        "ok": np.array([report.ok for report in reports], bool),
    }
    for name in ("arrays", "checked_bytes", "unverifiable"):
        columns[name] = np.array([getattr(report, name) for report in reports], np.int64)
    columns["damage"] = damage
    if errors == "column":
        columns["error"] = texts([None if one.error is None else str(one.error) for one in outcomes])
    return Table(columns, failures=failures)
