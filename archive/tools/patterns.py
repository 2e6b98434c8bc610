"""Patterns of file names, local and remote, by the rules of `glob.glob`; loops of links end."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os.path import join
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError, MissingError, StorageError
from archive.storage.folder import list_files
from archive.storage.remedies import remedy_of
from archive.storage.url import URL, Location, parse_pattern, parse_url
from archive.tools.archivefacts import read_facts
from archive.tools.spelling import CATALOGUE, CATALOGUE_RECORD, RUN_FOLDERS

__all__ = ["has_wildcards", "match_urls", "may_be_several"]

_MAGIC = re.compile(r"[*?[]")
_ENDS = (".h5", ".hdf5")
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)
"""What the system says where nothing can match: no folder, or one that must not be read."""


def match_urls(
    urls: URL | Iterable[URL], storage_options: Mapping[str, Any] | None, *, folders: bool = False
) -> list[str]:
    """Return the paths that a pattern matches, sorted, or the archives that were named.

    Parameters
    ----------
    urls : str, path-like or iterable of them
        A pattern, or names one by one. A pattern or folder does not mean the catalogue of a run.
    storage_options : mapping, optional
    folders : bool, default False
        A folder stands for the files below it whose names end in ``.h5``, but hidden ones. Otherwise a
        folder is an error.

    Raises
    ------
    MissingError
        A pattern matches no file, or a folder has no archive.
    StorageError
        A folder, or nobody can tell what is there.
    """
    if not isinstance(urls, (str, os.PathLike)):
        return [os.fspath(url) for url in urls]
    location = parse_pattern(urls, storage_options)  # as it was written: a table shows it
    path = location.path
    if not has_wildcards(location):
        found = _in_folder(location, folders)
        return [path] if found is None else _require(found, "the folder has no archive", location)
    if location.remote:
        folder = _MAGIC.split(path, maxsplit=1)[0].rpartition("/")[0]
        found = _find_remote(folder, path[len(folder) + 1 :].split("/"), storage_options)
    else:
        found = _find("/" if path.startswith("/") else "", [part for part in path.split("/") if part])
        found = [one for one in found if not _is_catalogue(one)]
    return _require(found, "no file matches this pattern", location)


def has_wildcards(location: Location) -> bool:
    """Return whether a name is a pattern. A query or version is not, nor is a local file of that very name.

    Of a web server, which lists nothing, ``*`` alone is a wildcard: names and addresses have the others.

    Examples
    --------
    >>> [
    ...     has_wildcards(parse_pattern(url))
    ...     for url in (
    ...         "s3://b/*.h5",
    ...         "s3://b/m.h5?versionId=3",
    ...         "https://host/m.h5?sig=*",
    ...         "https://[::1]/m.h5",
    ...     )
    ... ]
    [True, False, False, False]
    """
    if location.remote:
        return "*" in location.display if _is_web(location) else bool(_MAGIC.search(location.display))
    return bool(_MAGIC.search(location.path)) and not os.path.lexists(location.path)


def may_be_several(location: Location) -> bool:
    """Return whether a pattern or a folder is named; a server is not asked whether a name is a folder."""
    if location.remote:
        return has_wildcards(location) or _may_be_folder(location)
    return has_wildcards(location) or os.path.isdir(location.path)


def _may_be_folder(location: Location) -> bool:
    """Return whether a URL may name a folder: one that ends as an archive does names an object."""
    return not (location.name.endswith(_ENDS) or _is_web(location))


def _is_web(location: Location) -> bool:
    return location.path.startswith(("http://", "https://"))


def _in_folder(location: Location, folders: bool) -> list[str] | None:
    """Return the archives below a folder, sorted; None where a file is named, as far as one can tell."""
    path = location.path
    if location.remote:
        if not folders or not _may_be_folder(location):
            return None
        return _find_remote(path.rstrip("/"), ["**", "*.h5"], location.options)
    if not os.path.isdir(path):
        return None
    if folders:
        return sorted(one for one in _glob(_folders([path]), ["*.h5"]) if not _is_catalogue(one))
    raise StorageError(
        "is a folder",
        path=path,
        errno=errno.EISDIR,
        remedy=f"name its files by a pattern, such as {_pattern_of(path)}",
    )


def _pattern_of(folder: str) -> str:
    """Return a pattern of the files in a folder; of a run one of its rounds and one of its clients."""
    rounds = join(folder, RUN_FOLDERS[0])
    if not os.path.isdir(rounds):
        return join(folder, "*.h5")
    return f"{join(rounds, '*.h5')} (rounds) or {join(rounds, '*', '*.h5')} (what clients sent)"


def _require(found: list[str], problem: str, location: Location) -> list[str]:
    if not found:
        remedy = "check the path; a shell needs quotes around a pattern"
        raise MissingError(problem, path=location.display, errno=errno.ENOENT, remedy=remedy)
    return found


def _find_remote(folder: str, pattern: Sequence[str], storage_options: Mapping[str, Any] | None) -> list[str]:
    """Return the URLs that the parts of a pattern match, sorted."""
    found = [entry.path for entry in list_files(folder, storage_options)]
    matches = [path for path in sorted(found) if _matches(path.split("/"), pattern)]
    if any(path.rpartition("/")[2] == CATALOGUE for path in matches):
        catalogues = {join(above, CATALOGUE) for path in found if (above := _run_of(path)) is not None}
        matches = [
            path
            for path in matches
            if path not in catalogues or not _is_ours(parse_url(f"{folder}/{path}", storage_options))
        ]
    return [f"{folder}/{path}" for path in matches]


def _is_catalogue(path: str) -> bool:
    """Return whether a local file is the catalogue of a run: no archive that a pattern or folder means."""
    folder, name = os.path.split(path)
    beside = name == CATALOGUE and any(os.path.isdir(join(folder, part)) for part in RUN_FOLDERS)
    return beside and _is_ours(parse_url(path))


def _is_ours(location: Location) -> bool:
    """Return whether what has the name of a catalogue is one, or no archive that can be read."""
    try:
        return ("configs", CATALOGUE_RECORD, "version") in read_facts(location).row
    except ArchiveError:
        return True


def _run_of(path: str) -> str | None:
    """Return the folder of the run that a file is in, by the path of the file below a listed folder.

    Examples
    --------
    >>> _run_of("adam/rounds/00000001.h5"), _run_of("rounds/00000001.h5"), _run_of("adam/a.h5")
    ('adam', '', None)
    """
    parts = path.split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part in RUN_FOLDERS]
    return "/".join(parts[: places[0]]) if places else None


def _find(root: str, pattern: Sequence[str]) -> list[str]:
    """Return the local paths that the parts of a pattern match, sorted."""
    found, parts = [root], list[str]()
    for part in pattern:
        if part == "**":
            found, parts = list(_folders(_glob(found, parts))), []
        else:
            parts.append(part)
    if parts:
        return sorted(_glob(found, parts))
    return sorted(path for path in _glob(found, ["*"]) if not os.path.isdir(path))


def _glob(folders: Iterable[str], parts: Sequence[str]) -> list[str]:
    """Return what the parts of a pattern match in folders; without parts the folders."""
    if not parts:
        return list(folders)
    for part in parts:
        folders = [path for folder in folders for path in _match(folder, part)]
    return list(folders)


def _match(folder: str, part: str) -> list[str]:
    """Return what one part of a pattern matches in a folder.

    Raises
    ------
    StorageError
        Nobody can tell, because the disk or the network failed: `glob.glob` would match nothing.
    """
    try:
        if not _MAGIC.search(part):
            os.lstat(join(folder, part))
            return [join(folder, part)]
        names = os.listdir(folder or ".")
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return []
        raise _unlisted(folder, error) from error
    if not part.startswith("."):
        names = [name for name in names if not name.startswith(".")]
    matches = re.compile(fnmatch.translate(part)).match
    return [join(folder, name) for name in names if matches(name)]


def _unlisted(folder: str, error: OSError) -> StorageError:
    remedy = remedy_of(error.errno, "check the disk or the network")
    problem = f"cannot list it: {error.strerror}"
    return StorageError(problem, path=folder or ".", errno=error.errno, remedy=remedy)


def _folders(roots: Iterable[str]) -> Iterator[str]:
    """Yield folders and all below them but hidden ones, each once: first those that no link leads to."""
    seen = set()
    real, links = list[str](), list[str]()
    for root in roots:
        (links if Path(root).is_symlink() else real).append(root)
    while real or links:
        folder = real.pop() if real else links.pop()
        try:
            status = os.stat(folder or ".")
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder or ".") as found:
                entries = [entry for entry in found if not entry.name.startswith(".") and _is_folder(entry)]
        except OSError as error:
            if error.errno in _NO_FOLDER:
                continue
            raise _unlisted(folder, error) from error
        for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
            (links if entry.is_symlink() else real).append(join(folder, entry.name))
        yield folder


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry leads to a folder: a link that leads nowhere hides none of its neighbours."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return False
        raise


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern, by the rules of `glob.glob`."""
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first == "**":
        here = _matches(path, rest) if rest else len(path) <= 1
        return here or (bool(path) and path[0][:1] != "." and _matches(path[1:], pattern))
    if not path or (path[0].startswith(".") and not first.startswith(".")):
        return False
    return fnmatch.fnmatchcase(path[0], first) and _matches(path[1:], rest)
