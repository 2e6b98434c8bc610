"""One array of many files as one lazy array: numpy's answers, and only what is asked for is read."""

from __future__ import annotations

import itertools
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import (
    DamagedError,
    DigestError,
    MissingError,
    ReplacedError,
    SkippedWarning,
    TruncatedError,
    ValueRangeError,
)
from archive.types import Stack
from tests.storage.folderstore import FolderStore, reach

CLIENTS = ("Berlin", "Köln", "Oslo", "a")
SHAPE = (3, 4, 5)
Store = archive.CheckpointStore


def weights(number: int, client: int) -> Any:
    return np.arange(60, dtype="f4").reshape(SHAPE) + 1000 * client + 10_000 * number


@pytest.fixture
def store(tmp_path: Path) -> archive.CheckpointStore:
    made = Store(tmp_path / "run")
    for number in (1, 2):
        for place, client in enumerate(CLIENTS):
            made.save({"w": weights(number, place), "b": np.zeros(2)}, number, client=client)
        made.save({"w": weights(number, 9)}, number, metrics={"loss": 1 / number})
    return made


INDEXES: list[Any] = [
    3, -1, np.int64(2), slice(None), slice(1, 3), slice(None, None, -2), slice(9, 2), ..., (), (2, 1),
    (2, ..., 0), (slice(None), 0, slice(1, 3)), (slice(None), 0, 0, 0), (..., 0),
    (..., slice(1, 2), None), (1, None), None, (slice(None), None), [0, 2], [2, 0, 2, -1],
    np.array([[0, 1], [3, 3]]), np.array([True, False, True, False]), [], ([0, 2], 1),
    ([0, 2], slice(None), 3), ([0, 1], [0, 2]), ([0, 1], slice(None), [1, 0]), (1, [0, 2]),
    (1, slice(None), [0, 3]), (slice(1, 3), [0, 1], slice(None), [1, 0]),
    (slice(1, 3), slice(None), [0, 1], [1, 0]), (..., [0, 1]), (0, ..., [0, 1]),
    (np.ones((4, 3), bool),), (slice(None), np.array([True, False, True])), True,
    (np.array([0, 2]), np.array([0, 1])), (np.array([[3, 3]]), np.array([[0, 0]]), slice(None)),
    (np.array([], int), [0], [1]), ((), np.array([], bool)), np.array(True), ([-1], np.array(True)),
    (slice(None), 2, ..., 1, 3), (slice(None), slice(None), slice(None), slice(None), ...),
]  # fmt: skip


@pytest.mark.parametrize("index", INDEXES, ids=map(repr, INDEXES))
def test_an_index_is_that_of_numpy(store: archive.CheckpointStore, index: Any) -> None:
    expected = np.stack([weights(2, place) for place in range(4)])[index]
    found = store.stack("w", round=2)[index]
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "index", [4, -5, (0, 3), (slice(None), 9), [0, 7], (0, 0, 0, 0, 0), "w", 1.5, np.zeros(0)]
)
def test_an_index_that_is_none(store: archive.CheckpointStore, index: Any) -> None:
    with pytest.raises((IndexError, ValueError)) as caught:
        _ = store.stack("w", round=2)[index]
    with pytest.raises(type(caught.value)):
        _ = np.zeros((4, *SHAPE))[index]


def test_what_it_says_of_itself(store: archive.CheckpointStore) -> None:
    stack = store.stack(("model", "w"), round="latest")
    assert "shape not read yet" in repr(stack)
    assert (stack.shape, stack.dtype, stack.ndim, stack.size, stack.nbytes, len(stack)) == (
        (4, *SHAPE), np.float32, 4, 240, 960, 4,
    )  # fmt: skip
    assert stack.clients == CLIENTS
    assert stack.rounds == (2,) * 4
    assert "4 x (3, 4, 5)" in repr(stack)
    assert [int(one[0, 0, 0]) for one in stack] == [20_000, 21_000, 22_000, 23_000]
    assert np.mean(stack, axis=0).tolist() == np.mean([weights(2, n) for n in range(4)], axis=0).tolist()
    assert np.asarray(stack, "f8").dtype == np.float64
    assert (stack - weights(2, 0))[1].max() == 1000
    assert np.from_dlpack(stack).shape == stack.shape
    with pytest.raises(ValueError, match="copy=False cannot be"):
        stack.__array__(copy=False)


