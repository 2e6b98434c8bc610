"""`archive.table`: metrics and configs of many archives as columns, without a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from archive import tuning
from archive.checkpoints.roundrows import FileRow
from archive.dtypes import NDArray
from archive.engine.progress import Bar, Progress
from archive.errors import ArchiveError
from archive.storage.url import URL, Cache
from archive.tools.archivefacts import Facts, fact_columns, read_facts
from archive.tools.columns import make_column
from archive.tools.many import Errors, find_inputs, read_batches, require_errors
from archive.tools.rowblocks import join_blocks, make_block
from archive.tools.tabulation import Table, tabulate, texts, warn_skipped

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["history_of", "table"]


def table(
    urls: URL | Iterable[URL],
    *,
    errors: Errors = "raise",
    executor: Executor | None = None,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Table:
    """Return metrics and configs of many archives as columns; no array byte is read.

    Parameters
    ----------
    urls : str, path-like or iterable of them
        A pattern (``*``, ``?``, ``[...]``, ``**`` for any folders), local or of any URL of fsspec; or the
        archives one by one, in the order of the rows. ``**`` finds a folder once, however many links lead
        to it.
    errors : {"raise", "skip", "column"}, default "raise"
        What a damaged or missing archive does. ``"skip"``: it has no row, and SkippedWarning says so.
        ``"column"``: it has a row without values, and the column ``error`` has its error as text, None for
        the others. Both ways ``failures`` of the table has (path, error) of each. A server that does not
        answer ends the call whatever is said here.
    executor : concurrent.futures.Executor, optional
        What reads the archives, up to 2,048 a task: a pool of processes,
        ``distributed.Client.get_executor()``. It pays from some 10,000 local archives on.
    progress : True or callable, optional
        True draws a bar (needs tqdm); a callable gets (archives read, archives in all).
    cache, cache_bytes
        As for `open`.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Returns
    -------
    Table
        A dict of arrays of one length, which pandas accepts:

        - ``path``.
        - ``run`` (the name of its folder), ``round`` and ``client``, where there are archives of a
          `CheckpointStore`. Of one that cannot be read its path says them.
        - ``created``, a datetime64[us] in UTC; ``file_bytes``; ``arrays``, as `Info.arrays`, and NaN for a
          remote archive where that would take another request: of about 150 arrays and more.
        - ``error``, with ``errors="column"``.
        - One column for each metric and config, named by its key where only one record has that key, and no
          column above has that name, else ``record/key``. Integers and floats are numbers, NaN where an
          archive has no value; str, lists and bytes are objects, None where it has no value. Values of more
          than 60,000 bytes are left out: they are datasets, and not in the index.

    Raises
    ------
    MissingError
        The pattern matches nothing, or an archive is not there.
    ArchiveError
        A file is damaged, or is not an archive.
    ValueError
        Another word for ``errors``.

    Examples
    --------
    >>> import archive, os
    >>> os.makedirs("/tmp/fedarchive-doctest", exist_ok=True)
    >>> for client, loss in enumerate([0.5, 0.0]):
    ...     url = f"/tmp/fedarchive-doctest/{client}.h5"
    ...     _ = archive.save({}, url, metrics={"loss": loss}, configs={"lr": 0.1})
    >>> found = archive.table("/tmp/fedarchive-doctest/*.h5")
    >>> list(found), found["loss"].tolist(), found["metrics/loss"].tolist()
    (['path', 'created', 'file_bytes', 'arrays', 'loss', 'lr'], [0.5, 0.0], [0.5, 0.0])
    >>> found = archive.table([url, "/tmp/fedarchive-none.h5"], errors="column")
    >>> found["loss"].tolist(), found["error"].tolist()
    ([0.0, nan], [None, '/tmp/fedarchive-none.h5: no such file; check the path'])
    """
    require_errors(errors)
    inputs = find_inputs(urls, storage_options, cache, cache_bytes)
    gather = partial(make_block, skip=errors == "skip")
    with Bar(progress, "reading", " archives") as report:
        read = read_batches(
            read_facts,
            gather,
            inputs,
            errors=errors,
            progress=report,
            executor=executor,
            batch=tuning.BATCH if any(one.place.remote for one in inputs) else tuning.ROWS,
        )
        with closing(read):
            blocks = list(read)
    raised = [error for block in blocks for error in block.errors]
    failures = [(one.path, error) for one, error in zip(inputs, raised, strict=True) if error is not None]
    paths = [one.path for one in inputs]
    if errors == "skip":
        warn_skipped(failures, len(inputs))
        paths = [path for path, error in zip(paths, raised, strict=True) if error is None]
    columns, aliases = join_blocks(blocks, {"path": texts(paths)}, _error_column(raised, errors))
    return Table(columns, aliases, failures)


def history_of(files: Sequence[FileRow], run: str, *, clients: bool, errors: Errors) -> Table:
    """Return the values of files of rounds as columns."""
    failures = [(row.place, row.error) for row in files if row.error is not None]
    if errors == "skip":
        warn_skipped(failures, len(files))
        files = [row for row in files if row.error is None]
    columns = {
        "path": texts([row.path for row in files]),
        "run": texts([run] * len(files)),
        "round": make_column([row.round for row in files]),
    }
    if clients:
        columns["client"] = texts([row.client for row in files])
    columns["kept"] = np.array([row.path is not None for row in files], bool)
    return _tabulate(columns, [row.facts for row in files], [row.error for row in files], errors, failures)


def _tabulate(
    columns: dict[str, NDArray],
    found: Sequence[Facts | None],
    raised: Sequence[ArchiveError | None],
    errors: Errors,
    failures: Sequence[tuple[str, ArchiveError]],
) -> Table:
    columns |= fact_columns(found) | _error_column(raised, errors)
    return tabulate(columns, [facts.row if facts else {} for facts in found], failures)


def _error_column(raised: Sequence[ArchiveError | None], errors: Errors) -> dict[str, NDArray]:
    """Return the column ``error``, where it was asked for."""
    if errors != "column":
        return {}
    return {"error": texts([None if error is None else str(error) for error in raised])}
