"""Server and client of Flower's old API: server_fn, ServerAppComponents and a NumPyClient."""

import os

from flwr.client import ClientApp, NumPyClient
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server import Server, ServerApp, ServerAppComponents, ServerConfig, SimpleClientManager
from flwr.server.strategy import FedAdam

from archive.interop.flower import Resumable, persist_state
from bitsapp import model


class Client(NumPyClient):
    def __init__(self, context):
        self.context = context

    def fit(self, parameters, config):
        weights, metrics = model.train(parameters[0], self.context, config["server_round"])
        return [weights], 10 + self.context.node_config["partition-id"], metrics

    def evaluate(self, parameters, config):
        return float(parameters[0].mean()), 10, model.known(self.context)


def client_fn(context):
    return Client(context).to_client()


client = ClientApp(client_fn=client_fn, mods=[persist_state(os.environ["BITSAPP_URL"])])


class Reporting(Server):
    """A server that writes what its run ended with."""

    def fit(self, num_rounds, timeout):
        history, seconds = super().fit(num_rounds, timeout)
        arrays = {"w": parameters_to_ndarrays(self.parameters)[0]}
        kept = ("losses_distributed", "metrics_distributed_fit", "metrics_distributed")
        model.write(arrays, {name: getattr(history, name) for name in kept})
        return history, seconds


def total(results):
    """Return the sums of the clients' metrics, which do not depend on the order of whole numbers."""
    return {key: sum(sorted(metrics[key] for _, metrics in results)) for key in results[0][1]}


def server_fn(context):
    config, nodes = context.run_config, int(os.environ["BITSAPP_NODES"])
    strategy = FedAdam(
        fraction_evaluate=float(config["evaluate"]),
        fraction_fit=config["fraction"],
        eta=config["eta"],
        min_fit_clients=int(nodes * config["fraction"]),  # not all clients may be there when they are counted
        min_available_clients=nodes,
        min_evaluate_clients=nodes if config["evaluate"] else 0,
        initial_parameters=ndarrays_to_parameters([model.initial()]),
        on_fit_config_fn=lambda server_round: {"server_round": server_round},
        fit_metrics_aggregation_fn=total,
        evaluate_metrics_aggregation_fn=total,
    )
    strategy = Resumable(
        strategy,
        os.environ["BITSAPP_URL"],
        experiment=config["experiment"],
        every=config["every"],
        keep_last=config["keep-last"],
        resume=config["resume"],
        deterministic=not os.environ.get("BITSAPP_UNORDERED"),
    )
    server = Reporting(client_manager=SimpleClientManager(), strategy=strategy)
    return ServerAppComponents(server=server, config=ServerConfig(num_rounds=config["num-server-rounds"]))


server = ServerApp(server_fn=server_fn)
