"""The folder of partial sums: where it is, that it is our own, and that it goes when it is not needed."""

from __future__ import annotations

import contextlib
import errno
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from archive import system
from archive.errors import ArchiveError, MissingError, StorageError
from archive.storage.folder import join, list_files, remove_empty, remove_file
from archive.storage.location import locate_store
from archive.storage.url import Location
from archive.tools.partials import PARTIAL
from archive.workers import map_archives

__all__ = [
    "SCRATCH_END",
    "files_in",
    "make_scratch",
    "place_in",
    "remove_in",
    "remove_partials",
    "scratch_beside",
]

SCRATCH_END = ".sums"
"""How its name ends."""


def scratch_beside(out: Location) -> Location:
    """Return the folder for partial sums beside an archive: the next attempt finds it again."""
    folder, _, name = out.path.rpartition("/")
    return replace(out, path=f"{folder}/.{name}{SCRATCH_END}")


def make_scratch(scratch: Location) -> None:
    """Make a local folder for partial sums, which nobody else may write to.

    Raises
    ------
    StorageError
        It cannot be made; or somebody else's folder or link has its name.
    """
    if scratch.remote:
        return
    try:
        Path(scratch.path).mkdir(0o700, parents=True, exist_ok=True)
        status, own = Path(scratch.path).stat(), Path(scratch.path).lstat()
    except OSError as error:
        raise StorageError(
            f"cannot make a folder for partial sums: {error.strerror}",
            path=scratch.path,
            errno=error.errno,
            remedy="name another with scratch=",
        ) from error
    # a link of somebody else leads to where they like: to a folder of ours too
    theirs = {status.st_uid, own.st_uid} - {0, system.geteuid()} or status.st_mode & stat.S_IWOTH
    if not stat.S_ISDIR(status.st_mode) or theirs:
        raise StorageError(
            "no folder of our own: others could put sums there",
            path=scratch.path,
            errno=errno.EPERM,
            remedy="name another with scratch=",
        )


def place_in(folder: Location, name: str) -> Location:
    """Return the place of a file in a folder."""
    return replace(folder, path=join(folder.path, name))


def files_in(folder: Location, pattern: re.Pattern[str]) -> list[tuple[int, Location]]:
    """Return number and place of files, in order, by a pattern of their names with a number in it."""
    entries = list_files(folder.path, folder.options if folder.remote else None, below=False)
    found = [(match, entry.path) for entry in entries if (match := pattern.fullmatch(entry.path))]
    return sorted(((int(match[1]), place_in(folder, name)) for match, name in found), key=lambda one: one[0])


def remove_in(folder: Location, place: Location) -> None:
    """Remove a file of a folder, if it is there."""
    with contextlib.suppress(MissingError):
        remove_file(folder.path, place.name, folder.options if folder.remote else None)


def remove_partials(scratch: Location, keys: Iterable[str] | None) -> None:
    """Remove the partial sums of keys, or all, unfinished uploads of them, and an empty local folder."""
    options = scratch.options if scratch.remote else None
    names = [f"{key}.sum.h5" for key in keys] if keys is not None else []
    if keys is None:
        entries = list_files(scratch.path, options, below=False)
        names = [entry.path for entry in entries if PARTIAL.fullmatch(entry.path)]

    def remove(name: str) -> None:
        with contextlib.suppress(MissingError):  # another run was faster
            remove_file(scratch.path, name, options)

    # over S3 each is two round trips: one after the other, those of a million clients took most of an hour
    map_archives(remove, names, remote=scratch.remote)
    if scratch.remote:
        _end_uploads(scratch, None if keys is None else set(names))
        return
    folder, _, name = scratch.path.rpartition("/")
    remove_empty(folder or "/", name)


def _end_uploads(scratch: Location, names: set[str] | None) -> None:
    """End unfinished uploads of partial sums of these names, or of all.

    The mean is there already: tidying up is no reason to fail, and `collect_garbage` finds what stays.
    """
    store, folder = locate_store(scratch)
    with contextlib.suppress(ArchiveError):
        for pending in list(store.list_multipart(f"{folder.rstrip('/')}/")):
            name = pending.path.rpartition("/")[2]
            if PARTIAL.fullmatch(name) and (names is None or name in names):
                store.abort(pending)
