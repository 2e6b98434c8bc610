"""FedAdam that takes replies by partition: a simulation hands them over as they come."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAdam

from archive.interop.flower import Resumable

app = ServerApp()


class Ordered(FedAdam):
    """FedAdam over replies in the order of the partitions."""

    def aggregate_train(self, server_round, replies):
        return super().aggregate_train(server_round, by_partition(replies))

    def aggregate_evaluate(self, server_round, replies):
        return super().aggregate_evaluate(server_round, by_partition(replies))


def by_partition(replies):
    found = list(replies)
    if os.environ.get("BITSAPP_UNORDERED"):
        return found
    return sorted(found, key=lambda reply: reply.content["metrics"]["partition"])


@app.main()
def main(grid, context):
    nodes = int(os.environ["BITSAPP_NODES"])
    strategy = Resumable(
        Ordered(min_train_nodes=nodes, min_available_nodes=nodes, min_evaluate_nodes=nodes),
        os.environ["BITSAPP_URL"],
    )
    weights = np.random.default_rng(7).normal(size=(64, 33)).astype("f4")
    result = strategy.start(
        grid, ArrayRecord({"w": Array(weights)}), num_rounds=context.run_config["num-server-rounds"]
    )
    Path(os.environ["BITSAPP_OUT"]).write_text(
        json.dumps(
            {
                "arrays": hashlib.sha256(result.arrays["w"].data).hexdigest(),
                "first": result.arrays["w"].numpy().ravel()[:4].tolist(),
                "train": {n: dict(m) for n, m in result.train_metrics_clientapp.items()},
                "evaluate": {n: dict(m) for n, m in result.evaluate_metrics_clientapp.items()},
            }
        )
    )
