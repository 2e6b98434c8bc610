"""What killed writers left behind: uploads that were never ended, temporary files that nobody holds."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.errors import MissingError, StorageError
from archive.format.constants import SUPERBLOCK_BYTES
from archive.format.footer import parse_superblock_eof
from archive.storage.location import locate_store
from archive.storage.slots import is_held, remove_stale
from archive.storage.url import URL, parse_url

__all__ = ["Leftover", "sweep"]

_SLOT = re.compile(r"\..+\.(?:[0-7]|[0-9a-f]{16})\.tmp", re.DOTALL)
"""Names that `archive.storage.sink` gives to temporary files."""


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
) -> list[Leftover]:
    """Remove what writers left behind that were killed before they could.

    Of a remote URL: every upload in parts, of this object or below this folder, that was begun before and
    never ended. A store does not say who began one: uploads of other programs are among them, and so would be
    one of ours that takes longer than ``older_than``. Of a local folder, and those below it: temporary files
    of saves that no process holds and whose first bytes are those of an archive in the making. Never a
    ``NAME.partial``, which may be the only copy of what it holds.

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

    Returns
    -------
    list of Leftover
        What was removed.

    Raises
    ------
    MissingError, StorageError, UnsupportedURLError
    """
    location = parse_url(url, storage_options)
    before = time.time() - older_than
    if location.remote:
        store, path = locate_store(location)
        removed = []
        for pending in list(store.pending(path)):
            if pending.started <= before:
                if not dry_run:
                    store.abort(pending)
                removed.append(Leftover(store.url(pending.path), pending.upload, pending.started))
        return removed
    folder = Path(location.path)
    if not folder.is_dir():
        raise MissingError("no such folder", path=location.path, errno=errno.ENOENT, remedy="name a folder")
    try:
        return [found for found in _slots(folder) if found.started <= before and _remove(found, dry_run)]
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"cannot be removed: {error.strerror}", path=error.filename, errno=error.errno
        ) from error


def _slots(folder: Path) -> Iterator[Leftover]:
    """Yield temporary files by name, content and age; folders behind links are left alone."""
    for path in sorted(folder.rglob(".*.tmp")):
        if not _SLOT.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                head, written = file.read(SUPERBLOCK_BYTES), os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, PermissionError):
            continue  # published meanwhile; or of another user, who alone can remove it
        # a stream writes its head last
        if parse_superblock_eof(head) is not None or not any(head):
            yield Leftover(str(path), "", written)


def _remove(found: Leftover, dry_run: bool) -> bool:
    if dry_run:
        return not is_held(found.path)
    remove_stale(found.path)  # not where a writer holds it
    return not Path(found.path).exists()
