"""The model that is read: the arrays of a small transformer, one of them large."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["LARGE", "ONE", "ROWS", "make_model"]

LARGE = "embeddings.word"
ONE = "layer.12.attention.query"
ROWS = slice(10_000, 10_100)


def make_model(layers: int) -> dict[str, Any]:
    """Return arrays by name: 24 layers make 289 of them and 217 MB, 0 a tiny model to warm up with."""
    make = np.random.default_rng(7)

    def random(*shape: int) -> Any:
        return make.standard_normal(shape, "f4")

    arrays = {LARGE: random(30_522, 384) if layers else random(200, 384)}
    for layer in range(layers or 1):
        for name in ("query", "key", "value", "output"):
            arrays[f"layer.{layer}.attention.{name}"] = random(384, 384)
            arrays[f"layer.{layer}.attention.{name}.bias"] = random(384)
        if layers:
            arrays[f"layer.{layer}.up"] = random(384, 1536)
            arrays[f"layer.{layer}.down"] = random(1536, 384)
            arrays[f"layer.{layer}.norm"] = random(384)
            arrays[f"layer.{layer}.norm.bias"] = random(384)
    return arrays
