"""`archive.table`: metrics and configs of many archives as columns, without a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from archive.checkpoints.roundreader import FileRow
from archive.storage.url import URL, Cache
from archive.tools.columns import make_column, read_row
from archive.tools.many import find_inputs, read_each
from archive.tools.provenance import provenance_columns, provenance_of
from archive.tools.tabulation import Table, tabulate, texts

__all__ = ["history_of", "table"]


def table(
    urls: URL | Iterable[URL],
    *,
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
    cache, cache_bytes
        As for `open`.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Returns
    -------
    Table
        A dict of arrays of one length, which pandas accepts. ``path``; ``run`` (the name of its folder),
        ``round`` and ``client`` for archives of a `CheckpointStore`; and one column for each metric and config,
        named by its key where only one record has that key, else ``record/key``. Integers and floats are
        numbers, NaN where an archive has
        no value; str, lists and bytes are objects, None where it has no value. Values of more than 60,000
        bytes are left out: they are datasets, and not in the index.

    Raises
    ------
    MissingError
        The pattern matches nothing, or an archive is not there.
    ArchiveError
        A file is damaged, or is not an archive.

    Examples
    --------
    >>> import archive, os
    >>> os.makedirs("/tmp/fedarchive-doctest", exist_ok=True)
    >>> for client, loss in enumerate([0.5, 0.0]):
    ...     url = f"/tmp/fedarchive-doctest/{client}.h5"
    ...     _ = archive.save({}, url, metrics={"loss": loss}, configs={"lr": 0.1})
    >>> found = archive.table("/tmp/fedarchive-doctest/*.h5")
    >>> list(found), found["loss"].tolist(), found["metrics/loss"].tolist()
    (['path', 'loss', 'lr'], [0.5, 0.0], [0.5, 0.0])
    """
    inputs = find_inputs(urls, storage_options, cache, cache_bytes)
    rows = [outcome.result or {} for outcome in read_each(read_row, inputs)]
    columns = {"path": texts([one.path for one in inputs])} | provenance_columns(
        [provenance_of(one.place.display, row) for one, row in zip(inputs, rows, strict=True)]
    )
    return tabulate(columns, rows)


def history_of(files: Sequence[FileRow], *, clients: bool = False) -> Table:
    """Return the values of files of rounds as columns."""
    columns = {
        "path": texts([url for _, _, url, _ in files]),
        "round": make_column([number for number, *_ in files]),
    }
    if clients:
        columns["client"] = texts([client for _, client, _, _ in files])
    columns["kept"] = np.array([url is not None for _, _, url, _ in files], bool)
    return tabulate(columns, [row for *_, row in files])
