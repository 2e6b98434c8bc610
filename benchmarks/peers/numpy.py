"""np.savez: the way Flower's documentation saves a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import NDArray, Peer, plain
from benchmarks.shapes import Entry

__all__ = ["NumpyZip"]


class NumpyZip(Peer):
    name = "np.savez"
    writes = "npz"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "slice", "load", "drain"])
    most_arrays = 100_000

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path.with_suffix(".npz"), entries)  # savez appends it otherwise

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = plain(arrays)

    def write(self) -> None:
        np.savez(self.path, **self.input)

    def open_list(self) -> list[str]:
        with np.load(self.path) as opened:
            return list(opened.files)

    def open_one(self, key: str) -> Any:
        with np.load(self.path) as opened:
            return opened[key]

    def slice(self, key: str, start: int, stop: int) -> Any:
        with np.load(self.path) as opened:
            return opened[key][start:stop]

    def load_all(self) -> Mapping[str, Any]:
        with np.load(self.path) as opened:
            return {key: opened[key] for key in opened.files}

    def drain(self) -> Iterator[tuple[str, Any]]:
        with np.load(self.path) as opened:
            for key in opened.files:
                yield key, opened[key]
