"""torch.save and torch.load, plain and mapped, and torch's distributed checkpoints."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers.base import NDArray, Peer
from benchmarks.peers.tensors import elements_of, tensors_of
from benchmarks.shapes import Entry

__all__ = ["TorchDistributed", "TorchMapped", "TorchPlain"]


class TorchPlain(Peer):
    """A pickle in a zip file, unpickled with ``weights_only`` as by default."""

    name = "torch"
    writes = "torch"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "slice", "load"])
    most_arrays = 100_000
    requires = ("torch",)

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.torch = importlib.import_module("torch")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = tensors_of(arrays)

    def write(self) -> None:
        self.torch.save(self.input, self.path)

    def load(self) -> Mapping[str, Any]:
        loaded: Mapping[str, Any] = self.torch.load(self.path)
        return loaded

    def open_list(self) -> list[str]:
        return [key for key, tensor in self.load().items() if tensor.shape is not None and tensor.dtype]

    def open_one(self, key: str) -> Any:
        return self.load()[key]

    def slice(self, key: str, start: int, stop: int) -> Any:
        return self.load()[key][start:stop]

    def load_all(self) -> Mapping[str, Any]:
        return self.load()

    def elements(self, value: Any) -> NDArray:
        return elements_of(value)


class TorchMapped(TorchPlain):
    """``torch.load(mmap=True)``."""

    name = "torch mmap"
    operations = frozenset(["open-list", "open-one", "slice", "map", "map-touched", "drain"])

    def load(self) -> Mapping[str, Any]:
        loaded: Mapping[str, Any] = self.torch.load(self.path, mmap=True)
        return loaded

    def map_all(self) -> Mapping[str, Any]:
        return self.load()

    def drain(self) -> Iterator[tuple[str, Any]]:
        yield from self.load().items()


class TorchDistributed(Peer):
    """``torch.distributed.checkpoint`` in one process; it reads whole tensors into given memory.

    No `drain`: nothing stays open, and each load reads the metadata of all tensors.
    """

    name = "torch DCP"
    writes = "dcp"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "load"])
    most_arrays = 20_000
    requires = ("torch",)

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.torch = importlib.import_module("torch")
        self.dcp = importlib.import_module("torch.distributed.checkpoint")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = tensors_of(arrays)

    def write(self) -> None:
        writer = self.dcp.FileSystemWriter(self.path, sync_files=False)
        self.dcp.save(self.input, storage_writer=writer, no_dist=True)

    def open_list(self) -> list[str]:
        return list(self._metadata())

    def open_one(self, key: str) -> Any:
        return self._read([key])[key]

    def load_all(self) -> Mapping[str, Any]:
        return self._read(list(self._metadata()))

    def elements(self, value: Any) -> NDArray:
        return elements_of(value)

    def _metadata(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.dcp.FileSystemReader(self.path).read_metadata().state_dict_metadata
        return found

    def _read(self, keys: list[str]) -> dict[str, Any]:
        metadata = self._metadata()
        target = {
            key: self.torch.empty(metadata[key].size, dtype=metadata[key].properties.dtype) for key in keys
        }
        self.dcp.load(target, checkpoint_id=self.path, no_dist=True)
        return target
