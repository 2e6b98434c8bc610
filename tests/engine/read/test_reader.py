"""Archives behind a network: how many requests, how many bytes, and what becomes of damage and failures.

Over a store of our own that keeps real objects in a folder and counts what it is asked for.
"""

from __future__ import annotations

import copy
import functools
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
import archive.tools
from archive import tuning
from archive.engine.read import storedpayload as payload
from archive.errors import (
    ArchiveError,
    ClosedError,
    DamagedError,
    DigestError,
    ExistsError,
    PartialSaveError,
    ReplacedError,
    StorageError,
    TruncatedError,
    UnsupportedURLError,
)
from archive.format.constants import DATA_AT, MIN_SEGMENT_BYTES
from archive.storage.url import parse_url
from tests.acceptance.samples import CREATED
from tests.children import child_environment
from tests.storage.folderstore import FolderStore, reach

MiB = 1 << 20
URL = "folder://models/round.h5"
PATH = "models/round.h5"
SHOWN = "folder://models/round[.]h5"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    return store


def small(count: int) -> dict[str, Any]:
    return {f"block.{number}.weight": np.full((4, 8), number, "f4") for number in range(count)}


def large() -> dict[str, Any]:
    return dict(_large())


@functools.cache
def _large() -> dict[str, Any]:
    """73 MB: arrays of many segments, of one, small ones between them, tied ones, one without bytes."""
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {f"head.{n}": random.standard_normal(50).astype("f4") for n in range(40)}
    arrays["embedding"] = random.standard_normal((1 << 20, 9))[:, :].astype("f4")
    arrays["empty"] = np.zeros((0, 7))
    arrays |= {f"mid.{n}": random.standard_normal(300_000).astype("f4") for n in range(30)}
    arrays["tied"] = arrays["embedding"]
    arrays |= {f"tail.{n}": random.standard_normal(9).astype("f8") for n in range(25)}
    return arrays


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The object that a save of `large` makes, once; others are links to it, which nobody writes into."""
    store = FolderStore(tmp_path_factory.mktemp("master"))
    with pytest.MonkeyPatch.context() as patch:
        reach(store, patch)
        archive.save(large(), URL)
    before = store.file(PATH).stat()
    yield store.file(PATH)
    assert (store.file(PATH).stat().st_size, store.file(PATH).stat().st_mtime_ns) == (
        before.st_size,
        before.st_mtime_ns,
    )
    store.file(PATH).unlink()


def link(master: Path, store: FolderStore) -> None:
    store.file(PATH).parent.mkdir(parents=True, exist_ok=True)
    os.link(master, store.file(PATH))


def spoil(store: FolderStore, at: int) -> None:
    """Change a byte at rest, in a file of its own."""
    shutil.copy(store.file(PATH), store.file("spoilt"))
    with store.file("spoilt").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    store.file("spoilt").replace(store.file(PATH))


def equal(found: Any, wanted: dict[str, Any]) -> bool:
    return list(found) == list(wanted) and all(np.array_equal(found[k].numpy(), wanted[k]) for k in wanted)


def local(store: FolderStore) -> archive.Archive:
    return archive.open(store.file(PATH))


class TestOpening:
    def test_300_arrays_take_one_request(self, store: FolderStore) -> None:
        archive.save(small(300), URL, metrics={"loss": 0.5})
        store.clear()
        with archive.open(URL) as handle:
            assert len(list(handle)) == 300
            assert handle.info.access == "remote"
            assert handle.info.verified.startswith("index and values, not")
            assert handle.records["metrics"]["loss"] == 0.5
        assert store.kinds() == {"get_suffix": 1}
        assert store.nbytes() <= tuning.TAIL_BYTES

    def test_20000_arrays_take_two(self, store: FolderStore) -> None:
        archive.save(small(20_000), URL)
        with local(store) as handle:
            footer = handle._reader.footer
            assert footer is not None
        store.clear()
        with archive.open(URL) as handle:
            assert len(list(handle)) == 20_000
            kept = len(handle._reader.source._tail)  # type: ignore[attr-defined]
            assert kept == footer.file_bytes - footer.index_at
        assert store.kinds() == {"get_suffix": 1, "get_range": 1}
        assert store.nbytes() == footer.file_bytes - footer.index_at
        store.clear()
        with archive.open(URL) as handle:  # what the last of the folder needed is asked for at once
            assert len(list(handle)) == 20_000
        assert store.kinds() == {"get_suffix": 1}
        assert store.nbytes() <= 1.2 * (footer.file_bytes - footer.index_at)

    def test_metadata_is_left_alone_and_it_says_so(self, store: FolderStore) -> None:
        archive.save(small(300), URL)
        with local(store) as handle:
            footer = handle._reader.footer
            assert footer is not None
            assert handle.info.verified.startswith("metadata, index and values at open;")
        store.clear()
        with archive.open(URL) as handle:
            assert f"not the {footer.meta_bytes} bytes of HDF5 metadata" in handle.info.verified
            assert handle.verify().ok
        assert store.kinds()["get_suffix"] == 1
        data = bytearray(store.file(PATH).read_bytes())
        data[footer.meta_at + 100] ^= 1
        store.file(PATH).write_bytes(data)
        with archive.open(URL) as handle:
            (failure,) = handle.verify().failures
        assert (failure.key, failure.offset) == ("HDF5 metadata", footer.meta_at)
        with pytest.raises(DamagedError):
            archive.tools.copy(URL, "folder://models/copy.h5")

    def test_a_table_reads_the_values_alone(self, store: FolderStore) -> None:
        archive.save(small(300), URL, metrics={"loss": 0.5})
        with local(store) as handle:
            footer = handle._reader.footer
            assert footer is not None
        store.clear()
        assert archive.table([URL])["loss"].tolist() == [0.5]
        assert store.kinds() == {"get_suffix": 1}
        assert store.nbytes() == tuning.VALUES_TAIL_BYTES
        data = bytearray(store.file(PATH).read_bytes())
        data[footer.index_at + 100] ^= 1
        store.file(PATH).write_bytes(data)
        assert archive.table([URL])["loss"].tolist() == [0.5]
        data[footer.values_at + 10] ^= 1
        store.file(PATH).write_bytes(data)
        with pytest.raises(DamagedError, match="the values section does not match its digest"):
            archive.table([URL])

    @pytest.mark.parametrize("place", ["footer", "index", "values"])
    def test_what_was_changed_on_the_way_is_asked_for_again(self, store: FolderStore, place: str) -> None:
        archive.save(small(300), URL)
        with local(store) as handle:
            footer = handle._reader.footer
        assert footer is not None
        at = {"footer": footer.file_bytes - 9, "index": footer.index_at + 200, "values": footer.values_at + 9}
        begin = max(footer.file_bytes - tuning.TAIL_BYTES, 0)
        store.clear()
        store.flip = {0: at[place] - begin}
        with archive.open(URL) as handle:
            assert len(handle) == 300
        assert store.kinds() == {"get_suffix": 2}
        store.clear()
        store.flip = {0: at[place] - begin, 1: at[place] - begin}
        with pytest.raises(ArchiveError):
            archive.open(URL)
        assert store.counted() <= 3

    def test_what_is_no_archive(self, store: FolderStore) -> None:
        store.put(PATH, b"something else" * 100_000)
        with pytest.raises(archive.errors.NotAnArchiveError, match=SHOWN):
            archive.open(URL)
        data = store.file(PATH)
        archive.save(small(3), URL)
        data.write_bytes(data.read_bytes()[:-300])
        with pytest.raises(TruncatedError):
            archive.open(URL)


class TestRanges:
    @pytest.fixture(autouse=True)
    def saved(self, store: FolderStore, master: Path) -> None:
        link(master, store)

    def test_an_array_is_one_request(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            store.clear()
            assert np.array_equal(handle["embedding"].numpy(), large()["embedding"])
            assert store.asked == [("get_range", PATH, 9 << 22)]
            store.clear()
            assert handle["mid.3"].numpy().nbytes == 1_200_000
            assert store.asked == [("get_range", PATH, 1_200_000)]

    def test_a_slice_is_its_segments(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            store.clear()
            part = handle["embedding"][500_000:500_001]
            assert np.array_equal(part, large()["embedding"][500_000:500_001])
            assert store.asked == [("get_range", PATH, MIN_SEGMENT_BYTES)]

    def test_what_came_with_the_opening_is_not_fetched_again(
        self, store: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tuning, "TAIL_BYTES", 512 << 10)
        with archive.open(URL) as handle:
            store.clear()
            assert handle["tail.7"].numpy().shape == (9,)
            assert store.asked == []

    def test_a_large_array_is_fetched_side_by_side(
        self, store: FolderStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tuning, "SINGLE_REQUEST_BYTES", 20 * MiB)
        store.delay = 0.05
        with archive.open(URL) as handle:
            store.clear()
            found = handle["embedding"].numpy()
            assert np.array_equal(found, large()["embedding"])
            assert sorted(nbytes >> 20 for _, _, nbytes in store.asked) == [4, 16, 16]
            assert store.most_at_once == 3
            store.clear()
            store.flip = {1: 5}
            assert np.array_equal(handle["embedding"].numpy(), found)
            assert store.counted() == 4

    def test_copies_are_writable_and_nobody_elses(self, store: FolderStore) -> None:
        with archive.open(URL, mode="c") as handle:
            for key in ("mid.3", "tail.7"):
                ours = handle[key].numpy()
                ours[:] = 7
                assert not (handle[key].numpy() == 7).any()
        with archive.open(URL) as handle:
            assert not handle["tail.7"].numpy().flags.writeable
            assert handle["tail.7"].numpy(copy=True).flags.writeable

    def test_unverified_reads_are_exact(self, store: FolderStore) -> None:
        with archive.open(URL, verify="off") as handle:
            store.clear()
            assert handle["embedding"][70:72].shape == (2, 9)
            assert store.asked == [("get_range", PATH, 72)]

    def test_closed(self, store: FolderStore) -> None:
        with archive.open(URL) as handle:
            array = handle["mid.3"]
        with pytest.raises(ClosedError):
            array.numpy()


def ask_one() -> None:
    with archive.open(URL) as handle:
        handle["embedding"].numpy()


def ask_slice() -> None:
    with archive.open(URL) as handle:
        _ = handle["embedding"][1 << 19 :]


def ask_load() -> None:
    assert equal(archive.load(URL).array_records["model"], large())


def ask_drain() -> None:
    with archive.open(URL) as handle:
        found = {key: array.numpy() for (_, key), array in handle.drain()}
    wanted = large()
    assert list(found) == list(wanted)
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


def ask_verify() -> None:
    report = archive.verify(URL)
    if not report.ok:
        raise DigestError(report.failures[0].problem, path="folder://models/round.h5", key="model/x")


def ask_copy() -> None:
    archive.tools.copy(URL, "folder://models/copy.h5")


WAYS = [ask_one, ask_slice, ask_load, ask_drain, ask_verify, ask_copy]


@pytest.fixture
def saved(store: FolderStore, master: Path) -> FolderStore:
    link(master, store)
    return store


class TestAll:
    def test_load(self, saved: FolderStore) -> None:
        seen: list[tuple[int, int]] = []
        records = archive.load(URL, progress=lambda *at: seen.append(at))
        assert equal(records["model"], large())
        assert seen[-1][0] == seen[-1][1]
        size = saved.file(PATH).stat().st_size
        assert saved.counted() <= size // (16 * MiB) + 2
        assert saved.nbytes() <= 1.01 * size
        # each has memory of its own that may be written to
        assert records.array_records["model"]["mid.1"].numpy().flags.writeable

    def test_load_some(self, saved: FolderStore) -> None:
        found = archive.load(URL, keys=["mid.3", "mid.4", "mid.20"]).array_records["model"]
        assert equal(found, {key: large()[key] for key in ("mid.3", "mid.4", "mid.20")})
        assert saved.counted("get_range") == 2

    def test_drain_is_in_order_and_lets_go(self, saved: FolderStore) -> None:
        saved.delay = 0.02
        wanted = large()
        with archive.open(URL) as handle:
            held = handle._reader.held
            for (_, key), array in handle.drain():
                assert len(held) <= 1
                before = saved.counted()
                assert np.array_equal(array.numpy(), wanted[key])
                if array.payload.nbytes:
                    assert not array.numpy().flags.writeable
                assert saved.counted() - before <= 6  # none for this one; those ahead go on
            assert held == {}
            # it is all still there
            assert np.array_equal(handle["mid.3"].numpy(), wanted["mid.3"])
        assert saved.most_at_once > 1

    def test_leaving_on_the_way(self, saved: FolderStore) -> None:
        with archive.open(URL) as handle:
            for _, array in handle.drain():
                kept = array.numpy()
                break
            assert handle._reader.held == {}
            steps = handle.drain()
            next(steps)
        assert np.array_equal(kept, large()["head.0"])
        with pytest.raises(ClosedError):
            list(steps)

    def test_verify_reads_every_byte(self, saved: FolderStore) -> None:
        report = archive.verify(URL)
        size = saved.file(PATH).stat().st_size
        assert report.ok
        assert report.checked_bytes == size
        assert size <= saved.nbytes() <= size + tuning.TAIL_BYTES
        assert saved.counted() <= size // (16 * MiB) + 3

    @pytest.mark.parametrize("where", ["superblock", "padding", "array", "metadata", "index"])
    def test_verify_finds_damage_wherever_it_is(self, saved: FolderStore, where: str) -> None:
        with local(saved) as handle:
            footer = handle._reader.footer
            assert footer is not None
            offset, nbytes = handle["embedding"].payload.where[1:]  # type: ignore[attr-defined]
        at = {
            "superblock": 9,
            "padding": DATA_AT - 1,
            "array": offset + nbytes - 1,
            "metadata": footer.meta_at + 5,
            "index": footer.index_at + 300,
        }[where]
        with archive.open(URL) as handle:  # opened before: metadata and index are checked again
            spoil(saved, at)
            handle._reader.source.version = saved._version(PATH)  # type: ignore[attr-defined]
            (failure,) = handle.verify().failures
        assert failure.key == {"array": "embedding", "metadata": "HDF5 metadata"}.get(where, where)
        assert abs(failure.offset - at) <= MIN_SEGMENT_BYTES

    def test_mean(self, store: FolderStore, tmp_path: Path) -> None:
        some = {key: array for key, array in large().items() if not key.startswith(("mid.1", "mid.2"))}
        some["embedding"] = some["tied"] = some["embedding"][: 1 << 19]  # more than one request still
        archive.save(some, URL)
        archive.save({key: array * 2 for key, array in some.items()}, tmp_path / "other.h5")
        for out in ("folder://models/mean.h5", str(tmp_path / "mean.h5")):
            archive.mean([URL, tmp_path / "other.h5"], [1, 3], out=out)
            found = archive.load(out).array_records["model"]
            assert np.allclose(found["mid.3"].numpy(), large()["mid.3"] * 1.75)

    @pytest.mark.parametrize("access", ["records", "record"])
    def test_records_drain_too(self, saved: FolderStore, access: str) -> None:
        with archive.open(URL) as handle:
            given: Any = handle.records if access == "records" else handle.records.array_records["model"]
            found = [array.numpy().nbytes for _, array in given.drain()]
        assert found == [array.nbytes for array in large().values()]


SAMPLED_WAYS = [WAYS[0], *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS[1:])]


class TestDamage:
    """Changed on the way: fetched once more. Changed at rest: a typed error that says where."""

    @pytest.mark.parametrize("ask", SAMPLED_WAYS)
    def test_on_the_way(self, saved: FolderStore, ask: Callable[[], None]) -> None:
        ask()
        requests = saved.counted("get_suffix", "get_range")
        for number in range(requests):
            saved.clear()
            saved.flip = {number: 4096 + 131}
            ask()
            assert saved.counted("get_suffix", "get_range") <= requests + 1

    @pytest.mark.parametrize("ask", WAYS)
    def test_at_rest(self, saved: FolderStore, ask: Callable[[], None]) -> None:
        with local(saved) as handle:
            offset, nbytes = handle["embedding"].payload.where[1:]  # type: ignore[attr-defined]
        ask_count = 20
        spoil(saved, offset + nbytes - 5)
        with pytest.raises(DigestError, match=SHOWN) as caught:
            ask()
        assert caught.value.key
        assert saved.counted() <= ask_count
        assert not saved.file("models/copy.h5").exists()
        assert saved.uploads() == []

    @pytest.mark.must("REMOTE-1")
    @pytest.mark.parametrize("ask", SAMPLED_WAYS)
    def test_replaced_at_every_request(self, saved: FolderStore, ask: Callable[[], None]) -> None:
        ask()
        other = saved.file("other")
        for number in range(1, saved.counted("get_suffix", "get_range")):
            saved.clear()
            shutil.copy(saved.file(PATH), other)
            saved.before[number] = lambda: other.replace(saved.file(PATH))
            with pytest.raises(ReplacedError, match=SHOWN):
                ask()
            saved.before.clear()
        assert saved.uploads() == []


OPTIONS = {"key": "AKIA-PUBLIC", "secret": "s3cr3t-word", "token": "t0ken-word"}


class TestHandles:
    def test_pickles_hold_no_secret(self, saved: FolderStore) -> None:
        url = "folder://user:pa55word@models/round.h5?X-Amz-Signature=5ign"
        location = parse_url(url, OPTIONS)
        secrets = ["s3cr3t", "t0ken", "pa55", "5ign"]
        assert not any(word in repr(location.display) + str(location.name) for word in secrets)
        with archive.open(URL, storage_options=OPTIONS) as handle:
            for thing in (handle, handle["mid.3"], handle.records):
                text = pickle.dumps(thing)
                assert not any(word.encode() in text for word in OPTIONS.values())
                assert not any(word in repr(thing) + repr(vars(handle)) for word in OPTIONS.values())
            again = pickle.loads(pickle.dumps(handle["mid.3"]))
            assert np.array_equal(again.numpy(), large()["mid.3"])
            assert copy.deepcopy(handle["mid.3"]).numpy().nbytes == 1_200_000
            with pickle.loads(pickle.dumps(handle)) as other:
                assert len(other) == len(handle)

    def test_a_pickle_of_another_version(self, saved: FolderStore) -> None:
        with archive.open(URL) as handle:
            text = pickle.dumps(handle)
        archive.save(small(3), URL)
        with pytest.raises(ReplacedError, match="another version"):
            pickle.loads(text).verify()

    def test_errors_hold_no_secret(self, store: FolderStore) -> None:
        with pytest.raises(archive.errors.MissingError) as caught:
            archive.open("folder://models/none.h5", storage_options=OPTIONS)
        assert not any(word in str(caught.value) for word in OPTIONS.values())


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a local save makes of all that a stream can know."""
    path = tmp_path_factory.mktemp("untied") / "local.h5"
    archive.save({key: array for key, array in large().items() if key != "tied"}, path, created=CREATED)
    data = path.read_bytes()
    path.unlink()
    return data


