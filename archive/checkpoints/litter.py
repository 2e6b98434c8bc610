"""What killed runs left in a store, and removing what of it is old enough."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from archive.checkpoints.layout import parse_client, parse_round
from archive.checkpoints.rounds import Rounds
from archive.errors import MissingError
from archive.storage.folder import (
    Entry,
    abort_uploads,
    is_leftover,
    join,
    list_files,
    remove_empty,
    remove_file,
    remove_leftover,
)

__all__ = ["collect", "find_orphans"]

Options = Mapping[str, Any] | None


def collect(files: Rounds, older_than: float) -> list[str]:
    """Remove what killed runs left in a store, if it is older than so many seconds; return the paths."""
    removed = []
    for name in ("rounds", "contexts"):
        # listed before the rounds are: a file of a round that is saved meanwhile is no orphan
        entries = list(list_files(files.path(name), files.options))
        orphans = []
        if name == "rounds":
            there = set(files.numbers())
            with_clients = {found[0] for entry in entries if (found := parse_client(entry.path))}
            named = {number: files.stems(number) for number in there & with_clients}
            orphans = find_orphans(entries, files.pending() | named)
        swept = _sweep(files.path(name), files.options, orphans, entries, older_than)
        removed += [f"{name}/{path}" for path in swept]
    return removed


def find_orphans(entries: list[Entry], named: Mapping[int, set[str] | None]) -> list[Entry]:
    """Return the client files that no round file names.

    Parameters
    ----------
    entries : list of Entry
        Files below ``rounds``.
    named : mapping
        Stems of the client files that each round names, or will; None for a round that does not tell.
    """
    orphans = []
    for entry in entries:
        client = parse_client(entry.path)
        if client is None:
            continue
        number, stem = client
        stems = named.get(number, set())
        if stems is not None and stem not in stems:
            orphans.append(entry)
    return orphans


def _sweep(
    url: str, storage_options: Options, orphans: list[Entry], entries: list[Entry], older_than: float
) -> list[str]:
    """Remove orphans and what killed saves left, of files below ``url`` that are older than so many seconds.

    Returns
    -------
    list of str
        Paths below ``url`` of what was removed.
    """
    before = time.time() - older_than
    removed = []
    for entry in orphans:
        if entry.modified <= before:
            try:
                remove_file(join(url, entry.path), storage_options)
            except MissingError:
                continue  # another was faster
            removed.append(entry.path)
    for entry in entries:
        old = is_leftover(entry.path.rpartition("/")[2]) and entry.modified <= before
        if old and remove_leftover(join(url, entry.path), storage_options):
            removed.append(entry.path)
    for folder in {entry.path.rpartition("/")[0] for entry in entries} - {""}:
        if parse_round(f"{folder}.h5") is not None:
            remove_empty(join(url, folder), storage_options)
    return removed + abort_uploads(url, storage_options, before=before)
