"""Objects written in parts: complete or not there, in order, in bounded memory, never left behind."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import ArchiveError, ExistsError, StorageError, UnsupportedURLError
from archive.storage.local.journal import Journal
from archive.storage.remote.staging import SpooledPartialFile, SpooledSink, parse_spool
from archive.storage.remote.upload import MAX_PARTS, RemoteSink, part_size
from archive.tuning import PART_BYTES, PARTS
from tests.children import join_threads
from tests.storage.folderstore import FolderStore

MiB = 1 << 20
MAX_PART = 5 << 30


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


RANDOM = np.random.default_rng(0).integers(0, 256, 1_000_003, np.uint8)


def content(nbytes: int) -> np.ndarray[Any, Any]:
    """Return bytes that are others at the same place of every part."""
    return np.resize(RANDOM, nbytes)


def write(sink: Any, data: np.ndarray[Any, Any], step: int, start: int = 0) -> None:
    for at in range(start, len(data), step):
        sink.write(data[at : at + step], at)


@given(st.integers(1, 5 * 10**12))
def test_parts_of_known_size_are_few_enough(total: int) -> None:
    size = part_size(1, total)
    assert size >= PART_BYTES
    assert size % MiB == 0
    assert -(-total // size) <= 9_000
    assert size == PART_BYTES or (size - MiB) * 9_000 < total  # and no larger than that needs


def test_parts_of_unknown_size_reach_5_tb() -> None:
    sizes = [part_size(number) for number in range(1, MAX_PARTS + 1)]
    reached = np.cumsum(sizes)
    last = int(np.argmax(reached >= 5 * 10**12))
    assert last < MAX_PARTS
    assert max(sizes[: last + 1]) <= MAX_PART
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("nbytes", [1, 4096, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 5 * PART_BYTES + 77])
@pytest.mark.parametrize("known", [True, False])
def test_objects_come_back(store: FolderStore, nbytes: int, known: bool) -> None:
    data = content(nbytes)
    sink = RemoteSink(store, "a/model.h5", overwrite=True, nbytes=nbytes if known else 0)
    write(sink, data, 5 * MiB + 3)
    assert not store.file("a/model.h5").exists()
    sink.publish()
    sink.discard()
    assert store.file("a/model.h5").read_bytes() == data.tobytes()
    small = nbytes <= PART_BYTES
    assert store.kinds() == (
        {"put": 1} if small else {"create_multipart": 1, "put_part": -(-nbytes // PART_BYTES), "complete": 1}
    )
    assert store.uploads() == []


@pytest.mark.parametrize("nbytes", [4097, PART_BYTES, PART_BYTES + 1, 4 * PART_BYTES + 5])
def test_the_head_comes_last(store: FolderStore, nbytes: int) -> None:
    data = content(nbytes)
    sink = RemoteSink(store, "model.h5", overwrite=True)
    write(sink, data, 7 * MiB, start=4096)
    sink.write(bytes(data[:4096]), 0)
    sink.publish()
    assert store.file("model.h5").read_bytes() == data.tobytes()
    assert store.uploads() == []


def test_what_is_not_written_front_to_back_is_refused(store: FolderStore) -> None:
    sink = RemoteSink(store, "model.h5", overwrite=True)
    sink.write(bytes(100), 4096)
    with pytest.raises(StorageError, match="byte 4196 is next"):
        sink.write(b"x", 5000)
    with pytest.raises(StorageError, match="head was never written"):
        sink.publish()
    sink.discard()
    assert store.asked == []


def test_any_buffer_is_taken(store: FolderStore) -> None:
    """Byte orders, complex numbers and 0-d arrays: what a memoryview cannot cast."""
    arrays = [
        np.arange(3, dtype=">i4"),
        np.ones((2, 2), "c16"),
        np.array(7),
        np.zeros(2, "S3"),
    ]
    sink = RemoteSink(store, "model.h5", overwrite=True)
    offset = 0
    for array in arrays:
        sink.write(array, offset)
        offset += array.nbytes
    sink.publish()
    assert store.file("model.h5").read_bytes() == b"".join(array.tobytes() for array in arrays)


def test_parts_are_sent_side_by_side_and_are_few(store: FolderStore) -> None:
    store.delay = 0.05
    data = content(8 * PART_BYTES)
    sink = RemoteSink(store, "model.h5", overwrite=True, nbytes=len(data))
    write(sink, data, 16 * MiB)
    sink.publish()
    assert 2 <= store.most_at_once <= PARTS
    assert store.file("model.h5").read_bytes() == data.tobytes()


def test_the_first_failure_stops_the_save(store: FolderStore) -> None:
    store.fail[2] = StorageError("no more space", path="folder://model.h5", errno=28)
    data = content(PART_BYTES)
    sink = RemoteSink(store, "model.h5", overwrite=True)

    def forty() -> None:
        for number in range(40):
            sink.write(data, number * PART_BYTES)

    with pytest.raises(StorageError, match="no more space"):
        forty()
    assert store.counted("put_part") <= 2 + PARTS
    sink.discard()
    assert store.uploads() == []


@pytest.mark.parametrize("way", ["discard", "forget"])
def test_uploads_are_ended(store: FolderStore, way: str) -> None:
    sink = RemoteSink(store, "model.h5", overwrite=True)
    write(sink, content(3 * PART_BYTES), MiB)
    assert len(store.uploads()) == 1
    if way == "discard":
        sink.discard()
    del sink
    gc.collect()
    join_threads("fedarchive-abort")
    assert store.uploads() == []
    assert not store.file("model.h5").exists()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("fedarchive-upload")] == []


def test_ending_is_tried_again(store: FolderStore) -> None:
    sink = RemoteSink(store, "model.h5", overwrite=True)
    write(sink, content(3 * PART_BYTES), MiB)
    while store.counted("put_part") < 2:
        pass
    store.fail[store.counted()] = StorageError("not now")
    store.fail[store.counted() + 1] = StorageError("nor now")
    sink.discard()
    assert store.counted("abort") == 3
    assert store.uploads() == []


class TestExclusive:
    def test_an_object_that_is_there(self, store: FolderStore) -> None:
        store.put("model.h5", b"old")
        with pytest.raises(ExistsError):
            RemoteSink(store, "model.h5", overwrite=False)
        assert store.kinds() == {"put": 1, "head": 1}

    @pytest.mark.parametrize("nbytes", [1000, 3 * PART_BYTES])
    def test_an_object_that_appears_meanwhile(self, store: FolderStore, nbytes: int) -> None:
        sink = RemoteSink(store, "model.h5", overwrite=False)
        write(sink, content(nbytes), MiB)
        store.put("model.h5", b"theirs")
        with pytest.raises(ExistsError):
            sink.publish()
        sink.discard()
        assert store.file("model.h5").read_bytes() == b"theirs"
        assert store.uploads() == []

    @pytest.mark.parametrize("kind", [RemoteSink, SpooledSink, SpooledPartialFile])
    def test_a_store_that_ignores_preconditions(self, tmp_path: Path, kind: Any) -> None:
        store = FolderStore(tmp_path, exclusive=False)
        extra = {} if kind is RemoteSink else {"folder": str(tmp_path)}
        with pytest.raises(UnsupportedURLError, match="overwrite=True under a name"):
            kind(store, "model.h5", overwrite=False, **extra)
        assert store.kinds() == {"head": 1}
        kind(store, "model.h5", overwrite=True, **extra).discard()


@pytest.mark.parametrize("known", [True, False])
def test_without_parts_it_is_collected_in_memory(tmp_path: Path, known: bool) -> None:
    store = FolderStore(tmp_path, multipart=False)
    data = content(2 * PART_BYTES + 5)
    sink = RemoteSink(store, "model.h5", overwrite=True, nbytes=len(data) if known else 0)
    write(sink, data, MiB, start=4096)
    sink.write(data[:4096], 0)
    sink.publish()
    assert store.kinds() == {"put": 1}
    assert store.file("model.h5").read_bytes() == data.tobytes()


@pytest.mark.parametrize("multipart", [True, False])
@pytest.mark.parametrize("kind", [SpooledSink, SpooledPartialFile])
def test_spooled_files_go(tmp_path: Path, kind: Any, multipart: bool) -> None:
    store = FolderStore(tmp_path / "store", multipart=multipart)
    folder = tmp_path / "spool"
    folder.mkdir()
    data = content(2 * PART_BYTES + 5)
    for publish in (False, True):
        sink = kind(store, "a/model.h5", overwrite=True, folder=str(folder))
        sink.reserve(len(data))
        write(sink, data, MiB)
        assert len(list(folder.iterdir())) == 1
        if publish:
            sink.publish()
        sink.discard()
        assert list(folder.iterdir()) == []
    assert store.file("a/model.h5").read_bytes() == data.tobytes()
    assert store.uploads() == []


def test_what_spool_may_be(tmp_path: Path) -> None:
    assert parse_spool(False) is None
    assert parse_spool(tmp_path) == str(tmp_path)
    assert parse_spool(True)
    for wrong in (3, None, b"folder"):
        with pytest.raises(TypeError):
            parse_spool(wrong)  # type: ignore[arg-type]


def test_the_spool_folder_must_be_there(store: FolderStore, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="folder does not exist"):
        SpooledSink(store, "model.h5", overwrite=True, folder=str(tmp_path / "none"))


def test_an_upload_collected_where_its_parts_are_sent(store: FolderStore) -> None:
    """Garbage is collected in any thread, also in one that a part under way waits for."""
    arrived, collected, waited = threading.Event(), threading.Event(), list[bool]()

    def fill() -> None:
        sink = RemoteSink(store, "model.h5", overwrite=True)
        write(sink, content(2 * PART_BYTES), MiB)
        part = sink._parts._upload.put_part  # type: ignore[union-attr]

        def wait(number: int, data: Any) -> None:
            arrived.set()
            waited.append(collected.wait(10))
            part(number, data)

        sink._parts._pool.submit(lambda: wait(2, content(10)))
        assert arrived.wait(60)

    fill()
    gc.collect()
    collected.set()
    join_threads("fedarchive-abort")
    assert waited == [True]
    assert store.uploads() == []


@pytest.mark.parametrize("kind", [SpooledSink, SpooledPartialFile])
def test_spooled_files_are_their_owners_alone(store: FolderStore, tmp_path: Path, kind: Any) -> None:
    folder = tmp_path / "spool"
    (folder / "model").mkdir(parents=True)
    (folder / "model-2").symlink_to(tmp_path / "elsewhere")
    before = os.umask(0o022)
    try:
        sink = kind(store, "a/model", overwrite=True, folder=str(folder))
    finally:
        os.umask(before)
    (file,) = (path for path in folder.iterdir() if path.is_file())
    assert file.name in (".model-3.0.tmp", "model-3.partial")
    assert file.stat().st_mode & 0o777 == 0o600
    if isinstance(sink, SpooledPartialFile):
        journal = Journal(sink.partial, sink.owner)
        assert Path(journal.path).stat().st_mode & 0o777 == 0o600
        journal.remove()
    sink.write(b"some", 0)
    sink.publish()
    sink.discard()
    assert store.file("a/model").read_bytes() == b"some"
    assert sorted(path.name for path in folder.iterdir()) == ["model", "model-2"]