class TestSaving:
    @pytest.mark.parametrize("how", ["planned", "streamed", "create", "consumed", "consumed stream"])
    @pytest.mark.parametrize("multipart", [True, pytest.param(False, marks=pytest.mark.slow)])
    def test_equal_bytes_whichever_way(
        self, store: FolderStore, tmp_path: Path, untied: bytes, how: str, multipart: bool
    ) -> None:
        store.multipart = multipart
        arrays = large()
        del arrays["tied"]  # a stream cannot know
        spool = tmp_path / "spool"
        spool.mkdir()
        given: Any = iter(list(arrays.items())) if "stream" in how else dict(arrays)
        if how == "create":
            with archive.create(URL, created=CREATED, spool=spool) as writer:
                for key, array in arrays.items():
                    writer.add("model", key, array)
            report = writer.report
        else:
            report = archive.save(given, URL, created=CREATED, keep_input="consumed" not in how, spool=spool)
        assert report.url == "folder://models/round.h5"
        assert store.file(PATH).read_bytes() == untied
        assert list(spool.iterdir()) == []
        assert store.uploads() == []
        assert how != "consumed" or given == {}

    def test_small_archives_are_one_request(self, store: FolderStore) -> None:
        for multipart in (True, False):
            store.multipart = multipart
            store.clear()
            archive.save(small(30), URL, spool="/nowhere")
            assert store.kinds() == {"put": 1}

    def test_exclusive(self, store: FolderStore) -> None:
        archive.save(small(3), URL, overwrite=False)
        store.clear()
        with pytest.raises(ExistsError):
            archive.save(large(), URL, overwrite=False)
        assert store.kinds() == {"head": 1}
        store.exclusive = False
        with pytest.raises(UnsupportedURLError):
            archive.save(large(), "folder://models/new.h5", overwrite=False)
        assert not store.file("models/new.h5").exists()

    def test_an_exception_ends_the_upload(self, store: FolderStore) -> None:
        archive.save(small(3), URL)
        before = store.file(PATH).read_bytes()

        def interrupted() -> Iterator[Any]:
            for number in range(12):
                yield str(number), np.ones(1 << 20)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            archive.save(interrupted(), URL)
        assert store.counted("put_part") >= 2
        assert store.uploads() == []
        assert store.file(PATH).read_bytes() == before

    def test_an_exit_within_a_save_ends_the_upload(self, tmp_path: Path) -> None:
        code = f"""
import numpy as np, pathlib, pytest, sys
import archive
import archive.tools
from archive import tuning
from tests.storage.folderstore import FolderStore, reach
store = FolderStore(pathlib.Path({str(tmp_path)!r}))
reach(store, pytest.MonkeyPatch())
writer = archive.create({URL!r})
for number in range(12):
    writer.add("model", str(number), np.ones(1 << 20))
assert len(store.uploads()) == 1
"""
        subprocess.run([sys.executable, "-c", code], check=True, env=child_environment(), timeout=60)
        assert FolderStore(tmp_path).uploads() == []


