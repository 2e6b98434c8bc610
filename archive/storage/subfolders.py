"""Which folders of some names a folder has, and which the folders in it have."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from archive.errors import StorageError
from archive.storage.location import locate_store
from archive.storage.remedies import remedy_of
from archive.storage.url import parse_url

__all__ = ["find_subfolders"]

_UNSEEN = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ESTALE, errno.ENAMETOOLONG)
"""A folder in the folder that was removed, is no folder, or must not be read: nothing is found in it."""


def find_subfolders(
    url: str, names: Collection[str], storage_options: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the folders that have a folder of one of some names: ``""`` is the folder itself.

    Where that has such a folder, nothing else is looked for. A remote folder is listed once, and no further
    than to there. Of local folders a folder in it may be a link, the one of such a name may not.

    Parameters
    ----------
    url : str
    names : collection of str
    storage_options : mapping, optional

    Returns
    -------
    list of str
        Sorted. Empty also where there is no folder.

    Raises
    ------
    StorageError
        The folder cannot be read.

    Examples
    --------
    >>> os.makedirs("/tmp/fedarchive-doctest-runs/adam/rounds", exist_ok=True)
    >>> find_subfolders("/tmp/fedarchive-doctest-runs", ["rounds"])
    ['adam']
    >>> find_subfolders("/tmp/fedarchive-doctest-runs/adam", ["rounds"])
    ['']
    """
    location = parse_url(url, storage_options)
    if not location.remote:
        return _find_local(location.path, names)
    store, folder = locate_store(location)
    found = set()
    for entry in store.list(folder):
        first, _, rest = entry.path.partition("/")
        if rest and first in names:
            return [""]
        second, slash, _ = rest.partition("/")
        if slash and second in names:
            found.add(first)
    return sorted(found)


def _find_local(path: str, names: Collection[str]) -> list[str]:
    try:
        if any(_is_folder(os.path.join(path, name)) for name in names):
            return [""]
        return sorted(_with_folder(path, names))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"cannot list it: {error.strerror}",
            path=path,
            errno=error.errno,
            remedy=remedy_of(error.errno, "check the permissions and the disk"),
        ) from error


def _with_folder(path: str, names: Collection[str]) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.is_file(follow_symlinks=False) and any(
                _is_folder(os.path.join(entry.path, name)) for name in names
            ):
                yield entry.name


def _is_folder(path: str) -> bool:
    """Tell whether a folder is there; a link is none."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError as error:
        if error.errno in _UNSEEN:
            return False
        raise
