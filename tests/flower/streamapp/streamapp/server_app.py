"""A server of more clients than nodes, which watches its own memory."""

import hashlib
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from archive.interop.flower import Resumable, Streaming

app = ServerApp()


class Many(FedAvg):
    """Sends a message for each client, to the nodes in turn."""

    def __init__(self, clients, **options):
        super().__init__(**options)
        self.clients = clients

    def configure_train(self, server_round, arrays, config, grid):
        while len(nodes := sorted(grid.get_node_ids())) < self.min_available_nodes:
            time.sleep(0.5)
        if not watch.is_alive():
            watch.start()
        messages = []
        for client in range(self.clients):
            record = ConfigRecord({"server-round": server_round, "client": client})
            content = RecordDict({"arrays": arrays, "config": record})
            node = nodes[client % len(nodes)]
            messages.append(Message(content, dst_node_id=node, message_type="train"))
        return messages


class Watch(threading.Thread):
    """Notes how high the anonymous memory of the process rises."""

    def __init__(self):
        super().__init__(daemon=True)
        self.before = self.highest = 0

    def run(self):
        self.before = rss_anon()
        while True:
            self.highest = max(self.highest, rss_anon())
            time.sleep(0.002)


def rss_anon():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


watch = Watch()


@app.main()
def main(grid, context):
    config = context.run_config
    shape = (config["layers"], config["megabytes"] * 250_000 // config["layers"])
    initial = ArrayRecord({f"layer{n}": Array(np.zeros(shape[1], "f4")) for n in range(shape[0])})
    strategy = Many(config["clients"], fraction_evaluate=0.0, min_available_nodes=2)
    if config["streaming"]:
        strategy = Streaming(strategy, os.environ["STREAMAPP_SCRATCH"])
        strategy = Resumable(strategy, os.environ["BITSAPP_URL"], experiment=config["experiment"])
    result = strategy.start(grid, initial, num_rounds=config["num-server-rounds"])
    rise = (watch.highest - watch.before) / 1e6
    digest = hashlib.sha256()
    for name, array in result.arrays.items():
        digest.update(name.encode() + array.numpy().tobytes())
    metrics = {number: dict(record) for number, record in result.train_metrics_clientapp.items()}
    out = Path(os.environ["BITSAPP_OUT"])
    made = out.with_suffix(".new")
    mean = float(np.mean([array.numpy().mean() for array in result.arrays.values()]))
    found = {"arrays": digest.hexdigest(), "mean": mean, "metrics": metrics, "rise": rise}
    made.write_text(json.dumps(found | {"before": watch.before / 1e6}))
    made.replace(out)
