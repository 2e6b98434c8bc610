"""A small model really trained for ``fedarchive demo``: digits, three clients, federated averaging.

numpy only, nothing downloaded. The clients' shares overlap little (each sees mostly its own digits), so
that averaging has something to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from archive.dtypes import NDArray

__all__ = ["CLIENTS", "LEARNING_RATE", "SEED", "Round", "train"]

Weights = dict[str, NDArray]

SEED = 2024
CLIENTS = 3
SAMPLES = 800
"""Glyphs of one client."""
HIDDEN = 32
BATCH = 32
PASSES = 4
"""Passes of a client over its glyphs in one round."""
LEARNING_RATE = 0.2
NOISE = 0.25
"""Standard deviation added to every pixel, which is 0 or 1."""

# Rows of 5 pixels from top to bottom, digits 0 to 9 side by side.
_FONT = """\
.###. ..#.. .###. ##### ...#. ##### ..##. ##### .###. .###.
#...# .##.. #...# ...#. ..##. #.... .#... ....# #...# #...#
#..## ..#.. ....# ..#.. .#.#. ####. #.... ...#. #...# #...#
#.#.# ..#.. ...#. ...#. #..#. ....# ####. ..#.. .###. .####
##..# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....#
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ...#.
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .##..
"""
SIDE = 8


@dataclass(frozen=True, slots=True)
class Round:
    """The global model after one round."""

    number: int
    """From 1."""
    accuracy: float
    """Share of test glyphs that are recognised."""
    loss: float
    """Mean cross-entropy over the test glyphs."""
    weights: Weights
    """Averaged weights by name, float32."""
    steps: int
    """Gradient steps taken so far, by all clients."""


def train(rounds: int, seed: int = SEED) -> Iterator[Round]:
    """Train, yielding the global model after every round.

    Parameters
    ----------
    rounds : int
    seed : int
        Equal seeds give equal models on one machine; elsewhere sums may round differently.

    Examples
    --------
    >>> [after] = train(1)
    >>> after.weights["fc1.weight"].shape, after.weights["fc1.weight"].dtype
    ((32, 64), dtype('float32'))
    """
    rng = np.random.default_rng(seed)
    shares = [_glyphs(rng, SAMPLES, _preference(client)) for client in range(CLIENTS)]
    test = _glyphs(rng, 1000, np.full(10, 0.1))
    weights = _fresh_weights(rng)
    steps = 0
    for number in range(1, rounds + 1):
        trained = [_train_client(rng, weights, *share) for share in shares]
        # clients hold equally many glyphs, so the weighted mean of FedAvg is the plain one
        weights = {
            name: np.stack([client[name] for client in trained]).mean(axis=0, dtype=np.float32)
            for name in weights
        }
        steps += CLIENTS * PASSES * (SAMPLES // BATCH)
        yield Round(number, *_evaluate(weights, *test), weights, steps)


def _preference(client: int) -> NDArray:
    """Return how often a client sees each digit: its own seven times as often as the others'."""
    chances = np.where(np.arange(10) % CLIENTS == client, 7.0, 1.0)
    return np.asarray(chances / chances.sum())


def _glyphs(rng: np.random.Generator, count: int, chances: NDArray) -> tuple[NDArray, NDArray]:
    """Return glyphs, shape (count, 64), at shifting places under noise, and which digits they are."""
    rows = [line.split(" ") for line in _FONT.splitlines()]
    font = np.array(
        [[[pixel == "#" for pixel in row[digit]] for row in rows] for digit in range(10)], np.float32
    )
    digits = rng.choice(10, count, p=chances)
    images = np.zeros((count, SIDE, SIDE), np.float32)
    height, width = font.shape[1:]
    downs = rng.integers(0, SIDE - height + 1, count)
    rights = rng.integers(0, SIDE - width + 1, count)
    for image, digit, down, right in zip(images, digits, downs, rights, strict=True):
        image[down : down + height, right : right + width] = font[digit]
    images += rng.normal(0, NOISE, images.shape).astype(np.float32)
    return images.reshape(count, -1), digits


def _fresh_weights(rng: np.random.Generator) -> Weights:
    sizes = {"fc1": (HIDDEN, SIDE * SIDE), "fc2": (10, HIDDEN)}
    weights: Weights = {}
    for name, (outputs, inputs) in sizes.items():
        scale = np.sqrt(2 / inputs)
        weights[f"{name}.weight"] = (rng.normal(0, scale, (outputs, inputs))).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(outputs, np.float32)
    return weights


def _forward(weights: Weights, images: NDArray) -> tuple[NDArray, NDArray]:
    """Return activations of the hidden layer and class probabilities."""
    hidden = np.maximum(images @ weights["fc1.weight"].T + weights["fc1.bias"], 0)
    logits = hidden @ weights["fc2.weight"].T + weights["fc2.bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return hidden, odds / odds.sum(axis=1, keepdims=True)


def _train_client(rng: np.random.Generator, weights: Weights, images: NDArray, digits: NDArray) -> Weights:
    """Return the weights after a client's passes over its glyphs, by plain gradient descent."""
    weights = {name: array.copy() for name, array in weights.items()}
    batches = [batch for _ in range(PASSES) for batch in rng.permutation(SAMPLES).reshape(-1, BATCH)]
    for batch in batches:
        inputs = images[batch]
        hidden, error = _forward(weights, inputs)
        error[np.arange(BATCH), digits[batch]] -= 1
        error /= BATCH
        back = (error @ weights["fc2.weight"]) * (hidden > 0)
        slopes = {
            "fc1.weight": back.T @ inputs,
            "fc1.bias": back.sum(axis=0),
            "fc2.weight": error.T @ hidden,
            "fc2.bias": error.sum(axis=0),
        }
        for name, slope in slopes.items():
            weights[name] -= np.float32(LEARNING_RATE) * slope
    return weights


def _evaluate(weights: Weights, images: NDArray, digits: NDArray) -> tuple[float, float]:
    _, chances = _forward(weights, images)
    accuracy = float((chances.argmax(axis=1) == digits).mean())
    loss = float(-np.log(chances[np.arange(len(digits)), digits] + 1e-12).mean())
    return accuracy, loss
