"""Files that this process has open."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["open_files"]


def open_files(folder: Path) -> list[str]:
    """Return the open files of a folder, each as often as it is open.

    Other files do not count: what an earlier test left to the garbage collector may be closed at any time.
    """
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor that listed the folder
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(path for path in found if Path(path).is_relative_to(folder))
