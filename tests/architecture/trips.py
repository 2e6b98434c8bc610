"""How far a reader travels to follow one call: ``python -m tests.architecture.trips``.

Every trip runs once under `sys.setprofile`. Counted are the modules of the package whose code ran, the
functions, and the changes of module: pairs of functions that were called one after the other and live in
different modules. A pair counts once, so the number of arrays changes nothing; the last column counts
every change.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import numpy as np

import archive

ARRAYS = 20


@dataclass(frozen=True, slots=True)
class Trip:
    """What one call visited."""

    modules: tuple[str, ...]
    """Names of the modules, sorted."""
    functions: int
    """Functions that ran, each counted once."""
    changes: int
    """Pairs of functions of different modules, called one after the other; each pair counted once."""
    all_changes: int
    """Changes of module from call to call, all of them."""


def follow(call: Callable[[], object]) -> Trip:
    """Run something and return what it visited."""
    calls: list[tuple[str, CodeType]] = []

    def record(frame: FrameType, event: str, argument: object) -> None:
        module = frame.f_globals.get("__name__", "")
        code = frame.f_code
        generated = code.co_filename.startswith("<")  # methods of a dataclass: no text to read
        if event == "call" and not generated and (module + ".").startswith("archive."):
            calls.append((module, code))

    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(None)
    steps = [(before, after) for before, after in itertools.pairwise(calls) if before[0] != after[0]]
    return Trip(
        modules=tuple(sorted({module for module, _ in calls})),
        functions=len({code for _, code in calls}),
        changes=len({(before[1], after[1]) for before, after in steps}),
        all_changes=len(steps),
    )


def trips(folder: Path) -> dict[str, Trip]:
    """Follow the trips that the architecture page names, in a new folder.

    Call this in a fresh process: what a process knows of a schema shortens the first two trips.
    """
    arrays = {f"layer{number}": np.full((64, 64), number, "f4") for number in range(ARRAYS)}
    path = folder / "model.h5"
    handles: list[archive.Archive] = []
    _ = archive.save, archive.open  # the front door loads a name once; that is no part of a trip
    found = {
        "save, first": follow(lambda: archive.save(arrays, path)),
        "save, again": follow(lambda: archive.save(arrays, path)),
        "open": follow(lambda: handles.append(archive.open(path))),
    }
    found["local slice"] = follow(lambda: handles[0]["layer3"][2:4])
    handles[0].close()
    return found


def main() -> None:
    """Print a table of all trips, and the modules that each of them visits."""
    with tempfile.TemporaryDirectory() as folder:
        found = trips(Path(folder))
    print("| trip | modules | functions | changes of module | all |")
    print("|---|---|---|---|---|")
    for name, trip in found.items():
        print(f"| {name} | {len(trip.modules)} | {trip.functions} | {trip.changes} | {trip.all_changes} |")
    for name, trip in found.items():
        print(f"\n{name}: {' '.join(module.removeprefix('archive.') for module in trip.modules)}")


if __name__ == "__main__":
    main()
