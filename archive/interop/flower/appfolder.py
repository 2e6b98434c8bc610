"""What a relative path means inside an app that Flower started: nothing that its user would expect."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archive.errors import UnsupportedURLError
from archive.storage.folder import locate_folder
from archive.storage.url import URL, Location, parse_pattern

__all__ = ["require_app_url"]

_PROGRAMS = frozenset({"flwr-serverapp", "flwr-clientapp", "flwr-simulation"})
"""Programs that run the app of ``flwr run``, in the working directory of the SuperLink or SuperNode."""
_INSTALLED = re.compile(r".+\..+\..+\.[0-9a-f]{8}")
"""Folder in ``apps`` from which an app runs: publisher, name, version and the beginning of its hash."""


def require_app_url(url: URL, storage_options: Mapping[str, Any] | None = None) -> Location:
    """Return the location of a folder that an app names.

    Raises
    ------
    UnsupportedURLError
        A relative path in a process that ``flwr run`` started. The app was installed elsewhere by then, and
        each of its processes may have another working directory.

    Examples
    --------
    >>> require_app_url("/data/runs/").path
    '/data/runs'
    """
    named = parse_pattern(url, storage_options)
    if not named.remote and not Path(named.path).is_absolute() and _is_run_by_flower():
        raise UnsupportedURLError(
            f"a relative path in an app that Flower runs, whose working directory is {str(Path.cwd())!r}",
            path=named.path,
            remedy="give an absolute path or a URL; the run_config of the app can hold it",
        )
    return locate_folder(url, storage_options)


def _is_run_by_flower() -> bool:
    """Return whether ``flwr run`` started this process; a Ray actor is known by the app on its path."""
    if sys.argv and Path(sys.argv[0]).name in _PROGRAMS:
        return True
    places = map(Path, sys.path)
    return any(place.parent.name == "apps" and _INSTALLED.fullmatch(place.name) for place in places)
