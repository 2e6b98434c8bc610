"""Checkpoints of JAX and Keras, which hold whole trees and models: there is no reading of one array."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.features.libraries import keras_model
from benchmarks.peers.base import NDArray, Peer
from benchmarks.peers.tensors import elements_of, tensors_of
from benchmarks.shapes import Entry

__all__ = ["KerasWeights", "Orbax"]


class Orbax(Peer):
    """``StandardCheckpointer`` with NumPy arrays; it saves in the background, and the save waits for it."""

    name = "Orbax"
    writes = "orbax"
    operations = frozenset(["save", "save-durable", "load"])
    most_arrays = 20_000
    requires = ("orbax-checkpoint",)

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path, entries)
        self.checkpointer = importlib.import_module("orbax.checkpoint").StandardCheckpointer()

    def write(self) -> None:
        self.checkpointer.save(self.path, self.input)
        self.checkpointer.wait_until_finished()

    def load_all(self) -> Mapping[str, Any]:
        loaded: Mapping[str, Any] = self.checkpointer.restore(self.path)
        return loaded


class KerasWeights(Peer):
    """``save_weights`` and ``load_weights`` of a model that is there, under the torch backend."""

    name = "Keras .weights.h5"
    writes = "keras"
    operations = frozenset(["save", "save-durable", "load"])
    most_arrays = 2_000
    requires = ("keras", "torch")

    def __init__(self, path: Path, entries: tuple[Entry, ...]) -> None:
        super().__init__(path.with_name(path.name + ".weights.h5"), entries)
        self.model, self.weights = keras_model(
            {entry.key: (entry.shape, entry.dtype.name) for entry in entries}
        )

    def take(self, arrays: Mapping[str, NDArray]) -> None:
        for key, tensor in tensors_of(arrays).items():
            self.weights[key].assign(tensor)

    def write(self) -> None:
        self.model.save_weights(self.path)

    def load_all(self) -> Mapping[str, Any]:
        """Load into the model's own memory: nothing else is offered."""
        self.model.load_weights(self.path)
        return {key: weight.value for key, weight in self.weights.items()}

    def elements(self, value: Any) -> NDArray:
        return elements_of(value.detach())
