"""Which storage a URL names: local paths so far."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from archive.errors import UnsupportedURLError

__all__ = ["URL", "local_path"]

URL = str | os.PathLike[str]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|([A-Za-z][A-Za-z0-9+.-]*)::")


def local_path(url: URL, storage_options: Mapping[str, Any] | None = None) -> str:
    """Return the path of a local URL.

    Raises
    ------
    UnsupportedURLError
        A remote URL.
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
        raise UnsupportedURLError(
            f"{match[1] or match[2]} URLs are not supported yet", path=path, remedy="copy it to a local path"
        )
    if storage_options:
        raise UnsupportedURLError("storage_options are for remote URLs", path=path, remedy="leave them out")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UnsupportedURLError("a path that no file system spells", remedy="name a file") from error
    if b"\0" in encoded or not encoded:
        raise UnsupportedURLError("no path", path=path, remedy="name a file")
    return path
