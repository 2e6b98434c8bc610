"""A client whose reply depends on the model, the round and its number alone."""

import os
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message, context):
    config = message.content["config"]
    number, client = config["server-round"], config["client"]
    draw = np.random.default_rng([number, client])
    arrays = ArrayRecord()
    for name, array in message.content["arrays"].items():
        weights = array.numpy()
        arrays[name] = Array((weights + draw.random(weights.shape, "f4")).astype("f4"))
    metrics = MetricRecord({"num-examples": 10 + client, "loss": float(draw.random())})
    Path(os.environ["STREAMAPP_DONE"], f"{number}-{client}").touch()
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
