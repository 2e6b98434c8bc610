"""fedarchive itself: as shipped, and with each of its two safeties off."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import Peer
from benchmarks.shapes import Entry

__all__ = ["AsShipped", "FedArchive", "Unverified"]


OPERATIONS = (
    "save",
    "save-durable",
    "open-list",
    "open-one",
    "slice",
    "map",
    "map-touched",
    "load",
    "verify",
)


class FedArchive(Peer):
    """Arrays are verified when first handed out; a save is left to the system as every peer leaves it."""

    name = "fedarchive"
    writes = "fedarchive"
    operations = frozenset(OPERATIONS)
    check: ClassVar[str] = "first"

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.archive = importlib.import_module("archive")

    def write(self) -> None:
        self.archive.save(self.input, self.path, durable=False)

    def save(self, durable: bool) -> None:
        self.archive.save(self.input, self.path, durable=durable)

    def open_list(self) -> list[str]:
        with self.archive.open(self.path, verify=self.check) as opened:
            arrays = opened.records["model"]
            return [key for key, array in arrays.items() if array.shape is not None and array.dtype]

    def open_one(self, key: str) -> Any:
        with self.archive.open(self.path, verify=self.check) as opened:
            return opened[key].numpy(copy=False)

    def slice(self, key: str, start: int, stop: int) -> Any:
        with self.archive.open(self.path, verify=self.check) as opened:
            return opened[key][start:stop]

    def map_all(self) -> Mapping[str, Any]:
        with self.archive.open(self.path, verify=self.check) as opened:
            return {key: array.numpy(copy=False) for key, array in opened.records["model"].items()}

    def load_all(self) -> Mapping[str, Any]:
        arrays = self.archive.load(self.path)["model"]
        return {key: array.numpy(copy=False) for key, array in arrays.items()}

    def verify(self) -> bool:
        return bool(self.archive.verify(self.path))


class Unverified(FedArchive):
    """``verify="off"``: views are handed out untouched. `load` always verifies, so it is not here."""

    name = "fedarchive verify=off"
    operations = frozenset(["open-list", "open-one", "slice", "map", "map-touched"])
    check = "off"


class AsShipped(FedArchive):
    """``save`` with its default: durable. Beside peers that are not, so that the cost is seen."""

    name = "fedarchive durable"
    operations = frozenset(["save"])

    def save(self, durable: bool) -> None:
        self.archive.save(self.input, self.path)
