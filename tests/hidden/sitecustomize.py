"""Hides what not every system has from every Python that finds this module at its start.

Python imports a module of this name before anything else. With this folder on PYTHONPATH a process and its
children run as on a system without these calls; `archive.system` has something else for each.
FEDARCHIVE_HIDDEN names more of the module os that is hidden.
"""

from __future__ import annotations

import os
import sys

__all__ = ["CALLS", "MODULES", "hide"]

CALLS = (
    *("copy_file_range", "fdatasync", "memfd_create", "posix_fadvise", "posix_fallocate", "sendfile"),
    *("pread", "preadv", "pwrite", "pwritev"),
    *("getxattr", "listxattr", "removexattr", "setxattr"),
    *("fork", "forkpty", "register_at_fork", "O_PATH", "O_TMPFILE"),
)
"""Of the module os."""
MODULES = ("fcntl", "resource", "torch")
"""torch asks for `os.register_at_fork` wherever it is not on Windows, and crashes without."""


def hide() -> None:
    """Hide them for the life of this process."""
    for name in (*CALLS, *os.environ.get("FEDARCHIVE_HIDDEN", "").split()):
        if hasattr(os, name):
            delattr(os, name)
    import asyncio  # noqa: F401 - needs fcntl on every system but Windows
    import ctypes  # noqa: F401 - opens the program itself, for its own use

    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse to open libc, and files of /proc."""
    if event == "ctypes.dlopen" and arguments[0] is None:
        raise OSError("no library without a name")
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


if __name__ == "sitecustomize":  # not where pytest looks for examples
    hide()
