"""The figures of the remote path: requests, bytes, memory, and what 200 failures leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
import archive.tools
from archive import tuning
from archive.errors import StorageError
from tests.storage.folderstore import FolderStore, reach

MiB = 1 << 20
URL, PATH = "folder://m/model.h5", "m/model.h5"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    return store


def model(folder: Path, nbytes: int = 1_100_000_000, each: int = 24_000_000) -> dict[str, Any]:
    """Arrays in a sparse file, none of them in memory."""
    with (folder / "model.bin").open("wb") as file:
        file.truncate(nbytes)
    whole = np.memmap(folder / "model.bin", np.uint8, "r")
    return {f"{at // each}": whole[at : at + each].view("f4") for at in range(0, nbytes, each)}


@pytest.mark.slow
def test_one_array_of_1_gb(store: FolderStore, tmp_path: Path) -> None:
    archive.save(model(tmp_path, 1_000_000_000, 1_000_000_000), URL)
    with archive.open(URL) as handle:
        array = handle["0"]
        store.clear()
        assert array[100_000_000:100_000_010].shape == (10,)
        assert store.asked == [("get_range", PATH, MiB)]
        store.clear()
        assert array[3_000_000:6_000_000].shape == (3_000_000,)
        first, last = 12_000_000 // MiB, -(-24_000_000 // MiB)
        assert store.asked == [("get_range", PATH, (last - first) * MiB)]
        store.clear()
        array.numpy()
        assert store.nbytes() == 1_000_000_000
        assert store.counted() == -(-1_000_000_000 // (16 * MiB))


@pytest.mark.slow
def test_load_1_gb(store: FolderStore, tmp_path: Path) -> None:
    archive.save(model(tmp_path), URL)
    size = store.file(PATH).stat().st_size
    store.clear()
    archive.load(URL)
    assert store.counted() <= size // (16 * MiB) + 2
    assert store.nbytes() <= 1.01 * size
    assert store.most_at_once <= 8


CHILD = """
import json, pathlib, sys, threading, time
import numpy as np, pytest
import archive
import archive.tools
from tests.acceptance.test_remote_figures import URL, anonymous, measured, model
from tests.storage.folderstore import FolderStore, reach
folder = pathlib.Path({folder!r})
store = FolderStore(folder / "store")
reach(store, pytest.MonkeyPatch())
arrays = model(folder)
jobs = {{
    "save": lambda: archive.save(arrays, URL),
    "stream": lambda: archive.save(iter(list(arrays.items())), URL),
    "drain": lambda: [array.numpy()[::1000].sum() for _, array in archive.open(URL).drain()],
}}
print(json.dumps(measured(jobs[{job!r}]) | {{"uploads": store.uploads()}}))
"""


def anonymous() -> int:
    """Return how much of this process's memory is its own, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


def measured(job: Callable[[], object]) -> dict[str, int]:
    before, most, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    job()
    done.set()
    thread.join()
    return {"before": before, "most": most, "added": most - before}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "added", "most"),
    [
        ("save", 128_000_000, 1 << 40),
        ("stream", 128_000_000, 1 << 40),
        ("drain", 1 << 40, 192_000_000 + 24_000_000),
    ],
)
def test_memory(store: FolderStore, tmp_path: Path, job: str, added: int, most: int) -> None:
    if job == "drain":
        archive.save(model(tmp_path), URL)
    code = CHILD.format(folder=str(tmp_path), job=job)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.PIPE)
    told = json.loads(done.stdout)
    assert told["added"] < added, told
    assert told["most"] < most, told
    if os.environ.get("FIGURES"):
        sys.stderr.write(f"\n{job}: {told}\n")
    assert told["uploads"] == []


def arrays() -> dict[str, Any]:
    return {f"{n}": np.full(MiB // 8 * 3 // 4, n, "f8") for n in range(16)}


def pairs() -> Iterator[tuple[str, Any]]:
    yield from list(arrays().items())


def save_by_hand(url: str) -> None:
    with archive.create(url) as writer:
        for key, array in arrays().items():
            writer.add("model", key, array)


WAYS: dict[str, Callable[[Path], object]] = {
    "planned": lambda folder: archive.save(arrays(), URL),
    "streamed": lambda folder: archive.save(pairs(), URL),
    "created": lambda folder: save_by_hand(URL),
    "consumed": lambda folder: archive.save(arrays(), URL, keep_input=False, spool=folder),
    "lost": lambda folder: archive.save(arrays(), URL, keep_input=False, spool=False),
    "copied": lambda folder: archive.tools.copy(folder / "local.h5", URL),
    "averaged": lambda folder: archive.mean([folder / "local.h5"], out=URL),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_failures_leave_nothing_behind(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """At every request there is, a failure and an interrupt: the old object, no upload, and no thread.

    200 cases and more, in all ways together.
    """
    monkeypatch.setattr(tuning, "PART_BYTES", MiB)
    store.min_part_bytes = MiB
    archive.save(arrays(), tmp_path / "local.h5")
    WAYS[way](tmp_path)
    requests = store.counted()
    assert requests >= 14
    old = b"what was there before"
    for error in (StorageError("refused", path=URL, errno=5), KeyboardInterrupt()):
        for number in range(requests):
            store.clear()
            store.file(PATH).write_bytes(old)
            store.fail = {number: error}
            with pytest.raises(type(error)):
                WAYS[way](tmp_path)
            store.fail = {}
            assert store.uploads() == []
            assert store.file(PATH).read_bytes() == old
            assert not [t for t in threading.enumerate() if t.name.startswith("fedarchive-upload")]
            left = [path for path in tmp_path.iterdir() if path.suffix == ".partial"]
            assert len(left) == (way == "consumed")
            for path in left:
                assert len(archive.recover(path)["model"]) == 16
                path.unlink()


@pytest.mark.slow
def test_listing_figures(store: FolderStore) -> None:
    for count, most in ((300, 1), (20_000, 2)):
        archive.save({f"block.{n}.weight": np.full((4, 8), n, "f4") for n in range(count)}, URL)
        store.clear()
        with archive.open(URL) as handle:
            assert len(list(handle)) == count
        assert store.counted() == most
        assert most > 1 or store.nbytes() <= tuning.TAIL_BYTES
