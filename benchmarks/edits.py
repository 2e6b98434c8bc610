"""What an edit costs: one layer of an archive of 2 GB changed, beside ``cp`` and ``sync`` of the file."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import archive
import archive.tools
from benchmarks.runner import Result

__all__ = ["EDITS", "run_edits"]

EDITS = ("cp, sync", "edit", "cp, sync, mv", "edit in place")
"""Each edit follows what it is compared with. All end on the disk; edits are verified, copies are not."""
_LAYERS = 32


def run_edits(runs: int, folder: Path, layer_bytes: int = 64 << 20) -> list[Result]:
    """Run each once unmeasured, then all in turns; every file is verified after the clock has stopped."""
    found = {name: Result("edits", "edit", name) for name in EDITS}
    changed = np.ones(layer_bytes // 4, "f4")
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as made:
        source, out = Path(made, "source.h5"), Path(made, "out.h5")
        archive.save(_layers(layer_bytes), source)
        calls: dict[str, Callable[[], None]] = {
            EDITS[0]: lambda: _copy(source, out),
            EDITS[1]: lambda: _edit(source, out, changed),
            EDITS[2]: lambda: _replace(source, out),
            EDITS[3]: lambda: _edit(source, None, changed),
        }
        order = random.Random(2026)
        for number in range(runs + 1):
            for name in order.sample(EDITS, len(EDITS)):
                out.unlink(missing_ok=True)
                os.sync()  # nobody waits for what another left to write
                found[name].load = os.getloadavg()[0]
                started = time.perf_counter()
                calls[name]()
                spent = time.perf_counter() - started
                if number:
                    found[name].seconds.append(spent)
                if not archive.verify(out if out.exists() else source):
                    raise RuntimeError(f"{name} left a damaged file")
    return list(found.values())


def _layers(nbytes: int) -> Iterator[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(2026)
    for number in range(_LAYERS):
        yield f"layers.{number}.weight", generator.standard_normal(nbytes // 4, np.float32)


def _copy(source: Path, out: Path) -> None:
    subprocess.run(["cp", source, out], check=True)
    subprocess.run(["sync", out, out.parent], check=True)


def _replace(source: Path, out: Path) -> None:
    _copy(source, out)
    out.rename(source)
    subprocess.run(["sync", source.parent], check=True)


def _edit(source: Path, out: Path | None, changed: np.ndarray) -> None:
    with archive.tools.edit(source, out) as e:
        e[f"layers.{_LAYERS // 2}.weight"] = changed
