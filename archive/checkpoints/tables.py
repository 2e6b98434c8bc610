"""`archive.table`: metrics and configs of many archives as columns, without a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from archive.checkpoints.columns import Row, make_column, make_columns, read_row
from archive.checkpoints.paths import CHECKPOINT, unspell
from archive.checkpoints.patterns import match_urls
from archive.checkpoints.roundreader import FileRow
from archive.dtypes import NDArray
from archive.format.constants import OWN_PREFIX
from archive.storage.redaction import redact_url
from archive.storage.url import URL, Cache, parse_url
from archive.workers import map_archives

__all__ = ["Table", "history_of", "table"]


class Table(dict[str, NDArray]):
    """A dict of columns of one length; a column is also found by its full name, ``record/key``."""

    def __init__(self, columns: Mapping[str, NDArray], aliases: Mapping[str, str]) -> None:
        super().__init__(columns)
        self._aliases = dict(aliases)

    def __missing__(self, name: str) -> NDArray:
        if name in self._aliases:
            return self[self._aliases[name]]
        raise KeyError(f"no column {name!r}; there are {', '.join(map(repr, self))}")


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
        A dict of arrays of one length, which pandas accepts. ``path``; ``round`` and ``client`` for archives
        of a `CheckpointStore`; and one column for each metric and config, named by its key where only one
        record has that key, else ``record/key``. Integers and floats are numbers, NaN where an archive has
        no value; str, lists and bytes are objects, None where it has no value. Values of more than 60,000
        bytes are left out: they are datasets, and not in the index.

    Raises
    ------
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
    paths = match_urls(urls, storage_options)
    places = [parse_url(path, storage_options, cache, cache_bytes) for path in paths]
    rows = map_archives(read_row, places, remote=any(place.remote for place in places[:1]))
    named = zip(paths, places, strict=True)
    columns = {"path": _texts([redact_url(path).address if at.remote else path for path, at in named])}
    rounds = [row.get(("configs", CHECKPOINT, "round")) for row in rows]
    if any(number is not None for number in rounds):
        columns["round"] = make_column(rounds)
    clients = [row.get(("configs", CHECKPOINT, "client")) for row in rows]
    if any(name is not None for name in clients):
        columns["client"] = _texts([unspell(name) if isinstance(name, str) else None for name in clients])
    return _tabulate(columns, rows)


def history_of(files: Sequence[FileRow], *, clients: bool = False) -> Table:
    """Return the values of files of rounds as columns."""
    columns = {
        "path": _texts([url for _, _, url, _ in files]),
        "round": make_column([number for number, *_ in files]),
    }
    if clients:
        columns["client"] = _texts([client for _, client, _, _ in files])
    columns["kept"] = np.array([url is not None for _, _, url, _ in files], bool)
    return _tabulate(columns, [row for *_, row in files])


def _tabulate(columns: dict[str, NDArray], rows: Sequence[Row]) -> Table:
    shown = [
        {name: value for name, value in row.items() if not name[1].startswith(OWN_PREFIX)} for row in rows
    ]
    named, aliases = make_columns(shown, columns)
    return Table(columns | named, aliases)


def _texts(values: Sequence[str | None]) -> NDArray:
    column: NDArray = np.empty(len(values), object)
    column[:] = values
    return column