def test_axes_of_rounds(store: archive.CheckpointStore) -> None:
    stack = store.stack("w", rounds="all")
    assert (stack.rounds, stack.clients) == ((1, 2), (None, None))
    assert np.array_equal(stack, [weights(1, 9), weights(2, 9)])
    stack = store.stack("w", rounds=[2, 1], client="Oslo")
    assert (stack.rounds, stack.clients) == ((2, 1), ("Oslo", "Oslo"))
    assert stack[:, 0, 0, 0].tolist() == [22_000, 12_000]
    assert store.stack("w", rounds=np.array([1, 2])).rounds == (1, 2)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, TypeError, "round=, for the clients of a round, or rounds="),
        ({"round": 1, "rounds": "all"}, TypeError, "or rounds="),
        ({"round": 1, "client": "Oslo"}, TypeError, "goes with rounds="),
        ({"round": 7}, MissingError, "no round 7"),
        ({"round": "newest"}, TypeError, '"latest" or "best"'),
        ({"rounds": [1, 7]}, MissingError, "no round 7"),
        ({"rounds": []}, MissingError, "nothing is there to stack"),
        ({"rounds": [1], "client": "Rom"}, MissingError, "client 'Rom' has no file in round 1"),
    ],
)
def test_what_cannot_be_stacked(
    store: archive.CheckpointStore, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        store.stack("w", **options)


@pytest.mark.parametrize("other", [np.zeros((3, 4)), np.zeros(SHAPE), np.zeros((2, 4, 5), "f4")])
def test_another_shape_or_type_names_the_client(tmp_path: Path, other: Any) -> None:
    store = Store(tmp_path)
    for client, array in {"a": np.zeros(SHAPE, "f4"), "b": other, "c": np.zeros(SHAPE, "f4")}.items():
        store.save({"w": array}, 1, client=client)
    store.save({}, 1)
    stack = store.stack("w", round=1)
    assert stack[2].shape == stack[::2].shape[1:] == SHAPE, "the others can be read"
    for read in (lambda: stack[1], lambda: stack[:, 0, 0], lambda: np.asarray(stack), lambda: list(stack)):
        with pytest.raises(ValueRangeError, match="round 1, client 'b' has float") as caught:
            read()
        assert (caught.value.path, caught.value.key) == (str(tmp_path / "rounds/00000001/b.h5"), "w")


def test_a_client_without_the_array(store: archive.CheckpointStore) -> None:
    with pytest.raises(KeyError, match=r"round 1, client 'Berlin': no array 'v'"):
        _ = store.stack("v", round=1).shape


def test_damage_is_found_where_it_is_read(store: archive.CheckpointStore, tmp_path: Path) -> None:
    folder = tmp_path / "run/rounds/00000002"
    stack = store.stack("w", round=2)
    data = bytearray((folder / "Oslo.h5").read_bytes())
    data[data.index(weights(2, 2).tobytes())] ^= 1
    (folder / "Oslo.h5").write_bytes(data)
    shutil.copy(tmp_path / "run/rounds/00000001/a.h5", folder / "a.h5")
    assert stack[:2].shape == (2, *SHAPE)
    with pytest.raises(DigestError):
        _ = stack[2]
    with pytest.raises(DamagedError, match="saved with another file"):
        _ = stack[3]
    (folder / "Berlin.h5").write_bytes(data[:5000])
    with pytest.raises(TruncatedError):
        _ = stack[0]
    (folder / "Berlin.h5").unlink()
    with pytest.raises(MissingError):
        _ = stack[0]


def test_a_pinned_stack_reads_the_versions_that_were_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (1, 2):
        store.save({"w": weights(number, 9)}, number)
    stack = store.stack("w", rounds="all").pinned()
    assert np.array_equal(stack, [weights(1, 9), weights(2, 9)])
    archive.save({"w": weights(3, 9)}, tmp_path / "rounds/00000002.h5")
    assert np.array_equal(stack[0], weights(1, 9))
    with pytest.raises(ReplacedError, match="since the stack was made") as caught:
        _ = stack[1]
    assert caught.value.path == str(tmp_path / "rounds/00000002.h5")


def test_arrays_are_read_straight_into_the_result(tmp_path: Path) -> None:
    store, nbytes = Store(tmp_path), 16 << 20
    for client in "ab":
        store.save({"w": np.full(nbytes, 7, "u1")}, 1, client=client)
    store.save({}, 1)
    stack = store.stack("w", round=1)
    tracemalloc.start()
    found = stack[:]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.shape, int(found.min())) == ((2, nbytes), 7)
    assert peak < 2 * nbytes + (4 << 20)


