"""Which storage a URL names: a local path, or something behind fsspec and where to keep what is fetched."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archive.errors import StorageError, UnsupportedURLError

__all__ = ["URL", "Cache", "Location", "default_cache", "local_path", "parse_cache", "parse_url"]

URL = str | os.PathLike[str]
Cache = str | os.PathLike[str] | bool | None
"""A local folder; True: that of `default_cache`; None or False: nothing is kept."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|([A-Za-z][A-Za-z0-9+.-]*)::")
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")
_SIGNATURE = re.compile(r"\?.*$", re.DOTALL)
_VERSION = re.compile(r"[?&](versionId=[^&#]*)")


@dataclass(frozen=True, slots=True)
class Location:
    """Where an archive lies."""

    path: str
    """A local path, or a URL as it was given."""
    remote: bool = False
    """Whether `path` is a URL for fsspec."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What fsspec needs to reach it; never shown, never pickled."""
    cache: str = ""
    """Local folder that keeps what is fetched of it; none if empty."""

    @property
    def display(self) -> str:
        """What messages name: the path, or the URL without credentials and signature."""
        if not self.remote:
            return self.path
        return _SIGNATURE.sub("", _CREDENTIALS.sub("", self.path))

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.display.rstrip("/").rpartition("/")[2]

    def __reduce__(self) -> tuple[Any, ...]:
        # a pickle lies about in queues and files: of the URL's query it keeps the version, no signature
        version = _VERSION.search(self.path) if self.remote else None
        path = self.display + (f"?{version[1]}" if version else "")
        return Location, (path, self.remote, {}, self.cache)


def parse_url(url: URL, storage_options: Mapping[str, Any] | None = None, cache: Cache = None) -> Location:
    """Return the location of a path or URL.

    Parameters
    ----------
    url : str or path-like
        A local path, ``file://``, or any URL of fsspec (``s3://bucket/key``, ``https://``,
        ``memory://``, chained ``simplecache::s3://bucket/key``).
    storage_options : mapping, optional
        Keyword arguments of the file system; for remote URLs only.
    cache : bool or folder, optional
        Where to keep what is fetched; a local path needs none, and gets none.

    Raises
    ------
    UnsupportedURLError
        No path or URL at all, or storage_options for a local path.
    TypeError
        No str or path.
    """
    path = os.fspath(url)
    if not isinstance(path, str):
        raise TypeError(f"a URL is a str or a path of str, not {type(path).__name__}")
    match = _SCHEME.match(path)
    if match and match[1] in ("file", "local"):
        path = path[match.end() :]
    elif match:
        return Location(path, True, dict(storage_options or {}), parse_cache(cache))
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
    return Location(path)


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
        return os.path.abspath(default_cache()) if cache else ""
    path = os.fspath(cache)
    if not isinstance(path, str):
        raise TypeError(f"cache is a folder, or True, not {type(path).__name__}")
    if not path or "\0" in path or "://" in path:
        raise ValueError(f"cache {path!r} is not a local folder")
    return os.path.abspath(path)
