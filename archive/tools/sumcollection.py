"""Finds partial sums that a killed mean left behind, and removes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from archive.engine.read.open import read_source
from archive.errors import ArchiveError
from archive.storage.folder import join, list_files, remove_empty, remove_if
from archive.storage.protocols import Source
from archive.tools.partials import PARTIAL, is_partial
from archive.tools.scratchfolder import SCRATCH_END

__all__ = ["collect_sums"]


def collect_sums(
    root: str, path: str, before: float, dry_run: bool, storage_options: Mapping[str, Any] | None
) -> Iterator[tuple[str, float]]:
    """Yield places and times of partial sums, by name, age and content, removed unless it is a dry run.

    Their folder goes with the last of them, as it does when a mean is published.
    """
    found = list_files(root, storage_options, path=path)
    for entry in sorted(found, key=lambda entry: entry.path):
        inner = join(path, entry.path) if path else entry.path
        folder, _, name = inner.rpartition("/")
        if not PARTIAL.fullmatch(name) or entry.modified > before:
            continue
        if _is_sum(root, inner, storage_options, remove=not dry_run):
            yield join(root, inner), entry.modified
            if folder.endswith(SCRATCH_END) and not dry_run:
                remove_empty(root, folder, storage_options)


def _is_sum(root: str, path: str, storage_options: Mapping[str, Any] | None, *, remove: bool) -> bool:
    """Tell whether a file is a partial sum, and remove it if so and if it is to be."""
    found: list[bool] = []

    def judge(source: Source) -> bool:
        with contextlib.suppress(ArchiveError):
            found.append(is_partial(read_source(source)))
        return remove and any(found)

    gone = remove_if(root, path, judge, storage_options)
    return gone if remove else any(found)
