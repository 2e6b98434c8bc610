"""The global random number generators, saved and restored."""

import json
import random

import numpy as np

from archive.interop.flower.randomness import random_state, restore_random_state
from archive.interop.statearrays import Arrays
from tests.optional import torch


def draw() -> list[float]:
    numpy = np.random.mtrand._rand
    return [
        *(random.random(), random.gauss(0, 1), float(numpy.normal()), float(numpy.random())),
        *(float(torch().rand(())), float(torch().randn(()))),
    ]


def test_all_three_go_on() -> None:
    draw()  # a gauss drawn in pairs is half used up
    arrays = Arrays()
    state = json.loads(json.dumps(random_state(arrays)))
    first = draw()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch().manual_seed(1)
    restore_random_state(state, arrays)
    assert draw() == first
