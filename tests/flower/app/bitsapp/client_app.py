"""The client of Flower's message-based API."""

import os

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from archive.interop.flower import persist_state
from bitsapp import model

app = ClientApp(mods=[persist_state(os.environ["BITSAPP_URL"])])


@app.train()
def train(message, context):
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    weights, metrics = model.train(weights, context, message.content["config"]["server-round"])
    partition = context.node_config["partition-id"]
    metrics = MetricRecord({"num-examples": 10 + partition, "partition": partition, **metrics})
    content = {"arrays": ArrayRecord({"w": Array(weights)}), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
def evaluate(message, context):
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    metrics = {"num-examples": 10, "partition": context.node_config["partition-id"]}
    metrics |= {"mean": float(weights.mean()), **model.known(context)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)
