"""Which storage a URL names: a local path, or something behind fsspec and where to keep what is fetched."""

from __future__ import annotations

import errno
import operator
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archive.errors import MissingError, StorageError, UnsupportedURLError
from archive.storage.redaction import public_options, redact_url

__all__ = [
    "URL",
    "Cache",
    "Location",
    "default_cache",
    "is_remote",
    "local_location",
    "local_path",
    "parse_cache",
    "parse_mixed",
    "parse_nbytes",
    "parse_pattern",
    "parse_url",
]

URL = str | os.PathLike[str]
Cache = str | os.PathLike[str] | bool | None
"""A local folder; True: that of `default_cache`; None or False: nothing is kept."""

_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]+://")
"""A file may be called ``exp::v2.h5``: only what ends in ``://`` chains."""
_CHAINED = re.compile(r"::[A-Za-z][A-Za-z0-9+.-]+://")
_FILE = re.compile(r"file:(?=/)(?://([^/]*))?", re.IGNORECASE)
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_LEADING_PARENTS = re.compile(r"\A(?:\.{1,2}/+)*")


@dataclass(frozen=True, slots=True)
class Location:
    """Where an archive lies. Path-like: what takes a URL takes a location, which has its options."""

    path: str
    """An absolute local path, with a slash at its end for a folder; or a URL, its schemes in lower case."""
    remote: bool = False
    """Whether `path` is a URL for fsspec."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What fsspec needs to reach it; never shown, pickled without secrets."""
    cache: str = ""
    """Local folder that keeps what is fetched of it; none if empty."""
    withheld: tuple[str, ...] = ()
    """Names of options, and parts of the URL, that a pickle left out."""
    cache_bytes: int | None = None
    """Most bytes that the cache folder keeps; any number if None."""

    @property
    def display(self) -> str:
        """What messages name: the path, or the URL without credentials, signature and version."""
        return redact_url(self.path).shown if self.remote else self.path

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.display.rstrip("/").rpartition("/")[2]

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"Location({self.display!r})"  # without secrets of the URL

    def __deepcopy__(self, memo: dict[int, Any]) -> Location:
        return self  # secrets included: a copy stays in this process

    def __reduce__(self) -> tuple[Any, ...]:
        # a pickle lies about in queues and files
        if not self.remote:
            return Location, (self.path,)
        redacted, (options, names) = redact_url(self.path), public_options(self.options)
        withheld = dict.fromkeys((*self.withheld, *redacted.withheld, *names))
        return Location, (redacted.address, True, options, self.cache, tuple(withheld), self.cache_bytes)


def parse_url(
    url: URL,
    storage_options: Mapping[str, Any] | None = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
) -> Location:
    """Return the location of a path or URL.

    Parameters
    ----------
    url : str or path-like
        A local path, a ``file:`` URL as `pathlib.Path.as_uri` makes it, or any URL of fsspec
        (``s3://bucket/key``, ``https://``, ``memory://``, chained ``simplecache::s3://bucket/key``). A
        location is returned as it is.
    storage_options : mapping, optional
        Keyword arguments of the file system; for remote URLs only.
    cache : bool or folder, optional
        Where to keep what is fetched; a local path needs none, and gets none.
    cache_bytes : int, optional
        Most bytes that this folder keeps.

    Raises
    ------
    UnsupportedURLError
        No path or URL at all, a file of another host, or storage_options for a local path.
    MissingError
        A relative path, and the working folder was removed.
    TypeError
        No str or path, or options that are no mapping.
    ValueError
        A limit of a cache without a cache.
    """
    if isinstance(url, Location):
        return url
    path, remote = _parse(url, storage_options)
    most = None if cache_bytes is None else parse_nbytes("cache_bytes", cache_bytes)
    if most is not None and not cache:
        raise ValueError("cache_bytes limits a cache: give cache= too")
    if remote:
        options = dict(storage_options or {})
        return Location(path, True, options, parse_cache(cache), cache_bytes=most)
    return Location(_absolute(path))


def local_location(path: str) -> Location:
    """Return the location of a path that a folder of this system lists, which needs no parsing."""
    return Location(_absolute(path))


def is_remote(path: str) -> bool:
    """Return whether an error's path is a URL for fsspec, and no local path.

    Examples
    --------
    >>> is_remote("s3://bucket/m.h5"), is_remote("/tmp/m.h5"), is_remote("file:///tmp/m.h5")
    (True, False, False)
    """
    match = _SCHEME.match(path)
    return match is not None and not _FILE.match(path) and match[0].lower() != "local://"


def parse_mixed(
    url: URL,
    storage_options: Mapping[str, Any] | None = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
) -> Location:
    """Return the location of one URL of several, some of them local: options are for the remote ones alone.

    Raises
    ------
    UnsupportedURLError, MissingError, TypeError, ValueError
        As for `parse_url`.
    """
    return parse_url(url, storage_options if parse_url(url).remote else None, cache, cache_bytes)


