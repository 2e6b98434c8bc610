"""Indexing arrays that are still in a file or an object: as numpy, and of no more segments than it takes."""

from __future__ import annotations

import functools
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

import archive
from archive import tuning
from archive.dtypes import NDArray
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import StoredPayload
from archive.errors import ClosedError, DigestError, HostileFileError
from archive.format.segments import segment_bytes_of
from tests.crafting import Crafted
from tests.storage.folderstore import FolderStore, reach

URL, PATH = "folder://m/a.h5", "m/a.h5"
Ways = dict[str, Callable[[], archive.Archive]]


@functools.cache
def arrays() -> dict[str, NDArray]:
    """Arrays of several segments, of every way to be stored, and those that are not."""
    random = np.random.default_rng(3)
    made: dict[str, NDArray] = {
        "wide": random.standard_normal((3000, 1500), "f4"),
        "fortran": np.asfortranarray(random.integers(-9999, 9999, (500, 70, 90), "i2")),
        "text": np.array(["", "a", "\u00e9\u4e2d" * 5, "word"])[random.integers(0, 4, (1000, 200))],
        "members": np.zeros(500_000, [("a", "<i4"), ("b", "u1"), ("c", ">f8")]),
        "short": random.standard_normal((3000, 1000)).astype(ml_dtypes.bfloat16),
        "small": np.arange(900.0).reshape(30, 30),
        "scalar": np.array(7, ">i8"),
        "empty": np.empty((0, 5), "f4"),
        "nothing": np.empty((40, 3), "S0"),
    }
    made["members"]["a"] = np.arange(500_000)
    made["members"]["c"] = random.standard_normal(500_000)
    made["tied"] = made["wide"]
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderStore]:
    store = FolderStore(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        reach(store, patch)
        archive.save(arrays(), URL)
        yield store


@pytest.fixture(scope="module")
def ways(store: FolderStore) -> Ways:
    """The ways to open it."""
    path = store.file(PATH)
    return {
        "map": lambda: archive.open(path),
        "pread": lambda: archive.open(path, access="pread"),
        "private": lambda: archive.open(path, mode="c"),
        "unverified": lambda: archive.open(path, verify="off"),
        "foreign": lambda: archive.open(path, foreign=True),
        "remote": lambda: archive.open(URL),
        "remote private": lambda: archive.open(URL, mode="c"),
        "remote unverified": lambda: archive.open(URL, verify="off"),
        "cache": lambda: archive.open(URL, cache=store.root / "cache"),
        "cache pread": lambda: archive.open(URL, cache=store.root / "cache2", access="pread"),
    }


@st.composite
def entries(draw: st.DrawFn, length: int) -> Any:
    """Draw what may stand in an index for an axis."""
    number = st.integers(-length, length - 1)
    steps = st.sampled_from([1, 2, 7, 100, -1, -3, -500])
    near = number.flatmap(lambda at: st.sampled_from([slice(at, at + 3), slice(max(at, 0), None, -40)]))
    seed = draw(st.integers(0, 99))
    random = np.random.default_rng(seed)
    return draw(
        st.one_of(
            number,
            st.lists(number, min_size=3, max_size=3),
            steps.map(lambda step: slice(None, None, step)),
            st.tuples(number, number, steps).map(lambda parts: slice(*parts)),
            near,
            st.just(random.random(length) < draw(st.sampled_from([0.002, 0.1]))),
            st.sampled_from([None, Ellipsis]),
        )
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Any]:
    key = draw(st.sampled_from(list(arrays())))
    items: list[Any] = []
    for length in arrays()[key].shape[: draw(st.integers(0, 3))]:
        item = draw(entries(length)) if length else slice(None)
        if item is not Ellipsis or not any(other is Ellipsis for other in items):
            items.append(item)
    return key, tuple(items)


def assert_equal(found: Any, wanted: Any) -> None:
    assert (type(found), found.dtype, found.shape) == (type(wanted), wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()


WAYS = (
    "map",
    "pread",
    "private",
    "unverified",
    "remote",
    "remote private",
    "remote unverified",
    "cache",
    "cache pread",
)


@given(case=cases(), way=st.sampled_from(WAYS))
def test_as_numpy(ways: Ways, case: tuple[str, Any], way: str) -> None:
    compare(ways, *case, way)


@pytest.mark.slow
@settings(max_examples=1000)
@given(case=cases(), way=st.sampled_from(WAYS))
def test_as_numpy_many_times(ways: Ways, case: tuple[str, Any], way: str) -> None:
    compare(ways, *case, way)


def compare(ways: Ways, key: str, index: Any, way: str) -> None:
    with ways[way]() as handle:
        try:
            wanted = arrays()[key][index]
        except IndexError as error:
            refused = str(error)
            with pytest.raises(IndexError, match=re.escape(refused)):
                handle[key][index]
            return
        found = handle[key][index]
    assert_equal(found, wanted)
    if isinstance(found, np.ndarray) and found.nbytes:
        copies = wanted.base is None or not np.may_share_memory(wanted, arrays()[key])
        assert found.flags.writeable == ("private" in way or copies)


CHOSEN: list[tuple[str, Any]] = [
    ("wide", np.s_[5, 9]),
    ("wide", np.s_[[5, 700, 2999]]),
    ("wide", np.s_[[5, 700, 2999], :8]),
    ("wide", np.s_[:, 3:11]),
    ("wide", np.s_[::-1]),
    ("wide", np.s_[::7]),
    ("wide", np.s_[-1, None, ::2]),
    ("wide", np.s_[[True] + [False] * 2999]),
    ("tied", np.s_[2000:2003, [1, 1]]),
    ("fortran", np.s_[499]),
    ("fortran", np.s_[:, 5, [2, 80]]),
    ("text", np.s_[999, 3]),
    ("text", np.s_[[0, 999]]),
    ("text", np.s_[:, 7]),
    ("members", np.s_[[5, 400_000]]),
    ("members", np.s_[5]),
    ("members", "b"),
    ("members", ["c", "a"]),
    ("members", np.s_[::1000]),
    ("short", np.s_[7::1000, 5]),
    ("scalar", np.s_[()]),
    ("scalar", np.s_[...]),
    ("scalar", np.s_[None, True]),
    ("empty", np.s_[:, 2]),
    ("empty", np.s_[[]]),
    ("nothing", np.s_[3:5, 1]),
    ("wide", np.s_[5:5]),
    ("wide", np.s_[[]]),
]


@pytest.mark.parametrize("way", ["map", "pread", "remote", "cache"])
def test_chosen_indexes(ways: Ways, way: str) -> None:
    with ways[way]() as handle:
        for key, index in CHOSEN:
            assert_equal(handle[key][index], arrays()[key][index])


def test_a_foreign_file(ways: Ways) -> None:
    with ways["foreign"]() as handle:
        for key, index in CHOSEN:
            assert_equal(handle[key][index], arrays()[key][index])


@pytest.mark.parametrize("way", ["map", "remote"])
@pytest.mark.parametrize(
    "index", [3000, -3001, (0, 0, 0), 1.5, [[3000]], "a", np.zeros(2999, bool)], ids=repr
)
def test_errors_are_numpys(ways: Ways, store: FolderStore, way: str, index: Any) -> None:
    with pytest.raises(IndexError) as wanted:
        arrays()["wide"][index]
    with ways[way]() as handle:
        store.clear()
        with pytest.raises(IndexError) as caught:
            handle["wide"][index]
        assert str(caught.value) == str(wanted.value)
        assert store.asked == []


def payload(handle: archive.Archive, key: str) -> tuple[Reader, int]:
    found = handle[key].payload
    assert isinstance(found, StoredPayload)
    return found._reader, found._row


class TestVerifying:
    def checked(self, handle: archive.Archive, key: str) -> list[int]:
        reader, row = payload(handle, key)
        count = -(-int(reader.index.stored_nbytes[row]) // segment_bytes_of(reader.index, row))
        first = int(reader.index.segment_at[row])
        return [number for number in range(count) if reader._checked[first + number]]

    def test_a_map_is_verified_where_it_is_touched(self, store: FolderStore) -> None:
        with archive.open(store.file(PATH)) as handle:
            reader, row = payload(handle, "wide")
            size, nbytes = segment_bytes_of(reader.index, row), 3000 * 1500 * 4
            found = handle["wide"][[0, 2999], :3]
            assert self.checked(handle, "wide") == [0, (nbytes - 1) // size]
            assert found.flags.writeable
            view = handle["wide"][1500::2, 9]
            low, high = (1500 * 1500 + 9) * 4, (2998 * 1500 + 9) * 4
            assert self.checked(handle, "wide") == [0, *range(low // size, high // size + 1)]
            assert np.shares_memory(view, handle["wide"].numpy())
            assert not view.flags.writeable

    @pytest.mark.parametrize("way", ["map", "pread", "private", "remote", "cache"])
    def test_damage_is_found_where_it_is_touched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        """A byte of the last segment: indexes that do not touch it are answered."""
        store = FolderStore(tmp_path)
        reach(store, monkeypatch)
        archive.save({"w": arrays()["wide"]}, URL)
        with archive.open(store.file(PATH)) as handle:
            _, offset, nbytes = payload_where(handle, "w")
        data = bytearray(store.file(PATH).read_bytes())
        data[offset + nbytes - 1] ^= 1
        store.file(PATH).write_bytes(data)
        opened: Ways = {
            "map": lambda: archive.open(store.file(PATH)),
            "pread": lambda: archive.open(store.file(PATH), access="pread"),
            "private": lambda: archive.open(store.file(PATH), mode="c"),
            "remote": lambda: archive.open(URL),
            "cache": lambda: archive.open(URL, cache=tmp_path / "cache"),
        }
        with opened[way]() as handle:
            for index in (np.s_[:500:7], np.s_[[0, 5]], np.s_[0:9, 3]):
                assert_equal(handle["w"][index], arrays()["wide"][index])
            touching: list[Any] = [[0, 2999], np.s_[::-1], np.s_[:, 3], -1]
            for index in touching:
                with pytest.raises(DigestError, match="does not match its digest"):
                    handle["w"][index]

    def test_text_that_is_none(self, tmp_path: Path) -> None:
        archive.save({"t": arrays()["text"]}, tmp_path / "a.h5")
        crafted = Crafted(tmp_path / "a.h5")
        crafted.write_elements(
            "model", "t", b"\xff", int(crafted.type_of("model", "t")["itemsize"]) * 100_000
        )
        crafted.write(tmp_path / "a.h5")
        for verify in ("first", "off"):
            with archive.open(tmp_path / "a.h5", verify=verify) as handle:
                # other elements are not decoded either
                assert_equal(handle["t"][5, 3:9], arrays()["text"][5, 3:9])
                assert_equal(handle["t"][[5, 999], 3], arrays()["text"][[5, 999], 3])
                with pytest.raises(HostileFileError, match="not UTF-8"):
                    handle["t"][[3, 500], 0]


def payload_where(handle: archive.Archive, key: str) -> tuple[str, int, int]:
    found = handle[key].payload
    assert isinstance(found, StoredPayload)
    return found.where


def test_views_of_private_maps_are_the_callers(tmp_path: Path) -> None:
    archive.save({"w": arrays()["wide"]}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5", mode="c") as handle:
        part = handle["w"][::7, 3:11]
        part[:] = 1
        assert_equal(handle["w"][::7, 3:11], arrays()["wide"][::7, 3:11])
        assert_equal(handle["w"].numpy(), arrays()["wide"])


def test_small_parts_keep_no_segment(store: FolderStore) -> None:
    with archive.open(URL) as handle:
        for index in (np.s_[5], np.s_[:, 3:11], np.s_[[4]], np.s_[7, ::2]):
            found = handle["wide"][index]
            kept = found
            while kept.base is not None:
                kept = kept.base
            assert kept.nbytes <= 2 * found.nbytes


class TestKeptSegments:
    """What a handle fetched last is not fetched again."""

    def test_rows_one_by_one(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            store.clear()
            for row in range(0, 3000, 11):
                assert_equal(handle["wide"][row], arrays()["wide"][row])
            assert store.nbytes() == 3000 * 1500 * 4
            store.clear()
            _ = handle["tied"][[5, 500], 3]
            assert store.asked == []

    def test_a_range_keeps_its_edges(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            store.clear()
            for low in range(0, 3000, 600):
                assert_equal(handle["wide"][low : low + 600], arrays()["wide"][low : low + 600])
            assert store.nbytes() == 3000 * 1500 * 4
            reader, row = payload(handle, "wide")
            assert reader.recent.nbytes <= 2 * 5 * segment_bytes_of(reader.index, row)

    def test_whole_arrays_are_not_kept(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            handle["wide"].numpy()
            _ = (
                handle["wide"][...],
                handle["wide"][::-1],
                handle["short"].data,
                handle["fortran"].numpy(copy=True),
            )
            for _, array in handle.drain():
                array.numpy()
            assert "recent" not in vars(payload(handle, "wide")[0])

    def test_it_is_bounded_and_the_oldest_go(
        self, store: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with archive.open(URL) as handle:
            reader, row = payload(handle, "wide")
            size = segment_bytes_of(reader.index, row)
            monkeypatch.setattr(tuning, "SEGMENT_CACHE_BYTES", 2 * size)
            firsts = [size * number // 6000 + 1 for number in range(3)]
            for first in (*firsts[:2], firsts[0], firsts[2]):
                _ = handle["wide"][first]
            assert reader.recent.nbytes <= 2 * size
            store.clear()
            _ = handle["wide"][firsts[0]]
            assert store.asked == []
            _ = handle["wide"][firsts[1]]
            assert store.counted() == 1
            # more than half of what it holds is not kept at all
            monkeypatch.setattr(tuning, "SEGMENT_CACHE_BYTES", size)
            reader.recent._entries.clear()
            _ = handle["wide"][firsts]
            assert reader.recent.nbytes == 0

    def test_holes_make_no_more_requests(self, store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tuning, "REQUESTS", 1)
        with archive.open(URL) as handle:
            _ = handle["wide"][1500]
            store.clear()
            assert_equal(handle["wide"][:, 3], arrays()["wide"][:, 3])
            assert store.asked == [("get_range", PATH, 3000 * 1500 * 4)]

    def test_nobody_changes_it(self, store: FolderStore) -> None:
        with archive.open(URL, mode="c") as handle:
            for index in (np.s_[5], np.s_[[5, 2000]], np.s_[0:700]):
                handle["wide"][index][:] = 0
                assert_equal(handle["wide"][index], arrays()["wide"][index])

    def test_what_failed_is_not_kept(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            store.clear()
            store.flip = {0: 5, 1: 5}
            try:
                with pytest.raises(DigestError):
                    _ = handle["wide"][0]
            finally:
                store.flip = {}
            assert_equal(handle["wide"][0], arrays()["wide"][0])

    def test_closing_and_pickling_drop_it(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            array = handle["wide"]
            _ = array[5]
            reader, _ = payload(handle, "wide")
            assert reader.recent.nbytes
            again = pickle.loads(pickle.dumps(array))
            assert len(pickle.dumps(array)) < 10_000
            store.clear()
            assert_equal(again[5], array[5])
            assert store.counted("get_range") == 1
            again.payload._reader.close()
        assert "recent" not in vars(reader)
        with pytest.raises(ClosedError):
            _ = array[5]

    @pytest.mark.needs("os.fork")
    def test_a_fork_finds_nothing(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            _ = handle["wide"][5]
            recent = payload(handle, "wide")[0].recent
            segment = next(iter(recent._entries))
            assert recent.find(segment) is not None
            child = os.fork()
            if not child:
                recent.keep([(segment + 1, np.zeros(3, np.uint8))])
                os._exit(int(recent.find(segment) is not None or segment + 1 in recent._entries))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert recent.find(segment) is not None

    def test_threads_share_it(self, store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
        wrong: list[int] = []
        with archive.open(URL) as handle:
            reader, row = payload(handle, "wide")
            monkeypatch.setattr(tuning, "SEGMENT_CACHE_BYTES", 4 * segment_bytes_of(reader.index, row))

            def read(seed: int) -> None:
                rows = np.random.default_rng(seed).integers(0, 3000, 30).tolist()
                wrong.extend(
                    at for at in rows if not np.array_equal(handle["wide"][at], arrays()["wide"][at])
                )

            threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wrong == []
            assert 0 < reader.recent.nbytes <= tuning.SEGMENT_CACHE_BYTES
