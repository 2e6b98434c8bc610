"""What is timed, in terms of a peer's methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.base import NDArray, Peer
from benchmarks.shapes import Shape

__all__ = ["OPERATIONS", "WAYS", "Operation", "Target", "target_of", "touch"]

_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """Which array, and which rows of which array, are asked for."""

    key: str
    sliced: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    title: str
    run: Callable[[Peer, Target], Any]
    """What happens between the two looks at the clock."""
    writes: bool = False


def target_of(shape: Shape) -> Target:
    """Return the array in the middle, and the second eighth of the rows of the largest."""
    largest = max(shape.entries, key=lambda entry: entry.nbytes)
    rows = largest.shape[0]
    step = max(rows // 8, 1)
    return Target(shape.entries[len(shape.entries) // 2].key, largest.key, min(step, rows - 1), 2 * step)


def touch(elements: NDArray) -> int:
    """Read one byte of every page, so that a mapping costs what using it costs; return their sum."""
    if not elements.nbytes:
        return 0
    return int(elements.reshape(-1).view(np.uint8)[::_PAGE_BYTES].sum(dtype=np.uint64))


def _map_touched(peer: Peer, _: Target) -> Mapping[str, Any]:
    values = peer.map_all()
    for value in values.values():
        touch(peer.elements(value))
    return values


def _drain(peer: Peer, _target: Target) -> int:
    total = 0
    for _, array in peer.drain():
        total += touch(peer.elements(array))
        del array  # or the next is made while this one is held
    return total


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        Operation("save", "save, left to the system to write out", lambda p, _: p.save(False), writes=True),
        Operation("save-durable", "save, file and folder synced", lambda p, _: p.save(True), writes=True),
        Operation("open-list", "open and list every array", lambda p, _: p.open_list()),
        Operation("open-one", "open and get one array", lambda p, t: p.open_one(t.key)),
        Operation(
            "slice", "open and get an eighth of the largest", lambda p, t: p.slice(t.sliced, t.start, t.stop)
        ),
        Operation("map", "map all, pages untouched", lambda p, _: p.map_all()),
        Operation("map-touched", "map all, every page touched", _map_touched),
        Operation("load", "load all into private memory", lambda p, _: p.load_all()),
        Operation("verify", "verify every byte", lambda p, _: p.verify()),
        Operation("drain", "go through all arrays once, one at a time, every page touched", _drain),
        Operation("ways-one", "open and get one array, by every public way", lambda p, t: p.open_one(t.key)),
        Operation("ways-list", "open and list every Array, by every public way", lambda p, _: p.open_list()),
        Operation("ways-read", "read and verify every array, by every public way", lambda p, _: p.load_all()),
        Operation("ways-save", "save, by every public way", lambda p, _: p.save(False), writes=True),
        Operation(
            "ways-save-torch", "save tensors, by every public way", lambda p, _: p.save(False), writes=True
        ),
    )
}
WAYS = tuple(name for name in OPERATIONS if name.startswith("ways-"))
"""What every public way is measured at, beside the best."""
