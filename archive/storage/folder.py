"""Folders of files by URL: what is in them, and removing it.

A folder of a remote store is the common beginning of names: it need not be made, and is gone with its
last object.

Where a function takes ``url`` and ``path``, ``url`` is the folder that the user named: it may be a link, or
lie below one. ``path`` is what we put there, and no link in it is followed: files of others are behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from archive import system
from archive.errors import MissingError, ReplacedError, StorageError
from archive.owner import Descriptor
from archive.storage.local.slots import remove_stale
from archive.storage.local.source import FileSource, file_tag
from archive.storage.local.volumes import GONE
from archive.storage.location import locate_source, locate_store
from archive.storage.protocols import Source
from archive.storage.remedies import remedy_of
from archive.storage.remote.objectstore import Entry
from archive.storage.url import URL, Cache, Location, parse_url

__all__ = [
    "Entry",
    "file_exists",
    "join",
    "list_files",
    "locate_folder",
    "make_place",
    "remove_empty",
    "remove_file",
    "remove_if",
    "remove_slot",
]

Options = Mapping[str, Any] | None
_FOLDER = system.O_DIRECTORY | system.O_CLOEXEC
_PASS = system.O_PATH | _FOLDER
"""A folder that is not listed need not be readable."""
_LINKS = (errno.ENOTDIR, errno.ELOOP, errno.EMLINK)
"""What systems say of a link that O_NOFOLLOW keeps them from following."""


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


def locate_folder(
    url: URL, storage_options: Options = None, cache: Cache = None, cache_bytes: int | None = None
) -> Location:
    """Return the location of a folder, which means the same after a change of the working folder."""
    location = parse_url(url, storage_options, cache, cache_bytes)
    return location if location.remote else Location(location.path.rstrip("/") or "/")


def list_files(
    url: str,
    storage_options: Options = None,
    *,
    path: str = "",
    below: bool = True,
    span: tuple[str, str] | None = None,
) -> Iterator[Entry]:
    """Yield the files of a folder, in no order; nothing where there is no such folder.

    Parameters
    ----------
    url : str
    storage_options : mapping, optional
    path : str
        A folder in ``url``; nothing is in it where it is a link.
    below : bool, default True
        Also those of folders in it, but for links; their paths are relative to the folder, with ``/``
        between. Folders in it that must not be read are left out.
    span : (str, str), optional
        Files whose paths are after the first text and before the second are enough: of a remote folder no
        others are asked for.

    Raises
    ------
    StorageError
        The folder cannot be read.
    """
    location = parse_url(join(url, path) if path else url, storage_options)
    if location.remote:
        store, folder = locate_store(location)
        found = store.list(folder, below=below, span=span)
        yield from (entry for entry in found if below or "/" not in entry.path)
        return
    root = parse_url(url).path
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with _open_folder(root, "/".join(filter(None, (path, inner))), os.O_RDONLY) as fd:
                files, folders = _scan(fd, os.path.join(root, path, inner))
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            if error.errno == errno.ENOENT or (inner and error.errno in (errno.EACCES, errno.ESTALE)):
                continue
            if (path or inner) and error.errno in _LINKS:
                continue
            raise _failure("cannot list it", os.path.join(root, path, inner), error) from error
        prefix = f"{inner}/" if inner else ""
        yield from (replace(entry, path=prefix + entry.path) for entry in files) if prefix else files
        if below:
            waiting += [prefix + name for name in folders]


def file_exists(url: str, storage_options: Options = None) -> bool:
    """Tell whether a file is there.

    Raises
    ------
    StorageError
        That cannot be told.
    """
    location = parse_url(url, storage_options)
    if not location.remote:
        try:
            os.lstat(location.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _failure("cannot tell whether it is there", location.path, error) from error
        return True
    store, path = locate_store(location)
    try:
        store.head(path)
    except MissingError:
        return False
    return True


def make_place(url: str, path: str, storage_options: Options = None) -> str:
    """Make the folders of a file that is to be written, so that they survive a power cut; return its URL.

    Raises
    ------
    StorageError
        They cannot be made; or one of them, or the file, is a link.
    """
    place = join(url, path)
    if parse_url(place, storage_options).remote:
        return place
    root = parse_url(url).path
    if not os.path.isdir(root):
        _make_root(root)
    folder, name = os.path.split(path)
    try:
        with _open_folder(root, folder, make=True) as fd, contextlib.suppress(FileNotFoundError):
            if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except OSError as error:
        raise _failure("cannot make it or its folder", place, error) from error
    return place


def remove_file(url: str, path: str, storage_options: Options = None) -> None:
    """Remove a file; of a link the link itself.

    Raises
    ------
    MissingError
        It is not there.
    StorageError
        It cannot be removed, or lies behind a link.
    """
    location = parse_url(join(url, path), storage_options)
    if location.remote:
        store, target = locate_store(location)
        store.delete(target)
        return
    folder, name = os.path.split(path)
    try:
        with _open_folder(parse_url(url).path, folder) as fd:
            os.unlink(name, dir_fd=fd)
    except FileNotFoundError as error:
        raise MissingError(
            "no such file", path=location.path, errno=errno.ENOENT, remedy="check the path"
        ) from error
    except OSError as error:
        raise _failure("cannot remove it", location.path, error) from error


def remove_if(url: str, path: str, judge: Callable[[Source], bool], storage_options: Options = None) -> bool:
    """Remove a file if what is in it says so, and tell whether that was done.

    What is behind a link, and anything but a file, is not judged and stays.

    Parameters
    ----------
    url, path : str
    judge : callable
        Called with the open file; what it read is what is removed.
    storage_options : mapping, optional

    Raises
    ------
    StorageError
        It cannot be read or removed.
    """
    location = parse_url(join(url, path), storage_options)
    if location.remote:
        try:
            source = locate_source(location, "pread")
            try:
                ours = judge(source)
            finally:
                source.close()
            if ours:
                remove_file(url, path, storage_options)
        except (MissingError, ReplacedError):
            return False
        return ours
    folder, name = os.path.split(path)
    try:
        with _open_folder(parse_url(url).path, folder) as fd:
            return _remove_judged(fd, name, location.path, judge)
    except OSError as error:
        if error.errno in (*GONE, *_LINKS):
            return False
        if isinstance(error, StorageError):
            raise
        raise _failure("cannot remove it", location.path, error) from error


def remove_slot(url: str, path: str, *, dry_run: bool = False) -> bool:
    """Remove a local temporary file of a save whose writer is gone; tell whether it is gone, or would be.

    Raises
    ------
    StorageError
        It cannot be removed.
    """
    root = parse_url(url).path
    folder, name = os.path.split(path)
    try:
        with _open_folder(root, folder) as fd:
            return remove_stale(name, dir_fd=fd, dry_run=dry_run)
    except OSError as error:
        if error.errno in (*GONE, *_LINKS):
            return False
        raise _failure("cannot remove it", os.path.join(root, path), error) from error


def remove_empty(url: str, path: str, storage_options: Options = None) -> None:
    """Remove a local folder if nothing is in it."""
    if not parse_url(url, storage_options).remote:
        folder, name = os.path.split(path)
        with contextlib.suppress(OSError), _open_folder(parse_url(url).path, folder) as fd:
            os.rmdir(name, dir_fd=fd)


@contextlib.contextmanager
def _open_folder(root: str, path: str, how: int = _PASS, *, make: bool = False) -> Iterator[int]:
    """Open a folder below a root, following no link below it; ``make`` what is not there."""
    parts = [part for part in path.split("/") if part]
    fd = os.open(root, _PASS if parts else how | _FOLDER)
    try:
        for number, part in enumerate(parts, 1):
            flags = system.O_NOFOLLOW | (how | _FOLDER if number == len(parts) else _PASS)
            try:
                above, fd = fd, os.open(part, flags, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):  # another process was faster
                    os.mkdir(part, dir_fd=fd)
                    _sync(fd)
                above, fd = fd, os.open(part, flags, dir_fd=fd)
            os.close(above)
        yield fd
    finally:
        os.close(fd)


def _sync(folder: int) -> None:
    """Make the names in an open folder survive a power cut."""
    fd = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=folder)
    try:
        system.fsync(fd)
    finally:
        os.close(fd)


def _scan(fd: int, path: str) -> tuple[list[Entry], list[str]]:
    """Return files and names of folders of an open folder."""
    files, folders, now = [], [], time.time()
    with os.scandir(fd) as found:
        for entry in found:
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                    continue
                status = entry.stat()
            except OSError as error:
                if error.errno in GONE or entry.is_symlink():
                    continue  # removed meanwhile, or a link to nothing
                raise _failure("cannot read its status", os.path.join(path, entry.name), error) from error
            files.append(Entry(entry.name, status.st_size, status.st_mtime, file_tag(status, now)))
    return files, folders


def _remove_judged(folder: int, name: str, path: str, judge: Callable[[Source], bool]) -> bool:
    try:
        fd = os.open(
            name, os.O_RDONLY | system.O_NOFOLLOW | system.O_NONBLOCK | system.O_CLOEXEC, dir_fd=folder
        )
    except PermissionError:
        return False  # of another user, who alone can judge it
    status = os.fstat(fd)
    source = FileSource(path, Descriptor([fd]), status.st_size)
    try:
        if not stat.S_ISREG(status.st_mode) or not judge(source):
            return False
    finally:
        source.close()
    named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not os.path.samestat(status, named):
        return False  # replaced meanwhile
    os.unlink(name, dir_fd=folder)
    return True


def _make_root(path: str) -> None:
    """Make a folder that the user named, and those above it."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_root(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise StorageError(
                "is not a folder", path=path, errno=errno.ENOTDIR, remedy="name a folder"
            ) from None
        return  # another process was faster
    except OSError as error:
        raise _failure("cannot make a folder", path, error) from error
    try:
        fd = os.open(parent, os.O_RDONLY | _FOLDER)
        try:
            system.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _failure("the new folder may not survive a power cut", path, error) from error


def _failure(what: str, path: str, error: OSError) -> StorageError:
    if error.errno in _LINKS:
        return StorageError(
            f"{what}: a link or no folder is in its way, and no link is followed there",
            path=path,
            errno=error.errno,
            remedy="put a folder in its place, or make the folder that you name the link",
        )
    return StorageError(
        f"{what}: {error.strerror}",
        path=path,
        errno=error.errno,
        remedy=remedy_of(error.errno, "check the permissions and the disk"),
    )
