"""Runs killed, resumed and compared with uninterrupted ones; each is a process forked from this one."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from archive.checkpoints.lineage import Version
from archive.interop.flower.contexts import NodeContexts
from archive.interop.flower.nodestate import REFERENCE, message_place
from archive.interop.flower.records import from_flower
from archive.storage.url import Location
from tests.interop.flower.live.grid import Trap

ROUNDS, KILLED_IN = 5, 3

Run = Callable[..., dict[str, Any]]
"""`run` of `legacyruns` or `messageruns`."""


def assert_resumes_bit_for_bit(run: Run, name: str, folder: Path) -> None:
    """Compare a plain run with a resumable one, one killed and resumed twice, and one that is complete."""
    url = str(folder / "checkpoints")

    def work(url: str, seed: int, run_id: int, trap: Trap | None = None) -> Callable[[], Any]:
        def start() -> Any:
            seed_all(seed)
            result = run(name, url, ROUNDS, run_id, trap)
            states = _states(result.pop("contexts"), url)
            return {**result, "states": states}

        return start

    _, plain = forked(work("", 1, 1), folder)
    _, whole = forked(work(str(folder / "whole"), 1, 1), folder)
    assert_same(plain, whole, "uninterrupted, plain and resumable")
    status, _ = forked(work(url, 1, 1, _killer(KILLED_IN)), folder)
    assert os.WTERMSIG(status) == signal.SIGKILL, f"not killed: {status}"
    newest = max(path.name for path in (folder / "checkpoints/default/rounds").iterdir())
    assert newest == f"{KILLED_IN - 1:08d}.h5"
    # a new process has other seeds and node ids
    status, _ = forked(work(url, 99, 2, _killer(KILLED_IN + 1)), folder)
    assert os.WTERMSIG(status) == signal.SIGKILL, f"not killed again: {status}"
    _, resumed = forked(work(url, 98, 3), folder)
    assert_same(plain, resumed, "resumed twice")
    _, again = forked(work(url, 97, 4), folder)
    for result in (again, plain):
        del result["states"]  # no client was asked for anything
    assert_same(plain, again, "nothing left to do")


def forked(work: Callable[[], Any], folder: Path) -> tuple[int, Any]:
    """Run work in a process of its own; return its wait status and what it returned."""
    out = folder / f"result-{os.urandom(4).hex()}"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            out.write_bytes(pickle.dumps(work()))  # between this test and itself
            code = 0
        except BaseException:  # noqa: BLE001 the parent raises it
            out.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == 1:
        raise AssertionError(out.read_text()[-6000:])
    return status, pickle.loads(out.read_bytes()) if status == 0 else None


def seed_all(seed: int) -> None:
    """Seed the global generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 the global generator is restored
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _killer(rounds: int) -> Trap:
    """Return a trap that kills this process when the second client of a round is about to train."""
    seen: list[int] = []

    def trap(partition: int, message: Any) -> None:
        if message_place(message, None) == (rounds, 1):
            seen.append(partition)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    return trap


def _states(contexts: dict[int, Any], url: str) -> dict[int, Any]:
    """Return every client's state: the one that the grid holds, or the one that its reference names."""
    found = {}
    for partition, context in enumerate(contexts.values()):
        state = from_flower(context.state)
        if url and REFERENCE in state:
            assert list(state) == [REFERENCE], list(state)
            reference = state[REFERENCE]
            version = Version(*(reference[name] for name in Version._fields))
            state = (
                NodeContexts(Location(url), reference["experiment"]).open(reference["node"], version).state
            )
        found[partition] = {
            name: {key: getattr(value, "data", value) for key, value in record.items()}
            for name, record in state.items()
        }
    return found


def assert_same(expected: Any, found: Any, what: str, path: str = "") -> None:
    """Compare results, key by key and bit by bit."""
    if isinstance(expected, dict):
        assert list(expected) == list(found), f"{what}: {path}: {list(expected)} != {list(found)}"
        for key in expected:
            assert_same(expected[key], found[key], what, f"{path}/{key}")
    else:
        equal = expected == found or repr(expected) == repr(found)
        assert equal, f"{what}: {path}: {expected!r:.300} != {found!r:.300}"