class TestConsuming:
    def failing(self, store: FolderStore, broken: str) -> None:
        """Have the first request of a kind fail, and all after it but the ending of uploads."""
        original = store._request

        def request(what: str, path: str, nbytes: int = 0) -> Any:
            if what == broken:
                store.fail[len(store.asked)] = StorageError(
                    "the network is down", path=store.url(path), errno=101
                )
            return original(what, path, nbytes)

        store._request = request  # type: ignore[method-assign]

    @pytest.mark.parametrize("what", ["create_multipart", "put_part", "complete"])
    def test_nothing_consumed_is_lost(self, store: FolderStore, tmp_path: Path, what: str) -> None:
        spool = tmp_path / "spool"
        spool.mkdir()
        given = large()
        self.failing(store, what)
        with pytest.raises(StorageError, match="recover") as caught:
            archive.save(given, URL, keep_input=False, spool=spool)
        assert given == {}
        partial = caught.value.partial
        assert partial is not None
        assert Path(partial) == spool / "round.h5.partial"
        assert [path.name for path in spool.iterdir()] == ["round.h5.partial"]
        assert equal(archive.recover(partial).array_records["model"], large())
        assert store.uploads() == []
        assert not store.file(PATH).exists()

    def test_an_input_that_fails(self, store: FolderStore, tmp_path: Path) -> None:
        def arrays() -> Iterator[tuple[str, Any]]:
            yield from list(large().items())[:50]
            raise RuntimeError("no more")

        with pytest.raises(PartialSaveError) as caught:
            archive.save(arrays(), URL, keep_input=False, spool=tmp_path)
        assert caught.value.partial is not None
        assert len(archive.recover(caught.value.partial).array_records["model"]) == 50
        assert store.asked == []

    @pytest.mark.parametrize("kind", ["dict", "stream"])
    def test_without_a_local_file(self, store: FolderStore, tmp_path: Path, kind: str) -> None:
        given: Any = large()
        archive.save(
            given if kind == "dict" else iter(list(given.items())), URL, keep_input=False, spool=False
        )
        assert kind != "dict" or given == {}
        found = archive.load(URL).array_records["model"]
        assert equal(found, large())
        self.failing(store, "put_part")
        given = large()
        with pytest.raises(StorageError) as caught:
            archive.save(given, URL, keep_input=False, spool=False)
        assert caught.value.partial is None
        assert store.uploads() == []


def test_the_reader_hands_out_what_the_payload_asks(saved: FolderStore) -> None:
    with archive.open(URL) as handle:
        found = handle["mid.3"].payload
        assert isinstance(found, payload.StoredPayload)
        assert found.stored_range(1000, 1010).tobytes() == large()["mid.3"].tobytes()[1000:1010]
        assert found.digest
