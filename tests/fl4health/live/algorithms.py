"""FL4Health's own clients and servers on tiny data: what is run, killed and run again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fl4health.checkpointing.client_module import ClientCheckpointAndStateModule
from fl4health.checkpointing.server_module import (
    AdaptiveConstraintServerCheckpointAndStateModule,
    BaseServerCheckpointAndStateModule,
    ClippingBitServerCheckpointAndStateModule,
    OpacusServerCheckpointAndStateModule,
    ScaffoldServerCheckpointAndStateModule,
)
from fl4health.client_managers.fixed_without_replacement_manager import FixedSamplingByFractionClientManager
from fl4health.client_managers.poisson_sampling_manager import PoissonSamplingClientManager
from fl4health.clients.apfl_client import ApflClient
from fl4health.clients.basic_client import BasicClient
from fl4health.clients.clipping_client import NumpyClippingClient
from fl4health.clients.ditto_client import DittoClient
from fl4health.clients.fed_prox_client import FedProxClient
from fl4health.clients.instance_level_dp_client import InstanceLevelDpClient
from fl4health.clients.moon_client import MoonClient
from fl4health.clients.partial_weight_exchange_client import PartialWeightExchangeClient
from fl4health.clients.scaffold_client import ScaffoldClient
from fl4health.metrics import Accuracy
from fl4health.model_bases.apfl_base import ApflModule
from fl4health.model_bases.moon_base import MoonModel
from fl4health.parameter_exchange.full_exchanger import FullParameterExchanger
from fl4health.parameter_exchange.layer_exchanger import DynamicLayerExchanger, FixedLayerExchanger
from fl4health.parameter_exchange.parameter_selection_criteria import (
    LayerSelectionFunctionConstructor,
    largest_final_magnitude_scores,
)
from fl4health.parameter_exchange.sparse_coo_parameter_exchanger import SparseCooParameterExchanger
from fl4health.reporting import JsonReporter
from fl4health.servers.adaptive_constraint_servers.ditto_server import DittoServer
from fl4health.servers.adaptive_constraint_servers.fedprox_server import FedProxServer
from fl4health.servers.base_server import FlServer
from fl4health.servers.client_level_dp_fed_avg_server import ClientLevelDPFedAvgServer
from fl4health.servers.instance_level_dp_server import InstanceLevelDpServer
from fl4health.servers.scaffold_server import ScaffoldServer
from fl4health.strategies.basic_fedavg import BasicFedAvg, OpacusBasicFedAvg
from fl4health.strategies.client_dp_fedavgm import ClientLevelDPFedAvgM
from fl4health.strategies.fedavg_dynamic_layer import FedAvgDynamicLayer
from fl4health.strategies.fedavg_sparse_coo_tensor import FedAvgSparseCooTensor
from fl4health.strategies.fedavg_with_adaptive_constraint import FedAvgWithAdaptiveConstraint
from fl4health.strategies.scaffold import Scaffold
from fl4health.utils.parameter_extraction import get_all_model_parameters
from opacus import GradSampleModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from archive.interop.fl4health import PartialExchanger, ResumableClient

Net = Callable[[], nn.Module]


def plain_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def normed_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def moon_net() -> nn.Module:
    torch.manual_seed(3)
    return MoonModel(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2))


def apfl_net() -> nn.Module:
    return ApflModule(plain_net())


class Parts:
    """What every client needs; bases of the clients below come after it."""

    model: Any
    optimizers: Any
    client_name: str
    net: Net = staticmethod(plain_net)
    adam = False

    def get_model(self, config: Any) -> nn.Module:
        return self.net()

    def get_optimizer(self, config: Any) -> Any:
        if self.adam:
            return torch.optim.Adam(self.model.parameters(), lr=0.01)
        return torch.optim.SGD(self.model.parameters(), lr=0.05)

    def get_lr_scheduler(self, optimizer_key: str, config: Any) -> Any:
        return torch.optim.lr_scheduler.StepLR(self.optimizers[optimizer_key], 3, 0.9) if self.adam else None

    def get_criterion(self, config: Any) -> Any:
        return nn.CrossEntropyLoss()

    def get_data_loaders(self, config: Any) -> tuple[DataLoader, DataLoader]:
        draws = torch.Generator().manual_seed(len(self.client_name))
        count = 20 + 4 * len(self.client_name)
        x = torch.randn(count, 4, generator=draws)
        data = TensorDataset(x, (x.sum(1) > 0).long())
        return DataLoader(data, 8, shuffle=True), DataLoader(data, 8)


class PlainClient(ResumableClient, Parts, BasicClient):
    net, adam = staticmethod(normed_net), True


class OwnScaffoldClient(ResumableClient, Parts, ScaffoldClient):
    pass


class OwnClippingClient(ResumableClient, Parts, NumpyClippingClient):
    pass


class OwnFedProxClient(ResumableClient, Parts, FedProxClient):
    adam = True


class OwnMoonClient(ResumableClient, Parts, MoonClient):
    net = staticmethod(moon_net)


class OwnApflClient(ResumableClient, Parts, ApflClient):
    net = staticmethod(apfl_net)

    def get_optimizer(self, config: Any) -> Any:
        parts = {"local": self.model.local_model, "global": self.model.global_model}
        return {name: torch.optim.SGD(part.parameters(), lr=0.05) for name, part in parts.items()}


class OwnDittoClient(ResumableClient, Parts, DittoClient):
    def get_optimizer(self, config: Any) -> Any:
        parts = {"local": self.model, "global": self.global_model}
        return {name: torch.optim.AdamW(part.parameters(), lr=0.01) for name, part in parts.items()}


class OwnInstanceDpClient(ResumableClient, Parts, InstanceLevelDpClient):
    pass


class DynamicClient(ResumableClient, Parts, PartialWeightExchangeClient):
    adam = True

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, store_initial_model=True, **more)

    def get_parameter_exchanger(self, config: Any) -> Any:
        chosen = LayerSelectionFunctionConstructor(norm_threshold=0.1, exchange_percentage=0.5)
        return DynamicLayerExchanger(chosen.select_by_percentage())


class SparseClient(ResumableClient, Parts, PartialWeightExchangeClient):
    adam = True

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, store_initial_model=True, **more)

    def get_parameter_exchanger(self, config: Any) -> Any:
        return SparseCooParameterExchanger(0.4, largest_final_magnitude_scores)


def configure(server_round: int, adaptive: bool = True) -> dict[str, Any]:
    return {
        "current_server_round": server_round,
        "local_epochs": 2,
        "batch_size": 8,
        "adaptive_clipping": adaptive,
        "clipping_bound": 1.0,
        "noise_multiplier": 0.5,
    }


def options(net: Net, **more: Any) -> dict[str, Any]:
    given = {"on_fit_config_fn": configure, "on_evaluate_config_fn": configure, "min_available_clients": 2}
    return {**given, "initial_parameters": get_all_model_parameters(net()), **average(), **more}


def average() -> dict[str, Any]:
    def mean(results: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        keys = sorted(set.intersection(*(set(metrics) for _, metrics in results)))
        return {key: sum(sorted(float(metrics[key]) for _, metrics in results)) for key in keys}

    return {"fit_metrics_aggregation_fn": mean, "evaluate_metrics_aggregation_fn": mean}


def manager() -> Any:
    return FixedSamplingByFractionClientManager()


def fedavg(state: Any, reporters: Any) -> FlServer:
    module = BaseServerCheckpointAndStateModule(normed_net(), FullParameterExchanger(), None, state)
    return FlServer(manager(), {}, BasicFedAvg(**options(normed_net)), reporters, module, server_name="hub")


def moon(state: Any, reporters: Any) -> FlServer:
    module = BaseServerCheckpointAndStateModule(moon_net(), FullParameterExchanger(), None, state)
    return FlServer(manager(), {}, BasicFedAvg(**options(moon_net)), reporters, module, server_name="hub")


def scaffold(state: Any, reporters: Any) -> FlServer:
    module = ScaffoldServerCheckpointAndStateModule(plain_net(), None, state)
    strategy = Scaffold(model=plain_net(), learning_rate=0.9, **options(plain_net))
    return ScaffoldServer(manager(), {}, strategy, reporters, module, server_name="hub")


def client_dp(state: Any, reporters: Any) -> FlServer:
    module = ClippingBitServerCheckpointAndStateModule(plain_net(), None, state)
    given = options(plain_net, weight_noise_multiplier=0.1, clipping_noise_multiplier=2.0)
    strategy = ClientLevelDPFedAvgM(adaptive_clipping=True, weighted_aggregation=True, **given)
    return ClientLevelDPFedAvgServer(manager(), {}, strategy, 0.1, 5, reporters, module, server_name="hub")


def fedprox(state: Any, reporters: Any) -> FlServer:
    module = AdaptiveConstraintServerCheckpointAndStateModule(plain_net(), None, state)
    given = options(plain_net, initial_loss_weight=0.3, adapt_loss_weight=True, loss_weight_patience=2)
    strategy = FedAvgWithAdaptiveConstraint(**given)
    return FedProxServer(manager(), {}, strategy, reporters, module, server_name="hub")


def ditto(state: Any, reporters: Any) -> FlServer:
    module = AdaptiveConstraintServerCheckpointAndStateModule(plain_net(), None, state)
    strategy = FedAvgWithAdaptiveConstraint(
        **options(plain_net, initial_loss_weight=0.3, adapt_loss_weight=True)
    )
    return DittoServer(manager(), {}, strategy, reporters, module, server_name="hub")


def apfl(state: Any, reporters: Any) -> FlServer:
    net: Any = apfl_net()
    exchanger = FixedLayerExchanger(net.layers_to_exchange())
    module = BaseServerCheckpointAndStateModule(net, exchanger, None, state)
    return FlServer(manager(), {}, BasicFedAvg(**options(apfl_net)), reporters, module, server_name="hub")


def instance_dp(state: Any, reporters: Any) -> FlServer:
    net = GradSampleModule(plain_net())
    given = options(plain_net)
    del given["initial_parameters"]
    strategy = OpacusBasicFedAvg(model=net, **given)
    module = OpacusServerCheckpointAndStateModule(net, FullParameterExchanger(), None, state)
    more = {"local_epochs": 2, "checkpoint_and_state_module": module, "reporters": reporters}
    manager = PoissonSamplingClientManager()
    return InstanceLevelDpServer(manager, {}, 0.5, 8, 5, strategy, server_name="hub", **more)


def partial_server(strategy: Any, state: Any, reporters: Any) -> FlServer:
    module = BaseServerCheckpointAndStateModule(plain_net(), PartialExchanger(), None, state)
    return FlServer(manager(), {}, strategy(**options(plain_net)), reporters, module, server_name="hub")


ALGORITHMS: dict[str, tuple[Any, Any]] = {
    "fedavg": (fedavg, PlainClient),
    "scaffold": (scaffold, OwnScaffoldClient),
    "client DP": (client_dp, OwnClippingClient),
    "fedprox": (fedprox, OwnFedProxClient),
    "dynamic layers": (partial(partial_server, FedAvgDynamicLayer), DynamicClient),
    "sparse": (partial(partial_server, FedAvgSparseCooTensor), SparseClient),
    "moon": (moon, OwnMoonClient),
    "apfl": (apfl, OwnApflClient),
    "ditto": (ditto, OwnDittoClient),
    "instance DP": (instance_dp, OwnInstanceDpClient),
}


def make_client(name: str, client_name: str, state: Any, folder: Path) -> Any:
    module = ClientCheckpointAndStateModule(state_checkpointer=state)
    reporter = JsonReporter(client_name, folder)
    return ALGORITHMS[name][1](
        data_path=Path(),
        metrics=[Accuracy()],
        device=torch.device("cpu"),
        checkpoint_and_state_module=module,
        reporters=[reporter],
        client_name=client_name,
    )


def make_server(name: str, state: Any, folder: Path) -> FlServer:
    return ALGORITHMS[name][0](state, [JsonReporter("hub", folder)])
