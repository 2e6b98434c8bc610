"""Runs of the message-based API: strategies of Flower's, and an app whose state counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from archive.interop.flower import Resumable, persist_state
from tests.interop.flower.grid import InProcessGrid
from tests.interop.flower.models import SHAPES, initial_weights, loss, train

NODES = 4


def client_app(url: str, mods: list[Any]) -> Any:
    """Return an app that keeps momentum and the history of its losses in its state."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp(mods=[persist_state(url), *mods] if url else mods)

    def named(arrays: list[Any]) -> Any:
        return ArrayRecord({name: Array(array) for name, array in zip(SHAPES, arrays, strict=True)})

    @app.train()
    def fit(message: Any, context: Any) -> Any:
        partition, state = context.node_config["partition-id"], context.state
        history = state.setdefault("history", MetricRecord({"loss": [], "rounds": []}))
        momentum = state["momentum"].to_numpy_ndarrays() if "momentum" in state else None
        config = next(iter(message.content.config_records.values()))
        weights = next(iter(message.content.array_records.values())).to_numpy_ndarrays()
        weights, momentum, value = train(weights, partition, momentum, len(history["loss"]))
        state["momentum"] = named(momentum)
        history["loss"].append(value)
        history["rounds"].append(config["server-round"])
        metrics = {"num-examples": 10, "train_loss": value, "lr": float(config.get("lr", 0.0))}
        content = {"arrays": named(weights), "metrics": MetricRecord(metrics)}
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Any, context: Any) -> Any:
        partition = context.node_config["partition-id"]
        weights = next(iter(message.content.array_records.values())).to_numpy_ndarrays()
        seen = context.state.setdefault("evaluated", ConfigRecord({"rounds": []}))
        seen["rounds"].append(next(iter(message.content.config_records.values()))["server-round"])
        metrics = MetricRecord({"num-examples": 10 + partition, "eval_loss": loss(weights, partition)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def strategies() -> dict[str, tuple[Callable[[], Any], list[Any]]]:
    """Return strategies by name, each with the mods that its clients need."""
    import flwr.serverapp.strategy as known
    from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod

    half = {"fraction_train": 0.5, "min_train_nodes": 2}
    fixed = {"noise_multiplier": 0.3, "clipping_norm": 0.7, "num_sampled_clients": NODES}
    adaptive = {"noise_multiplier": 0.3, "num_sampled_clients": NODES, "clipped_count_stddev": 0.2}

    class Decaying(known.FedAvg):
        """Changes the config of its messages for good, and keeps generators, counts and a queue."""

        def __init__(self, **options: Any) -> None:
            from collections import Counter, deque

            super().__init__(**options)
            self.generator = np.random.default_rng(3)
            self.seen, self.recent = Counter(), deque(maxlen=2)

        def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            config["lr"] = float(config["lr"]) * float(self.generator.uniform(0.5, 1.0))
            self.seen["rounds"] += 1
            self.recent.append(config["lr"])
            return super().configure_train(server_round, arrays, config, grid)

    return {
        "FedAvg": (known.FedAvg, []),
        "FedAvg of a sample": (lambda: known.FedAvg(**half), []),
        "FedAvg without evaluation": (lambda: known.FedAvg(fraction_evaluate=0.0), []),
        "FedAdagrad": (lambda: known.FedAdagrad(**half), []),
        "FedAdam": (lambda: known.FedAdam(**half), []),
        "FedYogi": (lambda: known.FedYogi(**half), []),
        "FedAvgM": (lambda: known.FedAvgM(server_momentum=0.9, server_learning_rate=0.7, **half), []),
        "FedProx": (lambda: known.FedProx(proximal_mu=0.1, **half), []),
        "FedMedian": (known.FedMedian, []),
        "QFedAvg": (
            lambda: known.QFedAvg(q=0.2, client_learning_rate=0.1, train_loss_key="train_loss"),
            [],
        ),
        "DP server fixed": (
            lambda: known.DifferentialPrivacyServerSideFixedClipping(known.FedAvg(), **fixed),
            [],
        ),
        "DP server adaptive": (
            lambda: known.DifferentialPrivacyServerSideAdaptiveClipping(known.FedAdam(), **adaptive),
            [],
        ),
        "DP client fixed": (
            lambda: known.DifferentialPrivacyClientSideFixedClipping(known.FedAvgM(), **fixed),
            [fixedclipping_mod],
        ),
        "DP client adaptive": (
            lambda: known.DifferentialPrivacyClientSideAdaptiveClipping(known.FedYogi(), **adaptive),
            [adaptiveclipping_mod],
        ),
        "yours": (lambda: Decaying(**half), []),
    }


def run(
    name: str, url: str, rounds: int, run_id: int, trap: Callable[[int, Any], None] | None = None
) -> dict[str, Any]:
    """Run a strategy to its end and return all that it came to."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

    make, mods = strategies()[name]
    app = client_app(url, mods)
    grid = InProcessGrid(app, NODES, run_id, trap)
    initial = dict(zip(SHAPES, initial_weights(), strict=True))
    strategy = Resumable(make(), url) if url else make()

    def evaluate(server_round: int, arrays: Any) -> Any:
        return MetricRecord({"central": loss(arrays.to_numpy_ndarrays(), 0) + float(np.random.random())})  # noqa: NPY002

    result = strategy.start(
        grid,
        ArrayRecord({key: Array(weight) for key, weight in initial.items()}),
        num_rounds=rounds,
        train_config=ConfigRecord({"lr": 1.0}),
        evaluate_fn=None if name == "FedAvg" else evaluate,
    )
    return {
        "arrays": {key: array.data for key, array in result.arrays.items()},
        "train": {number: dict(record) for number, record in result.train_metrics_clientapp.items()},
        "evaluate": {number: dict(record) for number, record in result.evaluate_metrics_clientapp.items()},
        "server": {number: dict(record) for number, record in result.evaluate_metrics_serverapp.items()},
        "contexts": grid.contexts,
    }


def state_bytes(state: Any) -> int:
    """Return what Flower would carry of a state."""
    return sum(record.count_bytes() for record in state.values() if len(record))
