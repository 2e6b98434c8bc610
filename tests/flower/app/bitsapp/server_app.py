"""The server of Flower's message-based API."""

import os

from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAdam

from archive.interop.flower import Resumable, Streaming
from bitsapp import model

app = ServerApp()


@app.main()
def main(grid, context):
    config, nodes = context.run_config, int(os.environ["BITSAPP_NODES"])
    strategy = FedAdam(
        fraction_evaluate=float(config["evaluate"]),
        fraction_train=config["fraction"],
        eta=config["eta"],
        min_train_nodes=int(nodes * config["fraction"]),  # not all nodes may be there when they are counted
        min_available_nodes=nodes,
        min_evaluate_nodes=nodes if config["evaluate"] else 0,
    )
    if "BITSAPP_SCRATCH" in os.environ:
        strategy = Streaming(strategy, os.environ["BITSAPP_SCRATCH"])
    strategy = Resumable(
        strategy,
        os.environ["BITSAPP_URL"],
        experiment=config["experiment"],
        every=config["every"],
        keep_last=config["keep-last"],
        resume=config["resume"],
        deterministic=not os.environ.get("BITSAPP_UNORDERED"),
    )
    result = strategy.start(
        grid, ArrayRecord({"w": Array(model.initial())}), num_rounds=config["num-server-rounds"]
    )
    metrics = {
        "train": {n: dict(m) for n, m in result.train_metrics_clientapp.items()},
        "evaluate": {n: dict(m) for n, m in result.evaluate_metrics_clientapp.items()},
    }
    model.write({name: array.numpy() for name, array in result.arrays.items()}, metrics)
