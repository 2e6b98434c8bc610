"""One library and one operation in a process of its own: it gets ready, waits for a line, and runs once."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from benchmarks.remote.model import LARGE, ONE, ROWS, make_model
from benchmarks.remote.peers import PEERS, Peer, Where

WARM = "warm"
MODEL = "model"


def run(peer: Peer, operation: str, name: str, one: str) -> Any:
    if operation == "open":
        return peer.open(name)
    if operation == "one":
        return peer.one(name, one)
    if operation == "slice":
        return peer.slice(name, LARGE, ROWS if name == MODEL else slice(10, 20))
    return peer.all(name)


def check(operation: str, found: Any, arrays: dict[str, Any]) -> bool:
    if operation == "open":
        return {key: tuple(shape) for key, (shape, _) in found.items()} == {
            key: values.shape for key, values in arrays.items()
        }
    if operation == "all":
        return sorted(found) == sorted(arrays) and all(
            np.array_equal(found[key], arrays[key]) for key in arrays
        )
    return bool(np.array_equal(found, arrays[ONE] if operation == "one" else arrays[LARGE][ROWS]))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    task = json.loads(sys.stdin.readline())
    try:
        peer = PEERS[task["peer"]](Where(**task["where"]))
    except ImportError as error:
        answer(missing=str(error.name))
        return
    arrays = make_model(task["layers"])
    if task["operation"] == "save":
        peer.save(make_model(0), WARM)
        peer.save(arrays, MODEL)
        answer(done=True)
        return
    # client, credentials and connections are made once in a process: that is not what is compared
    run(peer, task["operation"], WARM, "layer.0.attention.query")
    answer(ready=True)
    sys.stdin.readline()
    begin = time.perf_counter()
    found = run(peer, task["operation"], MODEL, ONE)
    seconds = time.perf_counter() - begin
    answer(seconds=seconds, right=check(task["operation"], found, arrays))


if __name__ == "__main__":
    main()
