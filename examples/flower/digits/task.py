"""The task: ten noisy patterns of 8 x 8 pixels, told apart by a network with one hidden layer."""

import os
from pathlib import Path

import numpy as np

# fedarchive: the folder of the runs. It is absolute, as Flower starts an app in the folder of the SuperLink
# or SuperNode, not in yours. A URL such as s3://bucket/runs serves machines that share no disk.
RUNS = os.environ.get("DIGITS_RUNS") or str(Path.home() / "digits-runs")

PIXELS, HIDDEN, CLASSES = 64, 32, 10


def load_data(partition, examples=200):
    """Return the images and labels of a partition; any partition is made of the same ten patterns."""
    patterns = np.random.default_rng(0).normal(size=(CLASSES, PIXELS))
    random = np.random.default_rng([1, partition])
    labels = random.integers(0, CLASSES, size=examples)
    images = patterns[labels] + random.normal(scale=2.0, size=(examples, PIXELS))
    return images.astype("f4"), labels


def make_model():
    """Return the layers of a new model by name."""
    random = np.random.default_rng(2)
    return {
        "hidden.weight": random.normal(scale=0.1, size=(PIXELS, HIDDEN)).astype("f4"),
        "hidden.bias": np.zeros(HIDDEN, "f4"),
        "out.weight": random.normal(scale=0.1, size=(HIDDEN, CLASSES)).astype("f4"),
        "out.bias": np.zeros(CLASSES, "f4"),
    }


def predict(model, images):
    """Return the hidden activations and the probability of each class."""
    hidden = np.maximum(images @ model["hidden.weight"] + model["hidden.bias"], 0)
    scores = hidden @ model["out.weight"] + model["out.bias"]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, exponents / exponents.sum(axis=1, keepdims=True)


def gradients(model, images, labels):
    """Return the gradient of the mean loss for each layer."""
    hidden, probabilities = predict(model, images)
    wrong = probabilities.copy()
    wrong[np.arange(len(labels)), labels] -= 1
    wrong /= len(labels)
    back = (wrong @ model["out.weight"].T) * (hidden > 0)
    return {
        "hidden.weight": images.T @ back,
        "hidden.bias": back.sum(axis=0),
        "out.weight": hidden.T @ wrong,
        "out.bias": wrong.sum(axis=0),
    }


def train(model, momentum, images, labels, learning_rate, epochs, random):
    """Train in place, with momentum, on batches of 20 in an order that ``random`` draws."""
    for _ in range(epochs):
        for batch in np.split(random.permutation(len(labels)), range(20, len(labels), 20)):
            for name, gradient in gradients(model, images[batch], labels[batch]).items():
                momentum[name] = np.float32(0.9) * momentum[name] + gradient
                model[name] = (model[name] - np.float32(learning_rate) * momentum[name]).astype("f4")


def evaluate(model, images, labels):
    """Return the mean loss and the accuracy."""
    _, probabilities = predict(model, images)
    right = probabilities[np.arange(len(labels)), labels]
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return float(-np.log(np.maximum(right, 1e-12)).mean()), accuracy
