"""The forge of the fault tests, whose children save a round into a store. Run as a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import archive
from tests.faults import forge

CLIENTS = ("a", "B")
KEPT = 2


def contribution(number: int, client: str) -> dict[str, Any]:
    """Return what a client sends in a round."""
    return {"c": np.full(700, number * 10 + CLIENTS.index(client), "<f8")}


def model(number: int, size: int) -> dict[str, Any]:
    """Return the arrays of a round."""
    return {"w": np.full(size, number, "<f8")}


def save_round(path: str | Path, number: int, size: int) -> None:
    """Save a whole round: clients, the round itself, the context of a node; then older rounds go."""
    store = archive.CheckpointStore(path, keep_last=KEPT)
    for client in CLIENTS:
        store.save(contribution(number, client), number, client=client)
    store.save(model(number, size), number, metrics={"loss": 1 / number})
    state = archive.RecordDict({"n": archive.ConfigRecord({"round": number})})
    store.save_context("node", archive.Context(1, 2, {}, state, {}))


def _save(path: str, version: int, size: int, options: dict[str, Any]) -> None:
    save_round(path, version, size)


def _warm_up(path: Path) -> None:
    for version in (1, 2):
        save_round(f"{path}.store", version, 8)


if __name__ == "__main__":
    # what the server warms up with, and what its children do
    forge.warm_up = _warm_up
    forge._save = _save
    forge.main()
