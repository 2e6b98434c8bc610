"""What the clients of these tests train: least squares, with a state of their own that the bits depend on."""

from __future__ import annotations

from typing import Any

import numpy as np

SHAPES = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (5, 8), "fc.bias": (1,)}

NDArrays = list[np.ndarray[Any, Any]]


def initial_weights() -> NDArrays:
    generator = np.random.default_rng(7)
    return [generator.normal(size=shape).astype("f4") for shape in SHAPES.values()]


def target(partition: int) -> NDArrays:
    generator = np.random.default_rng(100 + partition)
    return [generator.normal(size=shape).astype("f4") for shape in SHAPES.values()]


def train(weights: NDArrays, partition: int, momentum: NDArrays | None, step: int) -> tuple[Any, ...]:
    """Return new weights, the momentum that the client keeps, and its loss."""
    noise = np.random.default_rng([partition, step])
    velocity = momentum or [np.zeros_like(weight) for weight in weights]
    wanted = target(partition)
    for _ in range(3):
        gradients = [
            weight - goal + np.float32(0.01) * np.asarray(noise.normal(size=weight.shape), "f4")
            for weight, goal in zip(weights, wanted, strict=True)
        ]
        velocity = [np.float32(0.9) * v + g for v, g in zip(velocity, gradients, strict=True)]
        weights = [w - np.float32(0.05) * v for w, v in zip(weights, velocity, strict=True)]
    return weights, velocity, loss(weights, partition)


def loss(weights: NDArrays, partition: int) -> float:
    pairs = zip(weights, target(partition), strict=True)
    return float(sum(np.square(weight - goal, dtype="f8").sum() for weight, goal in pairs))
