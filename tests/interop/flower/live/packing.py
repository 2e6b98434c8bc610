"""The five packers in algorithms: small ones of our own, as FL4Health itself needs another Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from archive.packers import (
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)
from tests.interop.flower.live.models import SHAPES, initial_weights, train
from tests.interop.flower.live.names import require_today

common = require_today()
known: Any = pytest.importorskip("flwr.server.strategy")

NAMES = list(SHAPES)
Weights = list[np.ndarray[Any, Any]]
ClientWork = Callable[[Weights, int, Weights | None, int], tuple[Any, ...]]


# Clients: (what was received, partition, what the node remembers, step) -> (sent, to remember, loss)


def scaffold_client(received: Weights, partition: int, kept: Weights | None, step: int) -> tuple[Any, ...]:
    packer = ParameterPackerWithControlVariates(len(SHAPES))
    weights, server = packer.unpack_parameters(received)
    own = kept or [np.zeros_like(weight) for weight in weights]
    trained, _, value = train(weights, partition, None, step)
    corrected = [t - np.float32(0.1) * (s - c) for t, s, c in zip(trained, server, own, strict=True)]
    fresh = [c - s + (w - t) for c, s, w, t in zip(own, server, weights, corrected, strict=True)]
    updates = [new - old for new, old in zip(fresh, own, strict=True)]
    return packer.pack_parameters(corrected, updates), fresh, value


def clipping_client(received: Weights, partition: int, kept: Weights | None, step: int) -> tuple[Any, ...]:
    packer = ParameterPackerWithClippingBit()
    weights, bound = packer.unpack_parameters(received)
    trained, velocity, value = train(weights, partition, kept, step)
    update = [new - old for new, old in zip(trained, weights, strict=True)]
    norm = float(np.sqrt(sum(np.square(part, dtype="f8").sum() for part in update)))
    clipped = [part * np.float32(min(1.0, bound / norm)) for part in update]
    return packer.pack_parameters(clipped, float(norm <= bound)), velocity, value


def adaptive_client(received: Weights, partition: int, kept: Weights | None, step: int) -> tuple[Any, ...]:
    packer = ParameterPackerAdaptiveConstraint()
    weights, mu = packer.unpack_parameters(received)
    trained, velocity, value = train(weights, partition, kept, step)
    pulled = [t - np.float32(0.1 * mu) * (t - w) for t, w in zip(trained, weights, strict=True)]
    return packer.pack_parameters(pulled, value), velocity, value


def layers_client(received: Weights, partition: int, kept: Weights | None, step: int) -> tuple[Any, ...]:
    """Merge the layers that came into a model of its own, and send the two that moved most."""
    packer = ParameterPackerWithLayerNames()
    layers, names = packer.unpack_parameters(received)
    own = dict(zip(NAMES, kept or initial_weights(), strict=True)) | dict(zip(names, layers, strict=True))
    before = [own[name] for name in NAMES]
    trained, _, value = train(before, partition, None, step)
    drift = {n: float(np.abs(t - b).mean()) for n, t, b in zip(NAMES, trained, before, strict=True)}
    chosen = sorted(drift, key=lambda name: (-drift[name], name))[:2]
    now = dict(zip(NAMES, trained, strict=True))
    return packer.pack_parameters([now[name] for name in chosen], chosen), trained, value


def sparse_client(received: Weights, partition: int, kept: Weights | None, step: int) -> tuple[Any, ...]:
    """Add sparse changes to a model of its own, and send its largest elements."""
    packer = SparseCooParameterPacker()
    own = dense(received, kept or initial_weights())
    trained, _, value = train(own, partition, None, step)
    kept_elements = []
    for new, old in zip(trained, own, strict=True):
        change = np.abs(new - old)
        kept_elements.append(np.where(change >= np.quantile(change, 0.7), new, np.float32(0)))
    return sparse(packer, kept_elements), trained, value


def sparse(packer: SparseCooParameterPacker, tensors: Weights) -> Weights:
    parts = [packer.extract_coo_info_from_dense(tensor) for tensor in tensors]
    values, indices, shapes = (list(column) for column in zip(*parts, strict=True))
    return packer.pack_parameters(values, (indices, shapes, NAMES))


def dense(packed: Weights, base: Weights) -> Weights:
    values, (indices, _, names) = SparseCooParameterPacker().unpack_parameters(packed)
    tensors = [tensor.copy() for tensor in base]
    for value, index, name in zip(values, indices, names, strict=True):
        tensors[NAMES.index(name)][tuple(index.T)] = value
    return tensors


# Strategies


def mean(parts: list[Weights]) -> Weights:
    return [(sum(column[1:], column[0]) / np.float32(len(column))) for column in zip(*parts, strict=True)]


class Packing(known.FedAvg):
    """Aggregates packed lists."""

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        lists = [common.parameters_to_ndarrays(result.parameters) for _, result in results]
        return common.ndarrays_to_parameters(self.combine(server_round, lists)), {"clients": len(lists)}


class Scaffold(Packing):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.packer = ParameterPackerWithControlVariates(len(SHAPES))
        self.server_model_weights: Weights = initial_weights()
        self.server_control_variates: Weights = [np.zeros_like(w) for w in self.server_model_weights]
        self.initial_parameters = common.ndarrays_to_parameters(
            self.packer.pack_parameters(self.server_model_weights, self.server_control_variates)
        )

    def combine(self, server_round: int, lists: list[Weights]) -> Weights:
        unpacked = [self.packer.unpack_parameters(packed) for packed in lists]
        weights, updates = mean([w for w, _ in unpacked]), mean([u for _, u in unpacked])
        variates = self.server_control_variates
        self.server_control_variates = [v + u for v, u in zip(variates, updates, strict=True)]
        self.server_model_weights = weights
        return self.packer.pack_parameters(weights, self.server_control_variates)


class ClientLevelDP(Packing):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.packer = ParameterPackerWithClippingBit()
        self.clipping_bound = 0.5
        self.momentum: Weights | None = None
        self.current_weights = initial_weights()
        first = [*self.current_weights, np.array([self.clipping_bound])]  # shape (1,), as FL4Health's
        self.initial_parameters = common.ndarrays_to_parameters(first)

    def combine(self, server_round: int, lists: list[Weights]) -> Weights:
        unpacked = [self.packer.unpack_parameters(packed) for packed in lists]
        bits = [bit for _, bit in unpacked]
        noise = np.random.normal(0, 0.1, len(bits)).sum()  # noqa: NPY002
        self.clipping_bound *= float(np.exp(-0.2 * ((sum(bits) + noise) / len(bits) - 0.5)))
        update = [
            part + np.asarray(np.random.normal(0, 0.01 * self.clipping_bound, part.shape), "f4")  # noqa: NPY002
            for part in mean([w for w, _ in unpacked])
        ]
        old = self.momentum or [np.zeros_like(part) for part in update]
        self.momentum = [np.float32(0.5) * m + part for m, part in zip(old, update, strict=True)]
        self.current_weights = [w + m for w, m in zip(self.current_weights, self.momentum, strict=True)]
        return self.packer.pack_parameters(self.current_weights, self.clipping_bound)


class AdaptiveConstraint(Packing):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.packer = ParameterPackerAdaptiveConstraint()
        self.loss_weight, self.previous_loss, self.patience = 0.1, float("inf"), 0
        packed = self.packer.pack_parameters(initial_weights(), self.loss_weight)
        self.initial_parameters = common.ndarrays_to_parameters(packed)

    def combine(self, server_round: int, lists: list[Weights]) -> Weights:
        unpacked = [self.packer.unpack_parameters(packed) for packed in lists]
        value = sum(value for _, value in unpacked) / len(unpacked)
        self.patience = self.patience + 1 if value <= self.previous_loss else 0
        if self.patience == 2:
            self.loss_weight, self.patience = max(0.0, self.loss_weight - 0.05), 0
        elif value > self.previous_loss:
            self.loss_weight += 0.05
        self.previous_loss = value
        return self.packer.pack_parameters(mean([w for w, _ in unpacked]), self.loss_weight)


class DynamicLayers(Packing):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.packer = ParameterPackerWithLayerNames()
        self.layers = dict(zip(NAMES, initial_weights(), strict=True))
        self.initial_parameters = common.ndarrays_to_parameters(
            self.packer.pack_parameters(list(self.layers.values()), NAMES)
        )

    def combine(self, server_round: int, lists: list[Weights]) -> Weights:
        sent: dict[str, Weights] = {}
        for packed in lists:
            layers, names = self.packer.unpack_parameters(packed)
            for name, layer in zip(names, layers, strict=True):
                sent.setdefault(name, []).append(layer)
        for name, layers in sent.items():
            layers = [*layers, self.layers[name]]
            self.layers[name] = sum(layers[1:], layers[0]) / np.float32(len(layers))
        return self.packer.pack_parameters([self.layers[name] for name in sent], list(sent))


class Sparse(Packing):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.packer = SparseCooParameterPacker()
        self.initial_parameters = common.ndarrays_to_parameters(sparse(self.packer, initial_weights()))

    def combine(self, server_round: int, lists: list[Weights]) -> Weights:
        zeros = [np.zeros(shape, "f4") for shape in SHAPES.values()]
        tensors = [dense(packed, zeros) for packed in lists]
        counts = mean([[(tensor != 0).astype("f4") for tensor in client] for client in tensors])
        summed = mean(tensors)
        return sparse(
            self.packer,
            [s / np.maximum(c, np.float32(0.25)) for s, c in zip(summed, counts, strict=True)],
        )


ALGORITHMS: dict[str, tuple[Any, ClientWork]] = {
    "SCAFFOLD": (Scaffold, scaffold_client),
    "client-level DP": (ClientLevelDP, clipping_client),
    "adaptive constraint": (AdaptiveConstraint, adaptive_client),
    "dynamic layers": (DynamicLayers, layers_client),
    "sparse": (Sparse, sparse_client),
}
