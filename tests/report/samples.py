"""Runs whose figures are known: one client is far off, one sends NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import archive

__all__ = ["FAR", "NAN", "save_run"]

FAR, NAN = "client-02", "client-01"
"""Names of the client whose updates are six times as long, and of the one that sends NaN in round 2."""


def save_run(folder: Path, *, rounds: int = 3, clients: int = 6, seed: int = 1) -> archive.CheckpointStore:
    """Save a run from round 0 on, whose metrics fall and rise by the round."""
    rng = np.random.default_rng(seed)
    store = archive.CheckpointStore(folder, best_by="loss", check="off")
    model: dict[str, Any] = {
        "embed.weight": rng.normal(0, 0.1, (24, 8)).astype(np.float32),
        "layers.0.weight": rng.normal(0, 0.1, (8, 8)).astype(np.float16),
        "layers.0.scale": rng.normal(0, 1, 8).astype(ml_dtypes.float8_e4m3fn),
        "layers.1.weight": rng.normal(0, 0.1, (8, 8)).astype(ml_dtypes.bfloat16),
        "steps": np.arange(5),
    }
    store.save(model, 0, metrics={"loss": 2.0, "accuracy": 0.1})
    for number in range(1, rounds + 1):
        step: dict[str, Any] = {key: rng.normal(0, 0.01, array.shape) for key, array in model.items()}
        step["steps"] = np.ones(5)
        for place in range(clients):
            name = f"client-{place:02d}"
            size = 6.0 if name == FAR else 1.0
            sent = {}
            for key, array in model.items():
                spread = 0.002 if array.dtype.kind != "i" else 0.0
                away = size * (step[key] + rng.normal(0, spread, array.shape))
                sent[key] = (array.astype(np.float32) + away).astype(array.dtype)
            if name == NAN and number == 2:
                sent["embed.weight"][0, :2] = np.nan
            metrics = {"loss": 2.1 / (number + 1) + 0.01 * place, "examples": 100 + place}
            store.save(sent, number, client=name, metrics=metrics)
        model = {
            key: (array.astype(np.float32) + step[key]).astype(array.dtype) for key, array in model.items()
        }
        metrics = {"loss": 2.0 / (number + 1), "accuracy": 1 - 0.9 / number}
        store.save(model, number, metrics=metrics, configs={"lr": 0.1, "strategy": "FedAvg"})
    return store
