"""h5py, used the plain way: one dataset an array. Keras' .weights.h5 is this."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.base import NDArray, Peer, plain
from benchmarks.shapes import Entry

__all__ = ["PlainH5py"]


class PlainH5py(Peer):
    name = "h5py"
    writes = "h5py"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "slice", "load", "drain"])
    most_arrays = 100_000
    requires = ("h5py",)

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.h5py = importlib.import_module("h5py")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = plain(arrays)

    def write(self) -> None:
        with self.h5py.File(self.path, "w") as file:
            for key, array in self.input.items():
                file.create_dataset(key, data=array)

    def open_list(self) -> list[str]:
        with self.h5py.File(self.path, "r") as file:
            return [key for key, found in file.items() if found.shape is not None and found.dtype]

    def open_one(self, key: str) -> Any:
        with self.h5py.File(self.path, "r") as file:
            return file[key][()]

    def slice(self, key: str, start: int, stop: int) -> Any:
        with self.h5py.File(self.path, "r") as file:
            return file[key][start:stop]

    def load_all(self) -> Mapping[str, Any]:
        with self.h5py.File(self.path, "r") as file:
            return {key: found[()] for key, found in file.items()}

    def drain(self) -> Iterator[tuple[str, Any]]:
        with self.h5py.File(self.path, "r") as file:
            for key, found in file.items():
                yield key, found[()]
