"""A client that keeps its momentum, and what it has trained so far, in Context.state."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from archive.interop.flower import persist_state  # fedarchive
from digits.task import RUNS, evaluate, load_data, train

# fedarchive: Context.state survives crashes; first of the mods, so that the others do not see it at work
app = ClientApp(mods=[persist_state(RUNS)])


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Train on this client's partition."""
    partition, state = context.node_config["partition-id"], context.state
    model = {name: array.numpy().copy() for name, array in message.content["arrays"].items()}
    if "progress" not in state:
        state["progress"] = MetricRecord({"rounds": 0})
        state["momentum"] = ArrayRecord({name: Array(np.zeros_like(layer)) for name, layer in model.items()})
    momentum = {name: array.numpy() for name, array in state["momentum"].items()}
    rounds = state["progress"]["rounds"]

    images, labels = load_data(partition)
    config = message.content["config"]
    random = np.random.default_rng([partition, rounds])  # seeded: a resumed run draws the same batches
    train(model, momentum, images, labels, config["lr"], config["epochs"], random)

    state["momentum"] = ArrayRecord({name: Array(layer) for name, layer in momentum.items()})
    state["progress"]["rounds"] = rounds + 1
    metrics = MetricRecord({"num-examples": len(labels), "rounds-trained": rounds + 1})
    arrays = ArrayRecord({name: Array(layer) for name, layer in model.items()})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@app.evaluate()
def evaluate_round(message: Message, context: Context) -> Message:
    """Evaluate the global model on this client's partition."""
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    images, labels = load_data(context.node_config["partition-id"])
    loss, accuracy = evaluate(model, images, labels)
    metrics = MetricRecord({"num-examples": len(labels), "loss": loss, "accuracy": accuracy})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
