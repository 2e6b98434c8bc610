"""A client that keeps momentum and its history in Context.state."""

import os
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from archive.interop.flower import persist_state

app = ClientApp(mods=[persist_state(os.environ["BITSAPP_URL"])])


@app.train()
def train(message, context):
    partition, state = context.node_config["partition-id"], context.state
    history = state.setdefault("history", MetricRecord({"loss": [], "rounds": []}))
    step = len(history["loss"])
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    target = np.random.default_rng(100 + partition).normal(size=weights.shape).astype("f4")
    velocity = state["momentum"]["v"].numpy() if "momentum" in state else np.zeros_like(weights)
    noise = np.random.default_rng([partition, step]).normal(size=weights.shape).astype("f4")
    for _ in range(3):
        velocity = np.float32(0.9) * velocity + (weights - target + np.float32(0.01) * noise)
        weights = weights - np.float32(0.05) * velocity
    loss = float(np.square(weights - target, dtype="f8").sum())
    state["momentum"] = ArrayRecord({"v": Array(velocity)})
    history["loss"].append(loss)
    history["rounds"].append(message.content["config"]["server-round"])
    time.sleep(float(os.environ.get("BITSAPP_SECONDS", "0")))
    metrics = MetricRecord({"num-examples": 10 + partition, "partition": partition, "loss": loss})
    content = {"arrays": ArrayRecord({"w": Array(weights)}), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
def evaluate(message, context):
    partition = context.node_config["partition-id"]
    (weights,) = message.content["arrays"].to_numpy_ndarrays()
    metrics = MetricRecord({"num-examples": 10, "partition": partition, "mean": float(weights.mean())})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
