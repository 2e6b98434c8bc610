"""One job with a cache, in a process of its own: ``python -m tests.storage.cachechild JOB STORE CACHE ...``.

The last line of its output is a JSON object of figures.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive import system
from tests.storage.folderstore import FolderStore, reach


class _Patch:
    """What `reach` needs of pytest's monkeypatch, for the life of the process."""

    def setattr(self, name: str, value: Any) -> None:
        module, _, attribute = name.rpartition(".")
        __import__(module)
        setattr(sys.modules[module], attribute, value)


def rss(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    raise AssertionError(field)


def watched(action: Any) -> dict[str, int]:
    """Return the most anonymous memory that an action took beyond what there was."""
    before, peak, done = rss("RssAnon:"), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, rss("RssAnon:"))

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    try:
        action()
    finally:
        seconds = time.perf_counter() - started
        done.set()
        thread.join()
    return {"extra": max(peak - before, 0), "milliseconds": int(seconds * 1000)}


def read(store: FolderStore, cache: str) -> dict[str, Any]:
    """Read every array, and tell whether each is as `test_cache` made it."""
    with archive.open("folder://m.h5", cache=cache) as handle:
        right = all(bool((handle[key].numpy() == handle[key].numpy().flat[0]).all()) for key in handle)
        access = handle.info.access
    return {"right": right, "access": access}


def killed(store: FolderStore, cache: str, at: str) -> dict[str, Any]:
    """Read, and be killed by the k-th write into the cache, when half of it is written."""
    real, count = system.pwrite, 0

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        nonlocal count
        count += 1
        if count == int(at):
            real(fd, data[: len(data) // 2], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(fd, data, offset)

    system.pwrite = pwrite
    return read(store, cache)


def touch(store: FolderStore, cache: str) -> dict[str, Any]:
    """Touch every page of every array through the map, kept and let go of in turn."""

    def action() -> None:
        with archive.open("folder://m.h5", cache=cache) as handle:
            assert handle.info.access == "cache"
            for key in handle:
                assert np.count_nonzero(handle[key].numpy().view(np.uint8).reshape(-1)[::4096]) >= 0

    return watched(action)


def drain(store: FolderStore, cache: str) -> dict[str, Any]:
    def action() -> None:
        with archive.open("folder://m.h5", cache=cache) as handle:
            for _, array in handle.drain():
                array.numpy().max()

    return watched(action)


def verify(store: FolderStore, cache: str) -> dict[str, Any]:
    def action() -> None:
        assert archive.verify("folder://m.h5", cache=cache)

    return watched(action)


def main(job: str, root: str, cache: str, *rest: str) -> None:
    store = FolderStore(Path(root))
    reach(store, _Patch())
    store.delay = float(os.environ.get("STORE_DELAY", "0"))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if os.environ.get("STORE_WAIT"):
        sys.stdin.readline()
    jobs: dict[str, Callable[..., dict[str, Any]]]
    jobs = {"read": read, "killed": killed, "touch": touch, "drain": drain, "verify": verify}
    told = jobs[job](store, cache, *rest)
    figures = {"requests": store.counted(), "bytes": store.nbytes(), "most": store.most_at_once}
    sys.stdout.write(json.dumps({**told, **figures}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
