"""Runs of the message-based API: strategies of Flower's, and an app whose state counts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archive.interop.flower import Resumable, persist_state
from tests.interop.flower.live.grid import InProcessGrid, Trap
from tests.interop.flower.live.models import SHAPES, initial_weights, loss, train

known: Any = pytest.importorskip("flwr.serverapp.strategy")
app: Any = pytest.importorskip("flwr.app")
clientapp: Any = pytest.importorskip("flwr.clientapp")

NODES = 4
HALF = {"fraction_train": 0.5, "min_train_nodes": 2}
FIXED = {"noise_multiplier": 0.3, "clipping_norm": 0.7, "num_sampled_clients": NODES}
ADAPTIVE = {"noise_multiplier": 0.3, "num_sampled_clients": NODES, "clipped_count_stddev": 0.2}


def array_record(weights: list[Any]) -> Any:
    """Return the weights of the model as Flower's record."""
    return app.ArrayRecord({name: app.Array(array) for name, array in zip(SHAPES, weights, strict=True)})


def initial_arrays() -> Any:
    return array_record(initial_weights())


def client_app(url: Path | str = "", mods: tuple[Any, ...] = ()) -> Any:
    """Return an app that keeps momentum and the history of its losses in its state, persisted at a URL."""
    made = clientapp.ClientApp(mods=[*([persist_state(url)] if url else []), *mods])

    @made.train()
    def fit(message: Any, context: Any) -> Any:
        partition, state = context.node_config["partition-id"], context.state
        history = state.setdefault("history", app.MetricRecord({"loss": [], "rounds": []}))
        momentum = state["momentum"].to_numpy_ndarrays() if "momentum" in state else None
        config = next(iter(message.content.config_records.values()))
        weights = next(iter(message.content.array_records.values())).to_numpy_ndarrays()
        weights, momentum, value = train(weights, partition, momentum, len(history["loss"]))
        state["momentum"] = array_record(momentum)
        history["loss"].append(value)
        history["rounds"].append(config["server-round"])
        metrics = {"num-examples": 10, "train_loss": value, "lr": float(config.get("lr", 0.0))}
        content = {"arrays": array_record(weights), "metrics": app.MetricRecord(metrics)}
        return app.Message(app.RecordDict(content), reply_to=message)

    @made.evaluate()
    def evaluate(message: Any, context: Any) -> Any:
        partition = context.node_config["partition-id"]
        weights = next(iter(message.content.array_records.values())).to_numpy_ndarrays()
        seen = context.state.setdefault("evaluated", app.ConfigRecord({"rounds": []}))
        seen["rounds"].append(next(iter(message.content.config_records.values()))["server-round"])
        metrics = app.MetricRecord({"num-examples": 10 + partition, "eval_loss": loss(weights, partition)})
        return app.Message(app.RecordDict({"metrics": metrics}), reply_to=message)

    return made


class Decaying(known.FedAvg):
    """Changes the config of its messages for good, and keeps generators, counts and a queue."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.generator = np.random.default_rng(3)
        self.seen: Counter[str] = Counter()
        self.recent: deque[float] = deque(maxlen=2)

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        config["lr"] = float(config["lr"]) * float(self.generator.uniform(0.5, 1.0))
        self.seen["rounds"] += 1
        self.recent.append(config["lr"])
        return super().configure_train(server_round, arrays, config, grid)


STRATEGIES: dict[str, Callable[[], Any]] = {
    "FedAvg": known.FedAvg,
    "FedAvg of a sample": lambda: known.FedAvg(**HALF),
    "FedAvg without evaluation": lambda: known.FedAvg(fraction_evaluate=0.0),
    "FedAdagrad": lambda: known.FedAdagrad(**HALF),
    "FedAdam": lambda: known.FedAdam(**HALF),
    "FedYogi": lambda: known.FedYogi(**HALF),
    "FedAvgM": lambda: known.FedAvgM(server_momentum=0.9, server_learning_rate=0.7, **HALF),
    "FedProx": lambda: known.FedProx(proximal_mu=0.1, **HALF),
    "FedMedian": known.FedMedian,
    "QFedAvg": lambda: known.QFedAvg(q=0.2, client_learning_rate=0.1, train_loss_key="train_loss"),
    "DP server fixed": lambda: known.DifferentialPrivacyServerSideFixedClipping(known.FedAvg(), **FIXED),
    "DP server adaptive": lambda: known.DifferentialPrivacyServerSideAdaptiveClipping(
        known.FedAdam(), **ADAPTIVE
    ),
    "DP client fixed": lambda: known.DifferentialPrivacyClientSideFixedClipping(known.FedAvgM(), **FIXED),
    "DP client adaptive": lambda: known.DifferentialPrivacyClientSideAdaptiveClipping(
        known.FedYogi(), **ADAPTIVE
    ),
    "yours": lambda: Decaying(**HALF),
}


def start(strategy: Any, rounds: int, weights: dict[str, Any] | None = None, **options: Any) -> Any:
    """Run a strategy with two clients that keep no state."""
    arrays = app.ArrayRecord({key: app.Array(array) for key, array in weights.items()}) if weights else None
    return strategy.start(InProcessGrid(client_app(), 2), arrays or initial_arrays(), rounds, **options)


def mods(name: str) -> tuple[Any, ...]:
    """Return the mods that the clients of a strategy need."""
    import flwr.clientapp.mod as mods

    known_mods = {
        "DP client fixed": mods.fixedclipping_mod,
        "DP client adaptive": mods.adaptiveclipping_mod,
    }
    return (known_mods[name],) if name in known_mods else ()


def run(
    name: str, url: str, rounds: int, run_id: int, trap: Trap | None = None, **options: Any
) -> dict[str, Any]:
    """Run a strategy to its end, resumably where there is a URL; return all its results."""
    grid = InProcessGrid(client_app(url, mods(name)), NODES, run_id, trap)
    strategy = Resumable(STRATEGIES[name](), url, **options) if url else STRATEGIES[name]()

    def evaluate(server_round: int, arrays: Any) -> Any:
        noise = float(np.random.random())  # noqa: NPY002 the global generator is restored
        return app.MetricRecord({"central": loss(arrays.to_numpy_ndarrays(), 0) + noise})

    result = strategy.start(
        grid,
        initial_arrays(),
        num_rounds=rounds,
        train_config=app.ConfigRecord({"lr": 1.0}),
        evaluate_fn=None if name == "FedAvg" else evaluate,
    )
    return {
        "arrays": {key: array.data for key, array in result.arrays.items()},
        "train": {number: dict(record) for number, record in result.train_metrics_clientapp.items()},
        "evaluate": {number: dict(record) for number, record in result.evaluate_metrics_clientapp.items()},
        "server": {number: dict(record) for number, record in result.evaluate_metrics_serverapp.items()},
        "contexts": grid.contexts,
    }
