"""What it ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from archive.version import __version__

__all__ = ["machine_facts", "memory_bytes", "versions"]

_DISTRIBUTIONS = [
    "numpy",
    "h5py",
    "xxhash",
    "ml_dtypes",
    "safetensors",
    "torch",
    "zarr",
    "tensorstore",
    "icechunk",
    "orbax-checkpoint",
    "jax",
    "keras",
]
_ROOT = Path(__file__).resolve().parent.parent


def machine_facts(folder: Path) -> dict[str, Any]:
    """Return processor, memory, kernel and the file system that the folder lies on."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field(Path("/proc/meminfo"), "MemTotal"),
        "kernel": platform.release(),
        "filesystem": _filesystem(folder.resolve()),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def versions(*others: str) -> dict[str, str]:
    """Return versions of Python and of every library that is here, and the commit of this tree."""
    found = {"python": platform.python_version(), "archive": __version__}
    for name in (*_DISTRIBUTIONS, *others):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    if git.returncode == 0:
        found["commit"] = git.stdout.strip()
    return found


def _field(path: Path, name: str) -> str:
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return "unknown"


def _filesystem(folder: Path) -> str:
    """Return the type of the mount with the longest path above the folder."""
    mounts = Path("/proc/mounts")
    if not mounts.is_file():
        return "unknown"
    rows = [line.split() for line in mounts.read_text().splitlines()]
    above = [(len(row[1]), row[2]) for row in rows if folder.is_relative_to(row[1])]
    return max(above)[1] if above else "unknown"
