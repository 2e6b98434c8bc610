"""The garbage collector: finds what killed writers left behind, by content, and removes it.

`fedarchive gc` and `CheckpointStore.gc` both call it.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.display.shortfields import ShortFields
from archive.errors import MissingError
from archive.storage.folder import join, list_files, remove_slot
from archive.storage.location import locate_store
from archive.storage.remote.objectstore import PROBE_PREFIX, PROBES, ObjectStore
from archive.storage.url import URL, parse_url
from archive.tools.sumcollection import collect_sums

__all__ = ["Garbage", "collect_garbage"]

_SLOT = re.compile(r"\..+\.(?:[0-7]|[0-9a-f]{16})(?:\.fedarchive)?\.tmp", re.DOTALL)
"""Names that `archive.storage.local.sink` gives to temporary files."""


@dataclass(frozen=True, slots=True, repr=False)
class Garbage(ShortFields):
    """A file or upload that a killed writer left behind."""

    path: str
    """The temporary file, or where the object of an upload would have appeared."""
    upload: str
    """What the store calls the upload; empty for a file."""
    started: float
    """Seconds since 1970: when the upload was begun, or the file last written."""


def collect_garbage(
    url: URL,
    *,
    older_than: float,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    path: str = "",
) -> list[Garbage]:
    """Remove what killed writers left behind.

    Of a remote URL: every unfinished upload in parts, of this object or below this folder. A store does not
    say who began an upload: those of other programs are among them, and so is a save that takes longer than
    ``older_than``. The objects by which a save asked whether the store creates exclusively. And partial sums
    of a mean, which say themselves what they are.

    Of a local folder, and those below it: temporary files of saves that no process holds and that begin as
    an archive does, or whose name says that they are ours; and partial sums. Never a ``NAME.partial`` or its
    journal, which may be the only copy of what a save consumed, and nothing that a link leads to.

    Parameters
    ----------
    url : str or path-like
        A folder or prefix, or one remote object.
    older_than : float
        Least age in seconds.
    dry_run : bool
        Report only, remove nothing.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.
    path : str
        Collect only in this folder of ``url``.

    Returns
    -------
    list of Garbage
        What was removed, or would be.

    Raises
    ------
    MissingError, StorageError, UnsupportedURLError
    """
    before = time.time() - older_than
    root = parse_url(url, storage_options)
    if not root.remote:
        files = list(_collect_files(root.path, path, before, dry_run))
        return files + list(_sums(root.path, path, before, dry_run, None))
    store, target = locate_store(parse_url(join(root.path, path), storage_options) if path else root)
    removed: list[Garbage] = []
    for pending in list(store.list_multipart(target)):
        if pending.started <= before:
            if not dry_run:
                store.abort(pending)
            removed.append(Garbage(store.url(pending.path), pending.upload, pending.started))
    removed += _collect_probes(store, target, before, dry_run)
    return removed + list(_sums(root.path, path, before, dry_run, storage_options))


def _collect_probes(store: ObjectStore, folder: str, before: float, dry_run: bool) -> list[Garbage]:
    """Remove objects that asked a store whether it keeps its word, and return them."""
    removed = []
    for entry in list(store.list(folder)) if store.multipart else []:
        path = f"{folder.rstrip('/')}/{entry.path}"
        if not entry.path.rpartition("/")[2].startswith(PROBE_PREFIX) or entry.modified > before:
            continue
        with contextlib.suppress(MissingError):  # its process, or another that collects, was faster
            if bytes(store.get_suffix(path, 64)[0]) in PROBES:
                if not dry_run:
                    store.delete(path)
                removed.append(Garbage(store.url(path), "", entry.modified))
    return removed


def _collect_files(root: str, path: str, before: float, dry_run: bool) -> Iterator[Garbage]:
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
            yield Garbage(join(root, inner), "", entry.modified)


def _sums(
    root: str, path: str, before: float, dry_run: bool, storage_options: Mapping[str, Any] | None
) -> Iterator[Garbage]:
    for place, modified in collect_sums(root, path, before, dry_run, storage_options):
        yield Garbage(place, "", modified)
