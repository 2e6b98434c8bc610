"""The peaks of a child process, looked at every 2 ms."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass

from benchmarks.process import resident_anonymous_bytes

__all__ = ["Peaks", "watch"]


@dataclass(slots=True)
class Peaks:
    """The most that a process had."""

    anon: int = 0
    """Bytes of anonymous memory."""
    files: int = 0
    """Open descriptors."""


def watch(child: subprocess.Popen[str]) -> Peaks:
    """Wait for the end of a child, and return its peaks."""
    found = Peaks()
    while child.poll() is None:
        found.anon = max(found.anon, resident_anonymous_bytes(child.pid))
        found.files = max(found.files, _descriptors(child.pid))
        time.sleep(0.002)
    return found


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
