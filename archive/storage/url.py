"""Which storage a URL names: a local path, or something behind fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archive.errors import UnsupportedURLError

__all__ = ["URL", "Location", "local_path", "parse_url"]

URL = str | os.PathLike[str]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|([A-Za-z][A-Za-z0-9+.-]*)::")
_CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
_SIGNATURE = re.compile(r"\?.*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an archive lies."""

    path: str
    """A local path, or a URL as it was given."""
    remote: bool = False
    """Whether `path` is a URL for fsspec."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What fsspec needs to reach it; never shown, never pickled."""

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
        return Location, (self.path, self.remote)


def parse_url(url: URL, storage_options: Mapping[str, Any] | None = None) -> Location:
    """Return the location of a path or URL.

    Parameters
    ----------
    url : str or path-like
        A local path, ``file://``, or any URL of fsspec (``s3://bucket/key``, ``https://``,
        ``memory://``, chained ``simplecache::s3://bucket/key``).
    storage_options : mapping, optional
        Keyword arguments of the file system; for remote URLs only.

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
        return Location(path, True, dict(storage_options or {}))
    if storage_options:
        raise UnsupportedURLError("storage_options are for remote URLs", path=path, remedy="leave them out")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UnsupportedURLError("a path that no file system spells", remedy="name a file") from error
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
            remedy="copy it first: fedarchive cp URL PATH",
        )
    return location.path
