"""Writers and readers of one path, as processes: ``python -m tests.faults.crowd ROLE FOLDER NUMBER ROUNDS``.

Each prints one line of JSON when it is done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import archive
from archive.errors import ExistsError
from archive.types import Access
from tests.faults.scenes import SMALL, save, version_of

WRITERS = 16
"""Versions are ``round * WRITERS + number``."""


def write(folder: Path, number: int, rounds: int) -> dict[str, Any]:
    """Save one version after the other under one name; sizes differ."""
    for turn in range(rounds):
        save(folder / "model.h5", turn * WRITERS + number, SMALL * (1 + turn % 5), durable=turn % 7 == 0)
    return {"saved": rounds}


def read(folder: Path, number: int, rounds: int) -> dict[str, Any]:
    """Open until the writers are done; every version is complete, and stays what it was."""
    access: Access = "pread" if number % 2 else "mmap"
    seen: set[int] = set()
    opened = 0
    path = folder / "model.h5"
    while not (folder / "done").exists():
        version = version_of(path, access=access)
        assert 0 <= version % WRITERS < WRITERS
        assert version < rounds * WRITERS
        seen.add(version)
        with archive.open(path, access=access) as handle:
            before = handle["w"].numpy(copy=True)
            version_of(path)  # by now it may be another one
            assert (handle["w"].numpy() == before).all()
            assert (handle["b"].numpy() == before[0]).all()
        opened += 3
    return {"opened": opened, "versions": len(seen)}


def create(folder: Path, number: int, rounds: int) -> dict[str, Any]:
    """Save to many paths without overwriting and tell which were won."""
    won = []
    for turn in range(rounds):
        try:
            save(folder / f"{turn}.h5", number, overwrite=False, durable=False)
        except ExistsError:
            continue
        else:
            won.append(turn)
    return {"won": won}


def main() -> None:
    """Play a role."""
    role = {"write": write, "read": read, "create": create}[sys.argv[1]]
    sys.stdin.readline()  # all start together
    sys.stdout.write(json.dumps(role(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))


if __name__ == "__main__":
    main()