def test_text_and_other_element_types(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for place, client in enumerate("ab"):
        store.save(
            {"t": np.array([client, "x"]), "h": np.full(2, place, ml_dtypes.bfloat16), "s": np.array(place)},
            1,
            client=client,
        )
    store.save({}, 1)
    assert store.stack("t", round=1)[:, 0].tolist() == ["a", "b"]
    assert np.asarray(store.stack("h", round=1)).astype("f4").tolist() == [[0, 0], [1, 1]]
    assert store.stack("s", round=1).shape == (2,)
    assert np.asarray(store.stack("s", round=1)).tolist() == [0, 1]


def test_iteration_holds_two_arrays(tmp_path: Path) -> None:
    store, nbytes = Store(tmp_path), 4 << 20
    for client in range(8):
        store.save({"w": np.full(nbytes, client, "u1")}, 1, client=str(client))
    store.save({}, 1)
    stack = store.stack("w", round=1)
    tracemalloc.start()
    total = [int(one[0]) for one in stack]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == list(range(8))
    assert peak < 2 * nbytes + (1 << 20), "the one that the loop has, and the next"


@pytest.mark.slow
def test_no_array_waits_in_memory_for_a_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of other clients is where it belongs before the first has arrived."""

    class Slow(FolderStore):
        def get_suffix(self, path: str, nbytes: int) -> Any:
            time.sleep(0.5 * path.endswith("/00.h5"))
            return super().get_suffix(path, nbytes)

    bucket, clients, nbytes = Slow(tmp_path), 40, 1 << 20
    reach(bucket, monkeypatch)
    store = Store("folder://m/run")
    for client in range(clients):
        store.save({"w": np.full(nbytes, client, "u1")}, 1, client=f"{client:02}")
    store.save({}, 1)
    stack = store.stack("w", round=1)
    assert stack.shape == (clients, nbytes)
    tracemalloc.start()
    found = np.asarray(stack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[:, -1].tolist() == list(range(clients))
    assert peak < (clients + 24) * nbytes, "the result, and what sixteen threads read"


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """By fsspec's file system of a folder in memory: a request to open, one for a part of the array."""
    fsspec = pytest.importorskip("fsspec")
    url = "memory://stacks/run"
    try:
        store = Store(url)
        for client in CLIENTS:
            store.save({"w": np.zeros((1 << 20,), "f4"), "v": np.ones(3)}, 1, client=client)
        store.save({}, 1)
        stack: Stack = Store(url).stack("w", round=1)
        assert stack[:, :10].shape == (4, 10)
        assert sum(itertools.chain.from_iterable(stack[1:3, :3].tolist())) == 0
        assert [one.shape for one in Store(url).stack("v", round=1)] == [(3,)] * 4
    finally:
        fsspec.filesystem("memory").rm("/stacks", recursive=True)


def test_a_stack_without_the_files_that_cannot_be_opened(store: archive.CheckpointStore) -> None:
    names = store.clients(2)
    whole = np.asarray(store.stack("w", round=2))
    gone = Path(store.stack("w", round=2)._files[1].place.path)
    gone.unlink()
    with pytest.raises(MissingError):
        np.asarray(store.stack("w", round=2))
    with pytest.warns(SkippedWarning, match=f"1 of {len(names)} archives"):
        left = store.stack("w", round=2, errors="skip")
    assert left.clients == (names[0], *names[2:])
    assert [path for path, _ in left.failures] == [str(gone)]
    assert np.array_equal(np.asarray(left), np.delete(whole, 1, axis=0))
    assert left.pinned().failures == left.failures
    assert store.stack("w", rounds="all", errors="skip").failures == ()
    for file in left._files:
        Path(file.place.path).unlink()
    with pytest.raises(MissingError):
        store.stack("w", round=2, errors="skip")
    with pytest.raises(ValueError, match="errors must be one of 'raise', 'skip'"):
        store.stack("w", round=2, errors="column")  # type: ignore[arg-type]
