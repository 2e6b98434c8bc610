"""FL4Health's strategies with replies of real arrays: proxies that train in this process, in one order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from fl4health.client_managers.fixed_sampling_client_manager import FixedSamplingClientManager
from fl4health.client_managers.fixed_without_replacement_manager import FixedSamplingByFractionClientManager
from fl4health.parameter_exchange.parameter_packer import (
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)
from fl4health.strategies.basic_fedavg import BasicFedAvg, OpacusBasicFedAvg
from fl4health.strategies.client_dp_fedavgm import ClientLevelDPFedAvgM
from fl4health.strategies.fedavg_dynamic_layer import FedAvgDynamicLayer
from fl4health.strategies.fedavg_sparse_coo_tensor import FedAvgSparseCooTensor
from fl4health.strategies.fedavg_with_adaptive_constraint import FedAvgWithAdaptiveConstraint
from fl4health.strategies.feddg_ga import FedDgGa
from fl4health.strategies.feddg_ga_with_adaptive_constraint import FedDgGaAdaptiveConstraint
from fl4health.strategies.fedpca import FedPCA
from fl4health.strategies.fedpm import FedPm
from fl4health.strategies.flash import Flash
from fl4health.strategies.model_merge_strategy import ModelMergeStrategy
from fl4health.strategies.scaffold import OpacusScaffold, Scaffold
from flwr.common import (
    Code,
    EvaluateRes,
    FitRes,
    GetParametersRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import Server
from flwr.server.client_manager import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from opacus import GradSampleModule

from tests.fl4health.live.algorithms import options, plain_net

Weights = list[Any]
Reply = Callable[[Weights, int], Weights]
"""Makes a client's packed list of the server's and the number of the client."""

NAMES = list(plain_net().state_dict())
SHAPES = [tuple(tensor.shape) for tensor in plain_net().state_dict().values()]


def drawn(number: int) -> Weights:
    draws = np.random.default_rng(number)
    return [draws.normal(size=shape).astype(np.float32) for shape in SHAPES]


def trained(weights: Weights, number: int) -> Weights:
    moved = zip(weights[: len(SHAPES)], drawn(number), strict=True)
    return [(0.9 * weight + 0.1 * step).astype(np.float32) for weight, step in moved]


def with_variates(weights: Weights, number: int) -> Weights:
    return [*trained(weights, number), *drawn(number + 10)]


def with_loss(weights: Weights, number: int) -> Weights:
    return [*trained(weights, number), np.array(0.5 / (1 + number))]


def update_with_bit(weights: Weights, number: int) -> Weights:
    return [*drawn(number), np.array(float(number % 2))]


def layers(weights: Weights, number: int) -> Weights:
    chosen = [position for position in range(len(SHAPES)) if (position + number) % 3]
    found = drawn(number)
    names = [NAMES[position] for position in chosen]
    return ParameterPackerWithLayerNames().pack_parameters([found[position] for position in chosen], names)


def masks(weights: Weights, number: int) -> Weights:
    found = [(mask > 0).astype(np.float32) for mask in drawn(number)]
    return ParameterPackerWithLayerNames().pack_parameters(found, NAMES)


def sparse(weights: Weights, number: int) -> Weights:
    import torch

    packer = SparseCooParameterPacker()
    dense = {name: np.where(found > 0.3, found, 0) for name, found in zip(NAMES, drawn(number), strict=True)}
    chosen = {
        name: found for name, found in dense.items() if found.any()
    }  # as SparseCooParameterExchanger does
    parts = [packer.extract_coo_info_from_dense(torch.from_numpy(found)) for found in chosen.values()]
    values, indices, shapes = (list(part) for part in zip(*parts, strict=True))
    return packer.pack_parameters(values, (indices, shapes, list(chosen)))


def components(weights: Weights, number: int) -> Weights:
    vectors, values, _ = np.linalg.svd(np.random.default_rng(number).normal(size=(5, 3)), full_matrices=False)
    return [vectors, values]


def fair(server_round: int) -> dict[str, Any]:
    flags = {"evaluate_after_fit": True, "pack_losses_with_val_metrics": True}
    return {"current_server_round": server_round, "n_server_rounds": 3, **flags}


FAIR = {"on_fit_config_fn": fair, "on_evaluate_config_fn": fair}


def made(base: Any, *without: str, **more: Any) -> Any:
    given = options(plain_net, **more)
    return base(**{name: value for name, value in given.items() if name not in without})


def opacus(base: Any) -> Any:
    return made(base, "initial_parameters", model=GradSampleModule(plain_net()))


STRATEGIES: dict[str, tuple[Callable[[], Any], Reply]] = {
    "BasicFedAvg": (partial(made, BasicFedAvg), trained),
    "OpacusBasicFedAvg": (partial(opacus, OpacusBasicFedAvg), trained),
    "Scaffold": (lambda: made(Scaffold, model=plain_net()), with_variates),
    "OpacusScaffold": (partial(opacus, OpacusScaffold), with_variates),
    "FedAvgWithAdaptiveConstraint": (
        partial(made, FedAvgWithAdaptiveConstraint, adapt_loss_weight=True, loss_weight_patience=1),
        with_loss,
    ),
    "ClientLevelDPFedAvgM": (
        partial(made, ClientLevelDPFedAvgM, adaptive_clipping=True, clipping_noise_multiplier=2.0),
        update_with_bit,
    ),
    "FedDgGa": (partial(made, FedDgGa, **FAIR), trained),
    "FedDgGaAdaptiveConstraint": (
        lambda: made(FedDgGaAdaptiveConstraint, adapt_loss_weight=True, loss_weight_patience=1, **FAIR),
        with_loss,
    ),
    "FedPCA": (partial(made, FedPCA), components),
    "FedPm": (partial(made, FedPm), masks),
    "Flash": (partial(made, Flash), trained),
    "FedAvgDynamicLayer": (partial(made, FedAvgDynamicLayer), layers),
    "FedAvgSparseCooTensor": (partial(made, FedAvgSparseCooTensor), sparse),
    "ModelMergeStrategy": (partial(made, ModelMergeStrategy, "initial_parameters"), trained),
}


class TrainingProxy(ClientProxy):
    """A client in this process; the connections of the older API have this interface."""

    def __init__(self, number: int, reply: Reply) -> None:
        super().__init__(f"client-{number}")
        self.number, self.reply = number, reply

    def fit(self, ins: Any, timeout: float | None, group_id: int | None) -> FitRes:
        number = 100 * self.number + (group_id or 0)
        weights = parameters_to_ndarrays(ins.parameters) or drawn(0)
        packed = ndarrays_to_parameters(self.reply(weights, number))
        return FitRes(Status(Code.OK, ""), packed, 10 + self.number, self.metrics(number))

    def evaluate(self, ins: Any, timeout: float | None, group_id: int | None) -> EvaluateRes:
        number = 100 * self.number + (group_id or 0)
        return EvaluateRes(Status(Code.OK, ""), 1.0 / (1 + number), 10, self.metrics(number + 7))

    def metrics(self, number: int) -> dict[str, Any]:
        return {"val - checkpoint": 1.0 / (1 + number), "accuracy": number / 1000}

    def get_properties(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        raise NotImplementedError

    def get_parameters(self, ins: Any, timeout: float | None, group_id: int | None) -> GetParametersRes:
        return GetParametersRes(Status(Code.OK, ""), ndarrays_to_parameters([]))

    def reconnect(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:
        raise NotImplementedError


def run(strategy: Any, reply: Reply, rounds: int) -> tuple[list[bytes], dict[str, Any]]:
    """Run a strategy with three clients that answer one after the other; return parameters and history."""
    manager: Any = FixedSamplingByFractionClientManager()
    if isinstance(strategy, (FedDgGa, ModelMergeStrategy)):
        manager = FixedSamplingClientManager() if isinstance(strategy, FedDgGa) else SimpleClientManager()
    for number in range(3):
        manager.register(TrainingProxy(number, reply))
    server = Server(client_manager=manager, strategy=strategy)
    server.set_max_workers(1)
    history, _ = server.fit(rounds, None)
    return server.parameters.tensors, vars(history)
