"""Stores of chunks: zarr 3, icechunk, TensorStore's OCDBT. One chunk an array, no compression."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers.base import NDArray, Peer, plain
from benchmarks.shapes import Entry

__all__ = ["Icechunk", "TensorStoreOcdbt", "Zarr"]


class Zarr(Peer):
    name = "zarr"
    writes = "zarr"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "slice", "load", "drain"])
    most_arrays = 2_000  # 20,000 arrays are 40,000 files and minutes a run
    requires: ClassVar[tuple[str, ...]] = ("zarr",)

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.zarr = importlib.import_module("zarr")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = plain(arrays)

    def write(self) -> None:
        self._fill(self.path)
        self.zarr.consolidate_metadata(self.path)

    def open_list(self) -> list[str]:
        return [key for key, found in self._group().arrays() if found.shape is not None and found.dtype]

    def open_one(self, key: str) -> Any:
        return self._group()[key][...]

    def slice(self, key: str, start: int, stop: int) -> Any:
        return self._group()[key][start:stop]

    def load_all(self) -> Mapping[str, Any]:
        return {key: found[...] for key, found in self._group().arrays()}

    def drain(self) -> Iterator[tuple[str, Any]]:
        for key, found in self._group().arrays():
            yield key, found[...]

    def _fill(self, store: Any) -> None:
        group = self.zarr.open_group(store, mode="w", zarr_format=3)
        for key, array in self.input.items():
            group.create_array(key, data=array, chunks=array.shape or "auto", compressors=None)

    def _group(self) -> Any:
        return self.zarr.open_group(self.path, mode="r")


class Icechunk(Zarr):
    """zarr in a repository: a save is a commit, and a read opens the newest."""

    name = "icechunk"
    writes = "icechunk"
    requires = ("icechunk", "zarr")

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.icechunk = importlib.import_module("icechunk")

    def write(self) -> None:
        session = self.icechunk.Repository.create(self._storage()).writable_session("main")
        self._fill(session.store)
        session.commit("saved")

    def _group(self) -> Any:
        repository = self.icechunk.Repository.open(self._storage())
        return self.zarr.open_group(repository.readonly_session("main").store, mode="r")

    def _storage(self) -> Any:
        return self.icechunk.local_filesystem_storage(str(self.path))


class TensorStoreOcdbt(Peer):
    name = "tensorstore OCDBT"
    writes = "ocdbt"
    operations = frozenset(["save", "save-durable", "open-list", "open-one", "slice", "load", "drain"])
    most_arrays = 20_000
    most_drained = 2_000  # each open reads the list of all: 20,000 took over six minutes, and were not done
    requires = ("tensorstore",)

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.tensorstore = importlib.import_module("tensorstore")

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        self.input = plain(arrays)

    def write(self) -> None:
        ts = self.tensorstore
        # Each save and open has a context of its own: a shared one would answer from its cache.
        context, transaction = ts.Context(), ts.Transaction()
        opening = [
            ts.open(self._spec(key, array), context=context, transaction=transaction, open=True, create=True)
            for key, array in self.input.items()
        ]
        writing = [
            store.result().write(array) for store, array in zip(opening, self.input.values(), strict=True)
        ]
        for written in writing:
            written.result()
        transaction.commit_async().result()

    def open_list(self) -> list[str]:
        store = self.tensorstore.KvStore.open(self._kvstore(), context=self.tensorstore.Context()).result()
        listed = (name.decode() for name in store.list().result())
        return [name.removesuffix("/.zarray") for name in listed if name.endswith("/.zarray")]

    def open_one(self, key: str) -> Any:
        return self._open(key, self.tensorstore.Context()).result().read().result()

    def slice(self, key: str, start: int, stop: int) -> Any:
        return self._open(key, self.tensorstore.Context()).result()[start:stop].read().result()

    def load_all(self) -> Mapping[str, Any]:
        context = self.tensorstore.Context()
        opening = {key: self._open(key, context) for key in self.open_list()}
        reading = {key: opened.result().read() for key, opened in opening.items()}
        return {key: read.result() for key, read in reading.items()}

    def drain(self) -> Iterator[tuple[str, Any]]:
        context = self.tensorstore.Context()
        for key in self.open_list():
            yield key, self._open(key, context).result().read().result()

    def _kvstore(self) -> dict[str, Any]:
        return {"driver": "ocdbt", "base": f"file://{self.path}/"}

    def _open(self, key: str, context: Any) -> Any:
        spec = {"driver": "zarr", "kvstore": self._kvstore(), "path": key}
        return self.tensorstore.open(spec, context=context, open=True)

    def _spec(self, key: str, array: NDArray) -> dict[str, Any]:
        metadata: dict[str, Any] = {"compressor": None}
        if array.shape:
            metadata["chunks"] = list(array.shape)
        return {
            "driver": "zarr",
            "kvstore": self._kvstore(),
            "path": key,
            "metadata": metadata,
            "dtype": array.dtype.name,
            "schema": {"domain": {"shape": list(array.shape)}},
        }
