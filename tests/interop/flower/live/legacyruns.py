"""Runs of the old API, which FL4Health builds on: Flower's strategies, and the packers' algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from archive.interop.flower import Resumable, persist_state
from tests.interop.flower.live.grid import InProcessGrid, Trap
from tests.interop.flower.live.models import SHAPES, initial_weights, loss, train
from tests.interop.flower.live.names import require_today
from tests.interop.flower.live.packing import ALGORITHMS, ClientWork, Weights

common = require_today()
client: Any = pytest.importorskip("flwr.client")
server: Any = pytest.importorskip("flwr.server")
known: Any = pytest.importorskip("flwr.server.strategy")
proxies: Any = pytest.importorskip("flwr.server.compat.grid_client_proxy")

NODES = 4
HALF = {"fraction_fit": 0.5, "min_fit_clients": 2}
DP = {"noise_multiplier": 0.3, "num_sampled_clients": NODES}


class Client(client.NumPyClient):
    """Keeps the history of its losses, and the arrays that its work wants to see again, in its state."""

    def __init__(self, context: Any, work: ClientWork) -> None:
        self.context, self.work = context, work
        self.partition = context.node_config["partition-id"]

    def fit(self, parameters: Weights, config: dict[str, Any]) -> tuple[Weights, int, dict[str, Any]]:
        state = self.context.state
        history = state.setdefault("history", common.MetricRecord({"loss": [], "rounds": []}))
        kept = state["kept"].to_numpy_ndarrays() if "kept" in state else None
        packed, kept, value = self.work(parameters, self.partition, kept, len(history["loss"]))
        arrays = {str(n): common.Array(np.asarray(array)) for n, array in enumerate(kept)}
        state["kept"] = common.ArrayRecord(arrays)
        history["loss"].append(value)
        history["rounds"].append(config.get("round", -1))
        return packed, 10, {"partition": self.partition, "loss": value}

    def evaluate(self, parameters: Weights, config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        known = [part.shape for part in parameters[: len(SHAPES)]] == list(SHAPES.values())
        weights = parameters[: len(SHAPES)] if known else initial_weights()
        return loss(weights, self.partition), 10, {"partition": self.partition}


def client_app(url: str, work: ClientWork) -> Any:
    mods = [persist_state(url)] if url else []
    return client.ClientApp(lambda context: Client(context, work).to_client(), mods=mods)


def sorted_class(base: Any) -> Any:
    """Return a strategy that takes results by partition: the server hands them over as they come."""

    def by_partition(results: Any, failures: Any) -> Any:
        assert not failures, failures
        return sorted(results, key=lambda pair: pair[1].metrics["partition"])

    class Sorted(base):
        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
            return super().aggregate_fit(server_round, by_partition(results, failures), failures)

        def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> Any:
            return super().aggregate_evaluate(server_round, by_partition(results, failures), failures)

    return Sorted


def configure(server_round: int) -> dict[str, Any]:
    return {"round": server_round}


def central(server_round: int, weights: Weights, config: dict[str, Any]) -> Any:
    noise = float(np.random.random())  # noqa: NPY002 the global generator is restored
    return loss(weights, 0) + noise, {"round": server_round}


def options(**more: Any) -> dict[str, Any]:
    initial = common.ndarrays_to_parameters(initial_weights())
    return {"initial_parameters": initial, "on_fit_config_fn": configure, **more}


def flowers(base: Any, **more: Any) -> tuple[Callable[[], Any], ClientWork]:
    return lambda: sorted_class(base)(**options(**more)), train


def flowers_around(base: Any, inner: Any, **more: Any) -> tuple[Callable[[], Any], ClientWork]:
    return lambda: sorted_class(base)(inner(**options()), **DP, **more), train


def packers(base: Any, work: ClientWork) -> tuple[Callable[[], Any], ClientWork]:
    make = sorted_class(base)
    return lambda: make(on_fit_config_fn=configure, evaluate_metrics_aggregation_fn=None), work


STRATEGIES: dict[str, tuple[Callable[[], Any], ClientWork]] = {
    "FedAvg": flowers(known.FedAvg, evaluate_fn=central, **HALF),
    "FedAvg without evaluation": flowers(known.FedAvg, fraction_evaluate=0.0),
    "FedAdam": flowers(known.FedAdam, **HALF),
    "FedYogi": flowers(known.FedYogi, **HALF),
    "FedAvgM": flowers(known.FedAvgM, server_momentum=0.9, server_learning_rate=0.7, **HALF),
    "QFedAvg": flowers(known.QFedAvg, evaluate_fn=central),
    "DP server fixed": flowers_around(
        known.DifferentialPrivacyServerSideFixedClipping, known.FedAvg, clipping_norm=0.7
    ),
    "DP server adaptive": flowers_around(
        known.DifferentialPrivacyServerSideAdaptiveClipping, known.FedAdam, clipped_count_stddev=0.2
    ),
    **{name: packers(*algorithm) for name, algorithm in ALGORITHMS.items()},
}

UNSORTED: dict[str, tuple[Callable[[], Any], ClientWork]] = {
    "FedAvgM of a sample": (lambda: known.FedAvgM(**options(server_momentum=0.9, **HALF)), train)
}
"""Strategies that take results as they come."""


def registered(grid: InProcessGrid, manager: Any = None) -> Any:
    """Return a manager that has all nodes of a grid, by default a new one."""
    made = server.SimpleClientManager() if manager is None else manager
    for node in grid.ids:
        made.register(proxies.GridClientProxy(node, grid, grid.run.run_id))
    return made


def run(
    name: str,
    url: str,
    rounds: int,
    run_id: int,
    trap: Trap | None = None,
    manager_of: Callable[[InProcessGrid], Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Run a strategy to its end, resumably where there is a URL; return all its results."""
    make, work = {**STRATEGIES, **UNSORTED}[name]
    grid = InProcessGrid(client_app(url, work), NODES, run_id, trap)
    manager = (manager_of or registered)(grid)
    strategy = Resumable(make(), url, **options) if url else make()
    made = server.Server(client_manager=manager, strategy=strategy)
    made.set_max_workers(1)
    history, _ = made.fit(num_rounds=rounds, timeout=None)
    arrays = common.parameters_to_ndarrays(made.parameters)
    kinds = (
        *("losses_distributed", "losses_centralized", "metrics_distributed_fit"),
        *("metrics_distributed", "metrics_centralized"),
    )
    return {
        "arrays": {str(n): (a.dtype.str, a.shape, a.tobytes()) for n, a in enumerate(arrays)},
        "history": {kind: getattr(history, kind) for kind in kinds},
        "contexts": grid.contexts,
    }
