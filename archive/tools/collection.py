"""The garbage collector: what killed writers left behind is found by content, and removed.

The one place that decides what is left over, for `fedarchive gc` and for `CheckpointStore.gc` alike.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.errors import MissingError
from archive.storage.folder import join, list_files, remove_slot
from archive.storage.location import locate_store
from archive.storage.url import URL, parse_url

__all__ = ["Leftover", "sweep"]

_SLOT = re.compile(r"\..+\.(?:[0-7]|[0-9a-f]{16})\.tmp", re.DOTALL)
"""Names that `archive.storage.local.sink` gives to temporary files."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a writer left behind."""

    path: str
    """The temporary file, or where the object of an upload would have appeared."""
    upload: str
    """What the store calls the upload; empty for a file."""
    started: float
    """Seconds since 1970: when the upload was begun, or the file last written."""


def sweep(
    url: URL,
    *,
    older_than: float,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    path: str = "",
) -> list[Leftover]:
    """Remove what writers left behind that were killed before they could.

    Of a remote URL: every upload in parts, of this object or below this folder, that was begun before and
    never ended. A store does not say who began one: uploads of other programs are among them, and so would be
    one of ours that takes longer than ``older_than``.

    Of a local folder, and those below it: temporary files of saves that no process holds and whose first
    bytes are those of an archive in the making. Never a ``NAME.partial`` or its journal, which may be the
    only copy of what a save consumed, and nothing behind a link.

    Parameters
    ----------
    url : str or path-like
        A folder or prefix, or one remote object.
    older_than : float
        Age in seconds that it has at least.
    dry_run : bool
        Only tell what would be removed.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.
    path : str
        A folder in ``url``, which alone is swept.

    Returns
    -------
    list of Leftover
        What was removed.

    Raises
    ------
    MissingError, StorageError, UnsupportedURLError
    """
    before = time.time() - older_than
    root = parse_url(url, storage_options)
    if not root.remote:
        return list(_sweep_folder(root.path, path, before, dry_run))
    store, target = locate_store(parse_url(join(root.path, path), storage_options) if path else root)
    removed = []
    for pending in list(store.pending(target)):
        if pending.started <= before:
            if not dry_run:
                store.abort(pending)
            removed.append(Leftover(store.url(pending.path), pending.upload, pending.started))
    return removed


def _sweep_folder(root: str, path: str, before: float, dry_run: bool) -> Iterator[Leftover]:
    """Yield temporary files by name, age and content, each removed already unless it is a dry run."""
    if not Path(root).is_dir():
        raise MissingError("no such folder", path=root, errno=errno.ENOENT, remedy="name a folder")
    for entry in sorted(list_files(root, path=path), key=lambda entry: entry.path):
        inner = join(path, entry.path) if path else entry.path
        if (
            _SLOT.fullmatch(entry.path.rpartition("/")[2])
            and entry.modified <= before
            and remove_slot(root, inner, dry_run=dry_run)
        ):
            yield Leftover(join(root, inner), "", entry.modified)