def parse_pattern(url: URL, storage_options: Mapping[str, Any] | None = None) -> Location:
    """Return the location of a path or URL as `parse_url` does, but leave a relative path relative.

    Raises
    ------
    UnsupportedURLError, TypeError
    """
    path, remote = _parse(url, storage_options)
    return Location(path, remote, dict(storage_options or {}))


def _parse(url: URL, storage_options: Mapping[str, Any] | None) -> tuple[str, bool]:
    """Return the local path or the URL that is meant, and whether it is a URL."""
    if not isinstance(url, (str, bytes, os.PathLike)):
        raise TypeError(
            f"a path or URL is wanted here, not {type(url).__name__}: save(records, path), load(path)"
        )
    path = os.fspath(url)
    if not isinstance(path, str):
        raise TypeError(f"a URL is a str or a path of str, not {type(path).__name__}")
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise TypeError(f"storage_options must be a mapping, not {type(storage_options).__name__}")
    match = _SCHEME.match(path)
    if _FILE.match(path):
        path = _file_path(path)
    elif match and match[0].lower() == "local://":
        path = path[match.end() :]
    elif match:
        rest = _CHAINED.sub(lambda found: found[0].lower(), path[match.end() :])
        return match[0].lower() + rest, True
    if storage_options:
        raise UnsupportedURLError("storage_options are for remote URLs", path=path, remedy="leave them out")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UnsupportedURLError(
            "a path that no file system spells", path=ascii(path), remedy="name a file"
        ) from error
    if b"\0" in encoded or not encoded:
        raise UnsupportedURLError("no path", path=path, remedy="name a file")
    return path, False


def _file_path(url: str) -> str:
    """Return the path of a ``file:`` URL (RFC 8089), whose escapes stand for bytes."""
    match = _FILE.match(url)
    host, path = (match[1] or "", url[match.end() :]) if match else ("", url)
    if host.lower() not in ("", "localhost") or not path:
        raise UnsupportedURLError(
            f"names the host {host!r}, and no path here",
            path=url,
            remedy="write file:///folder/name with three slashes, or the path alone",
        )
    try:
        return os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(path)))
    except UnicodeEncodeError:
        return path  # refused as every such path


def _absolute(path: str) -> str:
    """Return a path that means the same after a change of folder; a slash at its end stays.

    ``..`` after a name stays too: where the name is a link, the system goes up from what it leads to.
    """
    try:
        if "/.." in path and ".." in _LEADING_PARENTS.sub("", path).split("/"):
            whole = path if path.startswith("/") else f"{os.getcwd()}/{path}"
        else:
            whole = os.path.abspath(path)
    except FileNotFoundError as error:
        raise MissingError(
            "the working folder was removed",
            path=path,
            errno=errno.ENOENT,
            remedy="change to a folder that is there, or give an absolute path",
        ) from error
    folder = path.endswith(("/", ".")) and path.rpartition("/")[2] in ("", ".", "..")
    return whole + "/" if folder and not whole.endswith("/") else whole


def local_path(url: URL) -> str:
    """Return the path of a local URL.

    Raises
    ------
    UnsupportedURLError
        A remote URL.
    """
    location = parse_url(url)
    if location.remote:
        raise UnsupportedURLError(
            "only local files can be used here",
            path=location.display,
            remedy="download it first, with another program",
        )
    return location.path


def default_cache() -> str:
    """Return the folder for those who name none: FEDARCHIVE_CACHE, or one of the platform's cache folder.

    Raises
    ------
    StorageError
        Neither is known.
    """
    named = os.environ.get("FEDARCHIVE_CACHE")
    if named:
        return named
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the rule of XDG: a relative one is to be ignored
        home = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
        base = os.path.expanduser(home)
    if not os.path.isabs(base):
        raise StorageError(
            "no cache folder is known", path=base, errno=errno.ENOENT, remedy="set FEDARCHIVE_CACHE"
        )
    return os.path.join(base, "fedarchive")


def parse_nbytes(argument: str, value: object) -> int:
    """Return the number of bytes that an argument means.

    Raises
    ------
    TypeError, ValueError
        The argument is not an int, or is negative.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{argument} must be a number of bytes, an int, not {type(value).__name__}")
    if (nbytes := operator.index(value)) < 0:
        raise ValueError(f"{argument} must be 0 or more, not {nbytes}")
    return nbytes


def parse_cache(cache: Cache) -> str:
    """Return the folder that an argument means, empty for none.

    Raises
    ------
    TypeError, ValueError
        The argument is not a local folder.
    StorageError
        True, and no default is known.
    """
    if cache is None or isinstance(cache, bool):
        return _absolute(default_cache()) if cache else ""
    path = os.fspath(cache)
    if not isinstance(path, str):
        raise TypeError(f"cache is a folder, or True, not {type(path).__name__}")
    if not path or "\0" in path or "://" in path:
        raise ValueError(f"cache {path!r} is not a local folder")
    return _absolute(path)
