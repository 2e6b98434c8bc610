"""The figures of the remote path: requests, bytes, memory, and what 200 failures leave behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
import archive.tools
from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import StorageError
from archive.format.segments import segment_bytes_of
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET, S3Server
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


def small(count: int) -> dict[str, NDArray]:
    return {f"block.{n}.weight": np.full((4, 8), n, "f4") for n in range(count)}


@pytest.mark.parametrize(("count", "requests"), [(20, 1), (289, 1), (20_000, 2)])
def test_what_opening_moves(store: FolderStore, count: int, requests: int) -> None:
    archive.save(small(count), URL, metrics={"loss": 0.5})
    with archive.open(store.file(PATH)) as handle:
        footer = handle._reader.footer
        assert footer is not None
    store.clear()
    with archive.open(URL) as handle:
        assert len(list(handle)) == count
        assert handle.records["metrics"]["loss"] == 0.5
    assert store.counted() == requests
    assert store.nbytes() <= tuning.TAIL_BYTES + (footer.index_bytes if requests > 1 else 0)


@pytest.mark.slow
def test_what_a_table_of_500_archives_moves(store: FolderStore) -> None:
    archive.save(small(289), URL, metrics={"loss": 0.5, "accuracy": 0.25}, configs={"lr": 0.1})
    urls = [f"folder://m/{number:03}.h5" for number in range(500)]
    for url in urls:
        shutil.copy(store.file(PATH), store.file(url.removeprefix("folder://")))
    store.clear()
    found = archive.table(urls)
    assert found["loss"].tolist() == [0.5] * 500
    assert np.isnan(found["arrays"]).all(), "their number would take a request more"
    assert store.counted() == 500
    assert store.nbytes() <= 500 * 20_000


def test_a_stack_takes_two_requests_a_client(store: FolderStore) -> None:
    """To open it, and for the part of its array: the array of 4 MiB is not fetched."""
    run = archive.CheckpointStore("folder://m/run")
    for client in range(6):
        run.save({"w": np.zeros(1 << 20, "f4"), "v": np.ones(3)}, 1, client=str(client))
    run.save({}, 1)
    stack = run.stack("w", round=1)
    assert stack.shape == (6, 1 << 20)
    store.clear()
    assert stack[:, :10].shape == (6, 10)
    assert store.counted() == 12
    assert store.nbytes() < 6 * (1 << 20)
    store.clear()
    _ = stack[3, 5]
    assert store.counted() == 2


def test_a_table_says_how_many_arrays_small_archives_have(store: FolderStore) -> None:
    archive.save(small(100), URL, metrics={"loss": 0.5})
    store.clear()
    assert archive.table([URL])["arrays"].tolist() == [100]
    assert store.counted() == 1
    assert store.nbytes() <= tuning.VALUES_TAIL_BYTES


ROWS, COLUMNS = 23_776, 736
"""An embedding of 70 MB."""


def embedding() -> NDArray:
    return np.arange(ROWS * COLUMNS, dtype="f4").reshape(ROWS, COLUMNS)


def segments(handle: archive.Archive) -> tuple[int, int, int]:
    """Return where the array begins, its bytes, and those of a segment."""
    found = handle["w"].payload
    assert isinstance(found, StoredPayload)
    _, offset, nbytes = found.where
    return offset, nbytes, segment_bytes_of(found._reader.index, found._row)


def whole_rows(size: int) -> list[int]:
    """Return the rows of the embedding that lie in one segment each."""
    row = COLUMNS * 4
    return [n for n in range(ROWS) if n * row // size == ((n + 1) * row - 1) // size]


def test_what_slices_move(store: FolderStore) -> None:
    """Rows that straddle two segments are the only ones that move two."""
    whole = embedding()
    archive.save({"w": whole}, URL)
    with archive.open(URL) as handle:
        _, nbytes, size = segments(handle)
        inner = whole_rows(size)
    straddling = next(n for n in range(ROWS) if n not in inner[: n + 1])
    near, far = inner[0], inner[-1]
    last = nbytes - (far * COLUMNS * 4 // size) * size
    cases: list[tuple[Any, int, int]] = [
        (near, 1, size),
        (straddling, 1, 2 * size),
        ([near, inner[len(inner) // 2], far], 3, 2 * size + min(size, last)),
        (np.s_[far : far - 9000 : -8999], 2, size + min(size, last)),
        (np.s_[:, :8], 8, nbytes),
        (np.s_[:, [5]], 8, nbytes),
        (np.s_[::2], 8, nbytes),
    ]
    for index, requests, most in cases:
        with archive.open(URL) as handle:
            store.clear()
            found = handle["w"][index]
            assert np.array_equal(found, whole[index])
            assert store.counted() <= requests, index
            assert store.nbytes() <= most, index


def test_64_rows_one_by_one(store: FolderStore) -> None:
    whole = embedding()
    archive.save({"w": whole}, URL)
    with archive.open(URL) as handle:
        _, nbytes, size = segments(handle)
        for rows in (range(64), range(9000, 9000 + 64 * 3, 3)):
            store.clear()
            for row in rows:
                assert np.array_equal(handle["w"][row], whole[row])
            first, last = rows[0] * COLUMNS * 4 // size, ((rows[-1] + 1) * COLUMNS * 4 - 1) // size
            assert store.nbytes() <= (last - first + 1) * size
            assert store.counted() <= last - first + 1
    far = np.random.default_rng(1).permutation(ROWS)[:64]
    with archive.open(URL) as handle:  # as many segments as it keeps, in any order
        far = far[far * COLUMNS * 4 // size < min(15, nbytes // size)] if size > MiB else far
        store.clear()
        for row in far.tolist():
            assert np.array_equal(handle["w"][row], whole[row])
        bytes_of = np.add.outer(far * COLUMNS * 4, [0, COLUMNS * 4 - 1])
        assert store.nbytes() <= len(np.unique(bytes_of // size)) * size


@pytest.mark.slow
def test_what_slices_move_over_s3(server: S3Server, tmp_path: Path) -> None:
    """The ranges that a real server was asked for: whole segments, and none twice."""
    whole = embedding()
    archive.save({"w": whole}, tmp_path / "w.h5")
    with archive.open(tmp_path / "w.h5") as handle:
        offset, nbytes, size = segments(handle)
    key = f"{uuid.uuid4().hex}/w.h5"
    server.client.upload_file(str(tmp_path / "w.h5"), BUCKET, key)
    inner = whole_rows(size)
    with (
        Proxy(server.endpoint) as proxy,
        archive.open(f"s3://{BUCKET}/{key}", storage_options=server.options(proxy.endpoint)) as handle,
    ):

        def asked(index: Any) -> list[int]:
            """Return the segments that were asked for, after comparing what came."""
            proxy.reset()
            assert np.array_equal(handle["w"][index], whole[index])
            found: list[int] = []
            for request in proxy.seen:
                low, high = map(int, request.range.removeprefix("bytes=").split("-"))
                assert (low - offset) % size == 0
                assert (high + 1 - offset) % size == 0 or high + 1 - offset == nbytes
                found += range((low - offset) // size, -(-(high + 1 - offset) // size))
            return found

        assert len(asked(inner[0])) == 1
        assert len(asked([inner[1000], inner[9000], inner[-1]])) <= 3
        singles = [asked(row) for row in range(5000, 5064)]
        moved = [number for numbers in singles for number in numbers]
        assert len(moved) == len(set(moved))
        column = asked(np.s_[:, :8])
        assert len(column) == len(set(column))
        assert len(proxy.seen) <= 8
