"""Child interpreters of the tests, and threads of ours."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["ROOT", "child_environment", "join_threads"]

ROOT = Path(__file__).parents[1]


def child_environment(*first: str, **more: str) -> dict[str, str]:
    """Return the environment of a child: some folders and this tree are found first, then what we find."""
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([*first, str(ROOT), *([inherited] if inherited else [])])
    return {**os.environ, "PYTHONPATH": path, **more}


def join_threads(name: str) -> None:
    """Wait until the threads of a name that run now have ended."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join()
