"""Runs killed, resumed and compared with uninterrupted ones: run by test_flower.py where flwr is.

flwr is imported once; every run is a process of its own, forked from there. Prints one JSON object: the
versions, and of every run "ok", "skip: why" or what went wrong.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS, KILLED_IN = 5, 3


def forked(work: Callable[[], Any], folder: Path) -> tuple[int, Any]:
    """Run work in a process of its own; return its wait status and what it returned."""
    out = folder / f"result-{os.urandom(4).hex()}"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            out.write_bytes(pickle.dumps(work()))  # between this test and itself
            code = 0
        except BaseException:  # noqa: BLE001
            out.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 1:
        raise AssertionError(out.read_text()[-6000:])
    return status, pickle.loads(out.read_bytes()) if status == 0 else None


def seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def killer(rounds: int) -> Callable[[int, Any], None]:
    """Return a trap that kills this process when the second client of a round is about to train."""
    from archive.interop.flower.nodestate import message_version

    seen: list[int] = []

    def trap(partition: int, message: Any) -> None:
        version = message_version(message)
        if version is not None and version.round == rounds and version.phase == 1:
            seen.append(partition)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    return trap


def states(contexts: dict[int, Any], url: str) -> dict[int, Any]:
    """Return every client's state: what the grid holds, or what a reference there leads to."""
    from archive.interop.flower.contexts import NodeContexts, Version
    from archive.interop.flower.nodestate import REFERENCE
    from archive.interop.flower.records import from_flower

    found = {}
    for partition, context in enumerate(contexts.values()):
        state = from_flower(context.state)
        if url and REFERENCE in state:
            assert list(state) == [REFERENCE], list(state)
            reference = state[REFERENCE]
            store = NodeContexts(url, "default", keep_last=4, storage_options=None)
            state = store.open(reference["node"], Version(reference["round"], reference["phase"])).state
        found[partition] = {
            name: {key: getattr(value, "data", value) for key, value in record.items()}
            for name, record in state.items()
        }
    return found


def compare(runs: Any, name: str, folder: Path) -> None:
    """Run uninterrupted without us, uninterrupted with us, killed and resumed, and what is left to do."""
    url = str(folder / "checkpoints")

    def work(url: str, seed: int, run_id: int, trap: Any = None) -> Callable[[], Any]:
        def run() -> Any:
            seeded(seed)
            result = runs.run(name, url, ROUNDS, run_id, trap)
            found = states(result.pop("contexts"), url)
            return {**result, "states": found}

        return run

    _, plain = forked(work("", 1, 1), folder)
    _, whole = forked(work(str(folder / "whole"), 1, 1), folder)
    same(plain, whole, "uninterrupted, with and without us")
    status, _ = forked(work(url, 1, 1, killer(KILLED_IN)), folder)
    assert os.WTERMSIG(status) == signal.SIGKILL, f"not killed: {status}"
    kept = sorted(path.name for path in (folder / "checkpoints/default/rounds").iterdir())
    assert kept[-1] == f"{KILLED_IN - 1:08d}.h5", kept
    # other seeds and node ids, as in a new process
    status, _ = forked(work(url, 99, 2, killer(KILLED_IN + 1)), folder)
    assert os.WTERMSIG(status) == signal.SIGKILL, f"not killed again: {status}"
    _, resumed = forked(work(url, 98, 3), folder)
    same(plain, resumed, "resumed twice")
    _, again = forked(work(url, 97, 4), folder)
    for result in (again, plain):
        del result["states"]  # nobody was asked for anything
    same(plain, again, "nothing left to do")


def same(expected: Any, found: Any, what: str, path: str = "") -> None:
    if isinstance(expected, dict):
        assert list(expected) == list(found), f"{what}: {path}: {list(expected)} != {list(found)}"
        for key in expected:
            same(expected[key], found[key], what, f"{path}/{key}")
    else:
        equal = expected == found or repr(expected) == repr(found)
        assert equal, f"{what}: {path}: {expected!r:.300} != {found!r:.300}"


def main(chosen: list[str]) -> None:
    warnings.simplefilter("ignore")
    from importlib.metadata import version

    import flwr

    logging.getLogger("flwr").setLevel(logging.ERROR)
    from tests.interop.flower import legacyruns

    apis = {"legacy": legacyruns}
    try:
        import flwr.serverapp.strategy  # noqa: F401

        from tests.interop.flower import messageruns

        apis["message"] = messageruns
    except ModuleNotFoundError:
        pass
    results = {}
    for api, runs in apis.items():
        for name in runs.strategies():
            if chosen and f"{api}: {name}" not in chosen:
                continue
            with tempfile.TemporaryDirectory() as folder:
                try:
                    compare(runs, name, Path(folder))
                    results[f"{api}: {name}"] = "ok"
                except Exception:  # noqa: BLE001 every run is made and told of
                    results[f"{api}: {name}"] = traceback.format_exc()
    versions = {"flwr": version("flwr"), "numpy": np.__version__}
    sys.stdout.write(json.dumps({"versions": versions, "results": results}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
