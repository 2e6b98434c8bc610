"""Folders of files by URL: what is in them, and removing it.

A folder of a remote store is the common beginning of names: it need not be made, and is gone with its
last object.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from archive.errors import ArchiveError, MissingError, StorageError
from archive.storage.location import locate_store
from archive.storage.partial import CompletedFile
from archive.storage.slots import remove_stale
from archive.storage.store import Entry
from archive.storage.url import URL, parse_url

__all__ = [
    "Entry",
    "abort_uploads",
    "absolute_url",
    "file_exists",
    "is_leftover",
    "is_remote",
    "join",
    "list_files",
    "make_folder",
    "remove_empty",
    "remove_file",
    "remove_leftover",
]

Options = Mapping[str, Any] | None
_TEMPORARY = re.compile(r"\..+\.([0-7]|[0-9a-f]{16})\.tmp")
_PARTIAL = re.compile(r".+\.partial(-\d+)?(\.journal)?")


def join(url: str, *parts: str) -> str:
    """Return the URL of something in a folder.

    Examples
    --------
    >>> join("/data/run", "rounds", "1.h5"), join("s3://bucket/run/", "rounds"), join("memory://", "rounds")
    ('/data/run/rounds/1.h5', 's3://bucket/run/rounds', 'memory://rounds')
    """
    folder = url.rstrip("/")
    if url.endswith("/") and (not folder or folder.endswith(":")):  # slashes that belong to it: memory://
        return url + "/".join(parts)
    return "/".join([folder, *parts])


def absolute_url(url: URL, storage_options: Options = None) -> str:
    """Return a URL that means the same after a change of folder; a remote one is one already."""
    location = parse_url(url, storage_options)
    return location.path if location.remote else os.path.abspath(location.path)


def is_remote(url: URL, storage_options: Options = None) -> bool:
    """Tell whether a URL names something behind a network."""
    return parse_url(url, storage_options).remote


def list_files(url: str, storage_options: Options = None, *, below: bool = True) -> Iterator[Entry]:
    """Yield the files of a folder, in no order; nothing where there is no such folder.

    Parameters
    ----------
    url : str
    storage_options : mapping, optional
    below : bool, default True
        Also those of folders in it; their paths are relative to ``url``, with ``/`` between.

    Raises
    ------
    StorageError
        The folder cannot be read.
    """
    location = parse_url(url, storage_options)
    if location.remote:
        store, path = locate_store(location)
        yield from (entry for entry in store.list(path) if below or "/" not in entry.path)
    else:
        yield from _list_local(location.path, "", below)


def file_exists(url: str, storage_options: Options = None) -> bool:
    """Tell whether a file is there.

    Raises
    ------
    StorageError
        That cannot be told.
    """
    location = parse_url(url, storage_options)
    if not location.remote:
        return os.path.lexists(location.path)
    store, path = locate_store(location)
    try:
        store.head(path)
    except MissingError:
        return False
    return True


def make_folder(url: str, storage_options: Options = None) -> None:
    """Make a folder and those above it, so that they survive a power cut; a remote one needs no making.

    Raises
    ------
    StorageError
        It cannot be made.
    """
    location = parse_url(url, storage_options)
    if not location.remote and not os.path.isdir(location.path):
        _make_local(os.path.abspath(location.path))


def remove_file(url: str, storage_options: Options = None) -> None:
    """Remove a file.

    Raises
    ------
    MissingError
        It is not there.
    StorageError
        It cannot be removed.
    """
    location = parse_url(url, storage_options)
    if location.remote:
        store, path = locate_store(location)
        store.delete(path)
        return
    try:
        os.unlink(location.path)
    except FileNotFoundError as error:
        raise MissingError(
            "no such file", path=location.path, errno=errno.ENOENT, remedy="check the path"
        ) from error
    except OSError as error:
        raise _failure("cannot remove it", location.path, error) from error


def remove_empty(url: str, storage_options: Options = None) -> None:
    """Remove a local folder if nothing is in it."""
    location = parse_url(url, storage_options)
    if not location.remote:
        with contextlib.suppress(OSError):
            os.rmdir(location.path)


def is_leftover(name: str) -> bool:
    """Tell whether a file name is one that a killed save leaves.

    Examples
    --------
    >>> is_leftover(".model.h5.0.tmp"), is_leftover("model.h5.partial"), is_leftover("model.h5")
    (True, True, False)
    """
    return bool(_TEMPORARY.fullmatch(name) or _PARTIAL.fullmatch(name))


def remove_leftover(url: str, storage_options: Options = None) -> bool:
    """Remove what a killed save left, unless its writer lives; tell whether it is gone.

    Raises
    ------
    StorageError
        It cannot be removed.
    """
    location = parse_url(url, storage_options)
    path = location.path
    if location.remote:  # an object of such a name was put there by somebody
        return False
    try:
        if _TEMPORARY.fullmatch(os.path.basename(path)):
            remove_stale(path)
        elif _writer_lives(path.removesuffix(".journal")):
            return False
        else:
            os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise _failure("cannot remove it", path, error) from error
    return not os.path.lexists(path)


def abort_uploads(url: str, storage_options: Options = None, *, before: float) -> list[str]:
    """End uploads below a remote folder that were begun before a time and never ended; return their paths.

    Nobody sees what they sent, and the store keeps it, at a price, until they are ended.
    """
    location = parse_url(url, storage_options)
    if not location.remote:
        return []
    store, path = locate_store(location)
    stale = [pending for pending in store.pending(path) if pending.started < before]
    for pending in stale:
        store.abort(pending)
    return [pending.path for pending in stale]


def _list_local(folder: str, prefix: str, below: bool) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failure("cannot list it", folder, error) from error
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                if below:
                    yield from _list_local(entry.path, f"{prefix}{entry.name}/", below)
                continue
            status = entry.stat()
        except FileNotFoundError:
            continue  # removed meanwhile, or a link to nothing
        except OSError as error:
            raise _failure("cannot read its status", entry.path, error) from error
        yield Entry(prefix + entry.name, status.st_size, status.st_mtime)


def _make_local(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_local(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise StorageError(
                "is no folder", path=path, errno=errno.ENOTDIR, remedy="name a folder"
            ) from None
        return  # another process was faster
    except OSError as error:
        raise _failure("cannot make a folder", path, error) from error
    try:
        fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _failure("the new folder may not survive a power cut", path, error) from error


def _writer_lives(partial: str) -> bool:
    """Tell whether the save of a partial file is still running."""
    try:
        CompletedFile(partial).leave()
    except MissingError:
        return False
    except ArchiveError as error:
        if isinstance(error, StorageError) and error.errno == errno.EBUSY:
            return True
        raise
    return False


def _failure(what: str, path: str, error: OSError) -> StorageError:
    return StorageError(
        f"{what}: {error.strerror}",
        path=path,
        errno=error.errno,
        remedy="check the permissions and the disk",
    )
