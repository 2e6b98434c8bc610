"""safetensors through its numpy and its torch front."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import NDArray, Peer, plain
from benchmarks.peers.tensors import elements_of, tensors_of
from benchmarks.shapes import Entry

__all__ = ["SafetensorsNumpy", "SafetensorsTorch"]


class SafetensorsNumpy(Peer):
    """Reads the file into memory; maps nothing."""

    name = "safetensors.numpy"
    writes = "safetensors"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "slice", "load", "drain"])
    requires: ClassVar[tuple[str, ...]] = ("safetensors",)
    front: ClassVar[str] = "numpy"

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.library = importlib.import_module("safetensors")
        self.module = importlib.import_module(f"safetensors.{self.front}")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = plain(arrays)

    def write(self) -> None:
        self.module.save_file(self.input, self.path)

    def open_list(self) -> list[str]:
        with self.library.safe_open(self.path, self.front) as opened:
            names = []
            for key in opened.keys():  # noqa: SIM118 - it is no mapping
                part = opened.get_slice(key)
                part.get_shape(), part.get_dtype()
                names.append(key)
            return names

    def open_one(self, key: str) -> Any:
        with self.library.safe_open(self.path, self.front) as opened:
            return opened.get_tensor(key)

    def slice(self, key: str, start: int, stop: int) -> Any:
        with self.library.safe_open(self.path, self.front) as opened:
            return opened.get_slice(key)[start:stop]

    def load_all(self) -> Mapping[str, Any]:
        loaded: Mapping[str, Any] = self.module.load_file(self.path)
        return loaded

    def drain(self) -> Iterator[tuple[str, Any]]:
        with self.library.safe_open(self.path, self.front) as opened:
            for key in opened.keys():  # noqa: SIM118 - it is no mapping
                yield key, opened.get_tensor(key)


class SafetensorsTorch(SafetensorsNumpy):
    """``load_file`` maps the file, so it stands under map, touched and not."""

    name = "safetensors.torch"
    writes = "safetensors-torch"
    operations = SafetensorsNumpy.operations - {"load"} | {"map", "map-touched"}
    requires = ("safetensors", "torch")
    front = "torch"

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = tensors_of(arrays)

    def map_all(self) -> Mapping[str, Any]:
        loaded: Mapping[str, Any] = self.module.load_file(self.path)
        return loaded

    def elements(self, value: Any) -> NDArray:
        return elements_of(value)
