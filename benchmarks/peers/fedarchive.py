"""fedarchive itself: as shipped, with each of its two safeties off, and with a schema it has met."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import Peer
from benchmarks.shapes import Entry

__all__ = ["Again", "AsShipped", "FedArchive", "Unverified"]


_ELEMENTS = ("archive.dtypes", "archive.format.elements")
"""What these keep is of element types: float32 is known after the first archive of any model."""

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
    "drain",
)


class FedArchive(Peer):
    """Arrays are verified when first handed out; a save is left to the system as every peer leaves it.

    Every run meets names, types and shapes that the process has not saved or opened before.
    """

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

    def drain(self) -> Iterator[tuple[str, Any]]:
        with self.archive.open(self.path, verify=self.check) as opened:
            for (_, key), array in opened.drain():
                yield key, array.numpy(copy=False)

    def forget(self) -> None:
        importlib.import_module("archive.engine.write.schema").forget_schemas()
        importlib.import_module("archive.engine.read.open").forget_indexes()
        importlib.import_module("archive.engine.read.expectedtree").forget_trees()
        for name in [name for name in sys.modules if name.startswith("archive.") and name not in _ELEMENTS]:
            for kept in vars(sys.modules[name]).values():
                if callable(getattr(kept, "cache_clear", None)):
                    kept.cache_clear()


class Again(FedArchive):
    """The same names, types and shapes as in the run before: the rounds of a federation."""

    name = "fedarchive again"
    operations = frozenset(["save", "open-list", "open-one", "map", "load", "verify"])

    def forget(self) -> None:
        pass


class Unverified(FedArchive):
    """``verify="off"``: views are handed out untouched. `load` always verifies, so it is not here."""

    name = "fedarchive verify=off"
    operations = frozenset(["open-list", "open-one", "slice", "map", "map-touched", "drain"])
    check = "off"


class AsShipped(FedArchive):
    """``save`` with its default: durable. Beside peers that are not, so that the cost is seen."""

    name = "fedarchive durable"
    operations = frozenset(["save"])

    def save(self, durable: bool) -> None:
        self.archive.save(self.input, self.path)
