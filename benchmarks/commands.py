"""What starting costs: processes of Python that import numpy, import archive, or run ``fedarchive info``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import archive
from benchmarks.runner import Result
from benchmarks.shapes import SHAPES, arrays_of

__all__ = ["COMMANDS", "run_commands"]

_ROOT = Path(__file__).resolve().parent.parent
_CONSOLE = "from archive.__main__ import main; raise SystemExit(main())"
COMMANDS = ("import numpy", "import archive", "fedarchive info FILE")
"""The first is what the others are compared with."""


def run_commands(runs: int, folder: Path) -> list[Result]:
    """Run each once unmeasured, then all in turns; return processor and wall time of the processes."""
    found = {(clock, name): Result("commands", clock, name) for name in COMMANDS for clock in ("cpu", "wall")}
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as made:
        file = Path(made, "cnn.h5")
        shape = SHAPES["cnn"]
        archive.save(arrays_of(shape.entries, bytearray(shape.staged_bytes)), file, durable=False)
        sources = (COMMANDS[0], COMMANDS[1], _CONSOLE)  # the last as pip writes bin/fedarchive
        for number in range(runs + 1):
            for name, source in zip(COMMANDS, sources, strict=True):
                more = ["info", str(file)] if source == _CONSOLE else []
                seconds = _spend([sys.executable, "-c", source, *more], made)
                if number:
                    for clock, spent in seconds.items():
                        found[clock, name].seconds.append(spent)
    return list(found.values())


def _spend(command: list[str], cache: str) -> dict[str, float]:
    # bytecode is there after the first run, as it is after `pip install`
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"cpu": usage.ru_utime + usage.ru_stime, "wall": wall}
