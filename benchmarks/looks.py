"""What ``stats`` and ``diff`` of two archives of 1.1 GB take, beside loading both; and their memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import archive
import archive.tools
from benchmarks.process import resident_anonymous_bytes
from benchmarks.runner import Result

__all__ = ["LOOKS", "run_looks"]

LOOKS = ("load both", "stats", "diff", "diff of equal arrays")
"""The first is what the others are compared with; of the last the digests alone are read."""
_LAYERS = 33
_ROOT = Path(__file__).resolve().parent.parent
_POLL_SECONDS = 0.002


def run_looks(runs: int, folder: Path, layer_bytes: int = 32 << 20) -> list[Result]:
    """Run each once unmeasured, then all in turns; then once more in a process whose memory is watched."""
    found = {name: Result("looks", "look", name) for name in LOOKS}
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as made:
        paths = [Path(made, f"{name}.h5") for name in ("one", "other", "again")]
        for path, seed in zip(paths, (1, 2, 1), strict=True):
            archive.save(_layers(seed, layer_bytes), path, durable=False)
        calls: dict[str, Callable[[], object]] = {
            LOOKS[0]: lambda: [archive.load(path) for path in paths[:2]],
            LOOKS[1]: lambda: archive.tools.stats(paths[:2]),
            LOOKS[2]: lambda: archive.tools.diff(paths[0], paths[1]),
            LOOKS[3]: lambda: archive.tools.diff(paths[0], paths[2]),
        }
        order = random.Random(2026)
        for number in range(runs + 1):
            for name in order.sample(LOOKS, len(LOOKS)):
                found[name].load = os.getloadavg()[0]
                started = time.perf_counter()
                calls[name]()
                spent = time.perf_counter() - started
                if number:
                    found[name].seconds.append(spent)
        for name, call in (("stats", "stats(sys.argv[1:])"), ("diff", "diff(*sys.argv[1:])")):
            found[name].peak_bytes = _peak_bytes(call, paths[:2])
    return list(found.values())


def _layers(seed: int, nbytes: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {f"layers.{n}.weight": generator.standard_normal(nbytes // 4, np.float32) for n in range(_LAYERS)}


def _peak_bytes(call: str, paths: list[Path]) -> int:
    """Return the most anonymous memory of a process that makes a call, imports included."""
    command = [sys.executable, "-c", f"import sys; from archive.tools import *; {call}", *map(str, paths)]
    process = subprocess.Popen(command, cwd=_ROOT)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident_anonymous_bytes(process.pid))
        time.sleep(_POLL_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak
