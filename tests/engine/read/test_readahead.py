"""Arrays of a remote archive in order: few requests, bounded memory, and nothing more for any other order."""

from __future__ import annotations

import pickle
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import ClosedError, DigestError
from tests.optional import torch
from tests.storage.folderstore import FolderStore, reach

URL, PATH = "folder://m/a.h5", "m/a.h5"
COUNT, EACH = 300, 32_000
"""Arrays of 32 kB, 9.6 MB together."""


def model() -> dict[str, NDArray]:
    return {f"{number:03}": np.full(EACH // 4, number, "f4") for number in range(COUNT)}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    # the end of the object comes with the opening
    archive.save(model() | {"last": np.zeros(70_000, "u1")}, URL)
    return store


def reader_of(handle: archive.Archive) -> Reader:
    payload = handle["000"].payload
    assert isinstance(payload, StoredPayload)
    return payload._reader


def requests_in_order() -> int:
    """Two arrays one by one, then as many as there were, then 4 MiB each."""
    counted, done = 0, 0
    while done < COUNT:
        after = min(done + 1, tuning.PREFETCH_BYTES // EACH) if done >= 2 else 0
        counted, done = counted + 1, done + 1 + after
    return counted


USES: dict[str, Callable[[archive.Array], Any]] = {
    "numpy": lambda array: array.numpy(),
    "copy": lambda array: array.numpy(copy=True),
    "read": lambda array: array.read(),
    "torch": lambda array: array.torch(),
    "slice": lambda array: array[:9],
    "data": lambda array: np.frombuffer(array.data, "f4", 9, 128),
}


@pytest.mark.parametrize("use", USES)
def test_iteration_makes_few_requests(store: FolderStore, use: str) -> None:
    if use == "torch":
        torch()
    with archive.open(URL) as handle:
        store.clear()
        for (_, key), number in zip(handle, range(COUNT), strict=False):
            found = USES[use](handle[key])
            assert float(found[0]) == float(found[8]) == number
        assert store.counted() == requests_in_order() < 12
        assert store.nbytes() <= COUNT * EACH + 70_000 + tuning.GAP_BYTES  # with the array after them
        assert store.most_at_once == 1


def test_records_of_a_handle_are_in_order_too(store: FolderStore) -> None:
    with archive.open(URL) as handle:
        store.clear()
        for array in handle.records.array_records["model"].values():
            array.numpy()
        assert store.counted() < 12


def test_a_cache_is_filled_by_few_requests(store: FolderStore, tmp_path: Path) -> None:
    with archive.open(URL, cache=tmp_path / "cache") as handle:
        store.clear()
        for key, wanted in model().items():
            assert np.array_equal(handle[key].numpy(), wanted)
        assert store.counted() <= requests_in_order()
        assert store.nbytes() <= COUNT * EACH + 70_000 + 2 * (64 << 10)
        assert reader_of(handle).ahead._window.data is None  # type: ignore[union-attr]
    with archive.open(URL, cache=tmp_path / "cache") as handle:
        store.clear()
        for key, wanted in model().items():
            assert np.array_equal(handle[key].numpy(), wanted)
        assert store.asked == []


@pytest.mark.parametrize("order", ["backwards", "every other", "shuffled", "pairs", "twice"])
def test_any_other_order_costs_what_it_did(store: FolderStore, order: str) -> None:
    numbers = list(range(COUNT))
    shuffled = random.Random(5).sample(numbers, COUNT)
    asked = {
        "backwards": numbers[::-1],
        "every other": numbers[::2],
        "shuffled": shuffled,
        "pairs": [each for number in numbers[-2::-2] for each in (number, number + 1)],
        "twice": [each for number in numbers for each in (number, number)],
    }[order]
    with archive.open(URL) as handle:
        store.clear()
        for number in asked:
            assert handle[f"{number:03}"].numpy()[5] == number
        assert store.asked == [("get_range", PATH, EACH)] * len(asked)


def test_all_that_is_expected_comes_in_full_windows(store: FolderStore) -> None:
    with archive.open(URL) as handle:
        reader_of(handle).ahead.expect_all()
        store.clear()
        for number in range(COUNT):
            assert handle[f"{number:03}"].numpy()[5] == number
        assert store.counted() == -(-COUNT // (1 + tuning.PREFETCH_BYTES // EACH))
        assert COUNT * EACH <= store.nbytes() < 1.02 * COUNT * EACH, "with what lies between them"


def test_an_expectation_that_was_wrong_ends(store: FolderStore) -> None:
    """One window is fetched in vain, at most; then the order decides."""
    with archive.open(URL) as handle:
        reader_of(handle).ahead.expect_all()
        store.clear()
        for number in range(0, COUNT, 2):
            assert handle[f"{number:03}"].numpy()[5] == number
        assert store.nbytes() <= COUNT // 2 * EACH + 2 * (tuning.PREFETCH_BYTES + EACH)


def test_wrong_guesses_end(store: FolderStore) -> None:
    """Three arrays of each layer, as query, key and value: two guesses, and then none."""
    asked = [number for layer in range(0, COUNT, 10) for number in range(layer, layer + 3)]
    with archive.open(URL) as handle:
        store.clear()
        for number in asked:
            assert handle[f"{number:03}"].numpy()[5] == number
        assert store.counted() == len(asked)
        assert store.nbytes() == (len(asked) + 2 * 3) * EACH
        store.clear()
        for key in model():
            handle[key].numpy()
        assert store.counted() < 20


def test_a_look_elsewhere_does_not_end_the_order(store: FolderStore) -> None:
    with archive.open(URL) as handle:
        store.clear()
        for number in range(COUNT - 1):
            assert handle[f"{number:03}"].numpy()[5] == number
            if number % 50 == 49:
                assert handle["299"].numpy()[5] == 299
        assert store.counted() < requests_in_order() + 5 * 6


def test_memory_is_bounded_and_given_back(store: FolderStore) -> None:
    with archive.open(URL) as handle:
        reader, kept = reader_of(handle), []
        for key in model():
            kept.append(handle[key].numpy())
            window = reader.ahead._window
            if window is not None and window.data is not None:
                assert window.data.nbytes <= tuning.PREFETCH_BYTES + EACH
        _ = handle["last"].numpy()
        assert all(array.base is None or array.base.nbytes <= EACH + 4096 for array in kept[10:])
        assert not any(np.shares_memory(kept[number], kept[number + 1]) for number in range(20, 30))
        ahead = reader.ahead
        for key in ("000", "001", "002", "003", "004", "005"):
            handle[key].numpy()
        assert ahead._window is None, "the last array of the window was taken"
    assert "_ahead" not in vars(reader)
    with pytest.raises(ClosedError):
        handle["007"].numpy()


def test_arrays_larger_than_the_window_come_alone(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "PREFETCH_BYTES", EACH - 1)
    with archive.open(URL) as handle:
        store.clear()
        for key in list(model())[:20]:
            handle[key].numpy()
        assert store.asked == [("get_range", PATH, EACH)] * 20


def test_no_large_array_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes along with an array of 5 MiB would keep these."""
    store = FolderStore(tmp_path)
    reach(store, monkeypatch)
    small = {f"s{number}": np.ones(1000) for number in range(10)}
    archive.save({**model(), "large": np.ones(5 << 17), **small, "end": np.ones(10_000)}, URL)
    with archive.open(URL) as handle:
        for _, key in handle:
            assert handle[key].numpy().size
            window = reader_of(handle).ahead._window
            assert window is None or window.data is None or window.data.nbytes < 5 << 20


def test_damage_is_an_error_of_its_own_array(store: FolderStore) -> None:
    with archive.open(store.file(PATH)) as local:
        payload = local["050"].payload
        assert isinstance(payload, StoredPayload)
        _, offset, _ = payload.where
    data = bytearray(store.file(PATH).read_bytes())
    data[offset + 9] ^= 1
    store.file(PATH).write_bytes(data)
    with archive.open(URL) as handle:
        store.clear()
        for key, wanted in model().items():
            if key == "050":
                with pytest.raises(DigestError, match="model/050"):
                    handle[key].numpy()
            else:
                assert np.array_equal(handle[key].numpy(), wanted)
        assert store.counted() < 20


def test_a_flaw_on_the_way_is_fetched_again(store: FolderStore) -> None:
    with archive.open(URL) as handle:
        store.clear()
        store.flip = {number: 40_000 * number for number in range(3, 40, 3)}
        for key, wanted in model().items():
            assert np.array_equal(handle[key].numpy(), wanted)
        assert store.counted() < 40


def test_unverified(store: FolderStore) -> None:
    with archive.open(URL, verify="off") as handle:
        store.clear()
        for key, wanted in model().items():
            assert np.array_equal(handle[key].numpy(), wanted)
        assert store.counted() == requests_in_order()


def test_ties_values_and_arrays_without_bytes_do_not_end_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path)
    reach(store, monkeypatch)
    arrays = model()
    for number in range(10, 200, 40):
        arrays[f"{number:03}"] = np.zeros((0, 3), "f4")
    for number in range(30, 200, 40):
        arrays[f"{number:03}"] = arrays["001"]
    archive.save(arrays, URL, metrics={"losses": [0.5] * 30_000})
    with archive.open(URL) as handle:
        store.clear()
        for key, wanted in arrays.items():
            assert np.array_equal(handle[key].numpy(), wanted)
        assert store.counted() <= requests_in_order() + 5 + 1
        assert store.nbytes() <= (COUNT + 5) * EACH


def test_threads_that_read_rows_of_their_own(store: FolderStore) -> None:
    wrong: list[str] = []
    with archive.open(URL) as handle:

        def read(keys: list[str]) -> None:
            wrong.extend(key for key in keys if not (handle[key].numpy() == int(key)).all())

        keys = list(model())
        threads = [
            threading.Thread(target=read, args=(keys[number * 75 : number * 75 + 75],)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        again = pickle.loads(pickle.dumps(handle))
        assert again["005"].numpy()[0] == 5
        again.close()


def test_what_the_caller_writes_is_his(store: FolderStore) -> None:
    with archive.open(URL, mode="c") as handle:
        for key in list(model())[:40]:
            handle[key].numpy()[:] = -1
        for key in list(model())[:40]:
            assert handle[key].numpy()[0] == int(key)
