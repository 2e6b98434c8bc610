"""A cache: fetched once, shared, killed, damaged, replaced, evicted, full, and read at random."""

from __future__ import annotations

import functools
import gc
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archive
from archive import system, tuning
from archive.errors import DigestError, ReplacedError, StorageError
from archive.storage.remote.cachedsource import CachedSource
from archive.storage.remote.cachefolder import BLOCK_BYTES, clear_cache, list_cache
from archive.storage.url import default_cache, parse_cache, parse_url
from archive.types import Mode
from tests.children import child_environment
from tests.storage.folderstore import FolderStore, reach

ROOT = Path(__file__).parents[3]
URL = "folder://m.h5"
ARRAYS = 5
EACH = 3 << 20


def model(seed: int = 0) -> dict[str, Any]:
    """Arrays that tell their number in every element; small ones behind them."""
    large = {f"large{number}": np.full(EACH // 8, number + seed, "f8") for number in range(ARRAYS)}
    return large | {f"small{number}": np.full(number + 1, number + seed, "i4") for number in range(40)}


_model = functools.cache(model)
"""To compare with."""


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The object that a save of the model makes, once; others are links to it, which nobody writes into."""
    store = FolderStore(tmp_path_factory.mktemp("master"))
    with pytest.MonkeyPatch.context() as patch:
        reach(store, patch)
        archive.save(model(), URL)
    path = store.file("m.h5")
    before = path.stat().st_mtime_ns
    yield path
    assert path.stat().st_mtime_ns == before
    path.unlink()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, master: Path) -> FolderStore:
    made = FolderStore(tmp_path / "store")
    reach(made, monkeypatch)
    made.root.mkdir()
    os.link(master, made.file("m.h5"))
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> Path:
    """The one cache file."""
    (found,) = cache.glob("*.bytes")
    return found


def read_all(cache: Path, seed: int = 0, **options: Any) -> str:
    """Read and compare everything; return how."""
    with archive.open(URL, cache=cache, **options) as handle:
        for key, expected in _model(seed).items():
            assert np.array_equal(handle[key].numpy(), expected), key
        return handle.info.access


def where(key: str) -> tuple[int, int]:
    """Offset and length of an array in the object."""
    with archive.open(URL) as handle:
        _, offset, nbytes = handle[key].payload.where  # type: ignore[attr-defined]
    return offset, nbytes


def child(job: str, store: FolderStore, cache: Path, *rest: str, **env: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "tests.storage.cachechild",
        job,
        str(store.root),
        str(cache),
    ]
    return subprocess.Popen(
        [*command, *rest],
        cwd=ROOT,
        env=child_environment(**env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str], line: str = "\n") -> dict[str, Any]:
    out, complaint = process.communicate(line, timeout=110)
    assert process.returncode == 0, complaint[-2000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def test_second_open_costs_one_small_request(store: FolderStore, cache: Path) -> None:
    assert read_all(cache) == "cache"
    assert store.nbytes() <= 1.01 * store.file("m.h5").stat().st_size
    assert store.counted("get_suffix") == 1
    store.clear()
    assert read_all(cache) == "cache"
    assert store.asked == [("get_suffix", "m.h5", 256)]


@pytest.mark.needs("/proc/self")
def test_views_are_of_the_map(store: FolderStore, cache: Path) -> None:
    with archive.open(URL, cache=cache) as handle:
        first, second = handle["large1"].numpy(), handle["large1"].numpy()
        assert np.shares_memory(first, second)
        assert not first.flags.writeable
        part = handle["large1"][5:9]
        assert np.shares_memory(first, part)
    assert first[7] == 1.0  # and outlive the handle
    maps = Path("/proc/self/maps").read_text()
    assert kept(cache).name in maps
    del first, second, part, handle
    gc.collect()
    assert kept(cache).name not in Path("/proc/self/maps").read_text()


def test_copy_on_write(store: FolderStore, cache: Path) -> None:
    with archive.open(URL, mode="c", cache=cache) as handle:
        changed = handle["large2"].numpy()
        changed[:] = -1
        assert handle["large2"].numpy()[0] == 2.0
    read_all(cache)


def test_a_slice_fetches_its_segment_alone(store: FolderStore, cache: Path) -> None:
    archive.save({"w": np.zeros(40 << 20, np.uint8)}, URL)
    store.clear()
    with archive.open(URL, cache=cache) as handle:
        handle["w"][9 << 20 : (9 << 20) + 5]
        assert store.counted("get_range") == 1
        assert store.nbytes("get_range") <= (128 << 10) + BLOCK_BYTES
    (entry,) = list_cache(str(cache))
    assert 128 << 10 <= entry.cached_bytes < 256 << 10
    assert kept(cache).stat().st_blocks * 512 < 1 << 20  # sparse


def test_load_verify_and_drain(store: FolderStore, cache: Path) -> None:
    """Each fetches once through a cold cache, and nothing from a warm one."""
    size = store.file("m.h5").stat().st_size
    expected = model()

    def load() -> None:
        records = archive.load(URL, cache=cache)
        assert all(
            np.array_equal(records.array_records["model"][key].numpy(), value)
            for key, value in expected.items()
        )

    def verify() -> None:
        assert archive.verify(URL, cache=cache)

    def drain() -> None:
        with archive.open(URL, cache=cache) as handle:
            for (_, key), array in handle.drain():
                assert np.array_equal(array.numpy(), expected[key])

    # an opening of 64 KiB; load and verify fetch the rest at once, drain by 4 MiB as it goes
    for action, requests in ((load, 2), (verify, 2), (drain, 1 + -(-size // tuning.PREFETCH_BYTES))):
        clear_cache(str(cache))
        store.clear()
        action()
        assert store.nbytes() <= 1.01 * size
        assert store.counted() == requests
        store.clear()
        action()
        # verify also compares padding that no array needed
        assert store.nbytes() <= 256 + BLOCK_BYTES


def test_drain_fetches_ahead(store: FolderStore, cache: Path) -> None:
    archive.save({f"w{number}": np.full(10 << 20, number, np.uint8) for number in range(6)}, URL)
    store.clear()
    store.delay = 0.05
    with archive.open(URL, cache=cache) as handle:
        assert [int(array.numpy()[-1]) for _, array in handle.drain()] == list(range(6))
    assert store.most_at_once > 1


def test_large_array_is_brought_side_by_side(store: FolderStore, cache: Path) -> None:
    archive.save({"w": np.arange(100 << 17)}, URL)
    store.clear()
    store.delay = 0.05
    with archive.open(URL, cache=cache) as handle:
        assert handle["w"].numpy()[-1] == (100 << 17) - 1
    assert store.most_at_once > 1
    assert store.counted("get_range") <= 7


def test_no_tag_no_cache(store: FolderStore, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing could tell a later version from it: nothing is kept, and info says so."""
    monkeypatch.undo()
    url = f"memory://{cache.name}-{os.getpid()}/m.h5"
    archive.save(model(), url)
    with archive.open(url, cache=cache) as handle:
        assert np.array_equal(handle["large3"].numpy(), model()["large3"])
        assert handle.info.access == "remote"
    assert list(cache.iterdir()) == []


def test_local_archives_need_none(tmp_path: Path, cache: Path) -> None:
    archive.save(model(), tmp_path / "m.h5")
    with archive.open(tmp_path / "m.h5", cache=cache) as handle:
        assert handle.info.access == "mmap"
    assert not cache.exists()


def test_pread(store: FolderStore, cache: Path) -> None:
    for _ in range(2):
        with archive.open(URL, cache=cache, access="pread") as handle:
            got = handle["large4"].numpy()
            assert got[0] == 4.0
            assert handle.info.access == "cache"
    assert store.counted("get_range") == 1


# processes


def test_two_processes_share(store: FolderStore, cache: Path) -> None:
    crowd = [child("read", store, cache, STORE_WAIT="1", STORE_DELAY="0.02") for _ in range(3)]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert all(found["right"] and found["access"] == "cache" for found in map(told, crowd))
    assert len(list(cache.glob("*.bytes"))) == 1
    after = told(child("read", store, cache))
    assert (after["right"], after["requests"], after["bytes"]) == (True, 1, 256)


@pytest.mark.parametrize("at", [1, *(pytest.param(at, marks=pytest.mark.slow) for at in range(3, 15, 2))])
def test_killed_while_it_writes(store: FolderStore, cache: Path, at: int) -> None:
    """SIGKILL with half of a write of data or marks done: the next one reads right, and fetches the rest."""
    for write in (at, at + 1):
        clear_cache(str(cache))
        process = child("killed", store, cache, str(write))
        process.communicate("\n", timeout=60)
        died = process.returncode == -9
        store.clear()
        assert read_all(cache) == "cache"
        if not died:
            assert store.nbytes() == 256
    names = [path.suffix for path in cache.iterdir()]
    assert sorted(names) == [".bytes", ".json"]


def test_pickled_handles_share(store: FolderStore, cache: Path) -> None:
    with archive.open(URL, cache=cache) as handle:
        handle["large1"].numpy()
        store.clear()
        again = pickle.loads(pickle.dumps(handle))
        assert np.array_equal(again["large1"].numpy(), model()["large1"])
        assert again.info.access == "cache"
        again.close()
    assert store.nbytes("get_range") == 0


# damage


@pytest.mark.parametrize("access", ["auto", "pread"])
@pytest.mark.parametrize("key", ["large0", "large3", "small7"])
def test_flipped_bit_is_healed(store: FolderStore, cache: Path, key: str, access: str) -> None:
    read_all(cache)
    offset, nbytes = where(key)
    flip(kept(cache), offset + nbytes // 2)
    store.clear()
    assert read_all(cache, access=access) == "cache"
    assert store.counted("get_range") == 1
    store.clear()
    read_all(cache, access=access)
    assert store.nbytes() == 256


@pytest.mark.parametrize("back", [1, 100, 255, 300, 3000, 9000])
def test_flipped_bit_in_the_index_is_healed(store: FolderStore, cache: Path, back: int) -> None:
    read_all(cache)
    flip(kept(cache), store.file("m.h5").stat().st_size - back)
    assert read_all(cache) == "cache"
    store.clear()
    read_all(cache)
    assert store.nbytes() == 256


def test_mark_without_bytes_is_healed(store: FolderStore, cache: Path) -> None:
    """What a power cut may leave: marks reached the disk, and bytes did not."""
    read_all(cache)
    size, path = store.file("m.h5").stat().st_size, kept(cache)
    with path.open("r+b") as file:
        file.write(bytes(size))
    store.clear()
    assert read_all(cache) == "cache"
    assert store.nbytes() <= 1.01 * size
    assert archive.verify(URL, cache=cache)
    clear_cache(str(cache))
    read_all(cache)
    with kept(cache).open("r+b") as file:
        file.write(bytes(where("large4")[0]))
    assert read_all(cache, verify="off") == "cache"


def test_marks_that_are_none(store: FolderStore, cache: Path) -> None:
    read_all(cache)
    size, path = store.file("m.h5").stat().st_size, kept(cache)
    marks = -(-size // BLOCK_BYTES)
    with path.open("r+b") as file:
        file.seek(marks * BLOCK_BYTES)
        file.write(np.random.default_rng(1).integers(0, 256, marks, np.uint8).tobytes())
    assert read_all(cache) == "cache"


def test_damaged_at_its_source(store: FolderStore, cache: Path) -> None:
    """Fetched again once, and then it is said."""
    offset, _ = where("large1")
    version = store._version("m.h5")
    store._version = lambda path: version  # type: ignore[method-assign]
    shutil.copy(store.file("m.h5"), store.file("copy"))
    store.file("copy").replace(store.file("m.h5"))
    flip(store.file("m.h5"), offset + 9)
    for access in ("auto", "pread"):
        store.clear()
        with archive.open(URL, cache=cache, access=access) as handle:
            with pytest.raises(DigestError, match="large1"):
                handle["large1"].numpy()
            assert store.counted("get_range") <= 3
            assert handle["large2"].numpy()[0] == 2.0
    assert not archive.verify(URL, cache=cache)


def test_cut_file_is_made_anew(store: FolderStore, cache: Path) -> None:
    read_all(cache)
    os.truncate(kept(cache), 5000)
    assert read_all(cache) == "cache"


def test_cut_while_it_is_open(store: FolderStore, cache: Path) -> None:
    """The marks are its end, so that a cut is seen before a page behind it is touched."""
    with archive.open(URL, cache=cache) as handle:
        os.truncate(kept(cache), BLOCK_BYTES)
        source = handle._reader.source
        assert isinstance(source, CachedSource)
        offset = 8 << 10
        assert bytes(source.read(offset, 8)) == store.file("m.h5").read_bytes()[offset : offset + 8]
        assert not source.mapped


# versions


def test_replaced_object(store: FolderStore, cache: Path) -> None:
    with archive.open(URL, cache=cache) as old:
        assert np.array_equal(old["large1"].numpy(), model()["large1"])
        archive.save(model(100), URL)
        assert read_all(cache, seed=100) == "cache"
        assert len(list(cache.glob("*.bytes"))) == 2
        # what it has, it keeps; what it has not is gone for ever
        assert np.array_equal(old["large1"].numpy(), model()["large1"])
        with pytest.raises(ReplacedError):
            old["large2"].numpy()
    store.clear()
    assert read_all(cache, seed=100) == "cache"
    assert store.nbytes() == 256


def test_same_tag_another_object(store: FolderStore, cache: Path) -> None:
    """A tag that is no more than a date: the end of the object tells."""
    version = store._version("m.h5")
    read_all(cache)
    archive.save(model(7), URL)
    store._version = lambda path: version  # type: ignore[method-assign]
    assert store.file("m.h5").stat().st_size == version.nbytes
    read_all(cache, seed=7)
    read_all(cache, seed=7, verify="off")


def test_evicted_under_a_handle(store: FolderStore, cache: Path) -> None:
    with archive.open(URL, cache=cache) as handle:
        view = handle["large1"].numpy()
        (removed,) = clear_cache(str(cache))
        assert removed.cached_bytes >= EACH
        assert list(cache.iterdir()) == []
        assert (view == 1.0).all()
        assert (handle["large2"].numpy() == 2.0).all()
        store.clear()
        assert (handle["large2"].numpy() == 2.0).all()
        assert store.counted() == 0
        assert read_all(cache) == "cache"


# the folder


def test_permissions(store: FolderStore, cache: Path) -> None:
    mask = os.umask(0)
    try:
        read_all(cache)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o600}


def test_names_say_nothing(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    url = "folder://u:secret@b/..%2f..%2fetc?X-Amz-Signature=secret"
    path = url.partition("://")[2]
    archive.save(model(), url)
    monkeypatch.setattr(store, "url", lambda path: parse_url(url).display)
    with archive.open(url, cache=cache) as handle:
        assert handle["large1"].numpy()[0] == 1.0
    assert store.file(path).exists()
    for file in cache.iterdir():
        assert set(file.stem) <= set("0123456789abcdef-")
        assert file.suffix == ".bytes" or "secret" not in file.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "store"]


@pytest.mark.parametrize("kind", ["file", "sidecar"])
def test_links_are_not_written_through(store: FolderStore, cache: Path, tmp_path: Path, kind: str) -> None:
    read_all(cache)
    path = kept(cache) if kind == "file" else kept(cache).with_suffix(".json")
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    path.symlink_to(victim)
    read_all(cache)
    assert not any(victim.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    read_all(cache)
    assert not (tmp_path / "nowhere").exists()


def test_fifo_in_its_place(store: FolderStore, cache: Path) -> None:
    read_all(cache)
    path = kept(cache)
    path.unlink()
    os.mkfifo(path)
    assert read_all(cache) == "cache"


def test_folder_that_others_write(store: FolderStore, cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(StorageError, match="chmod 700"):
        archive.open(URL, cache=cache)
    cache.rmdir()
    cache.write_text("a file")
    with pytest.raises(StorageError, match="cannot be used"):
        archive.open(URL, cache=cache)


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDARCHIVE_CACHE", str(tmp_path))
    assert default_cache() == str(tmp_path) == parse_cache(True)
    monkeypatch.delenv("FEDARCHIVE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == "/somewhere/fedarchive"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/u")
    assert default_cache() in ("/home/u/.cache/fedarchive", "/home/u/Library/Caches/fedarchive")
    assert parse_cache(None) == parse_cache(False) == ""
    for wrong in ("", "s3://bucket", "a\0b"):
        with pytest.raises(ValueError, match="not a local folder"):
            parse_cache(wrong)
    with pytest.raises(TypeError):
        parse_cache(b"x")  # type: ignore[arg-type]


# full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount 6 MB of tmpfs: a page of it that was never written kills who touches it when it is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid():
        pytest.skip("needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no mounts here: {mounted.stderr}")
    try:
        yield folder
    finally:
        gc.collect()
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["r", "c"])
@pytest.mark.parametrize("free", [0, 4096, 300_000, None])
def test_full_disk(store: FolderStore, small_disk: Path, free: int | None, mode: Mode) -> None:
    """ENOSPC at open, or after the second array: memory from then on, every byte right, no signal."""
    cache = small_disk / "cache"
    if free is not None:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free - 16384))
    with archive.open(URL, cache=cache, mode=mode) as handle:
        for _ in range(2):
            for key, expected in model().items():
                assert np.array_equal(handle[key].numpy(), expected), key
        source = handle._reader.source
        assert isinstance(source, CachedSource)
        assert not source.keeps
        assert not source.mapped
        assert handle.info.access == "remote"
    with archive.open(URL, cache=cache) as handle:
        assert [int(array.numpy().flat[0]) for _, array in handle.drain()][:5] == [0, 1, 2, 3, 4]
    assert archive.load(URL, cache=cache).array_records["model"]["large4"].numpy()[-1] == 4.0
    assert archive.verify(URL, cache=cache)


@pytest.mark.parametrize("at", range(12))
def test_every_write_fails_once(
    store: FolderStore, cache: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The same at each write, data and marks, without a mount."""
    real, count = system.pwrite, -1

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(28, os.strerror(28))
        return real(fd, data, offset)

    monkeypatch.setattr(system, "pwrite", pwrite)
    assert read_all(cache) in ("cache", "remote")
    monkeypatch.undo()
    reach(store, monkeypatch)
    assert read_all(cache) == "cache"


# equal to the source


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderStore, bytes]:
    """An object that is no archive, of a length that no block divides."""
    store = FolderStore(tmp_path_factory.mktemp("bare"))
    data = np.random.default_rng(0).integers(0, 256, 3_000_017, np.uint8).tobytes()
    store.put("o", data)
    return store, data


ranges = st.tuples(st.integers(0, 3_000_017), st.one_of(st.integers(0, 9000), st.integers(0, 3_000_017)))
steps = st.tuples(st.sampled_from(["read", "read", "private", "into", "reread", "release"]), ranges)


@pytest.mark.parametrize("access", ["mmap", pytest.param("pread", marks=pytest.mark.slow)])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(work=st.lists(steps, min_size=50, max_size=50))
def test_random_reads(
    bare: tuple[FolderStore, bytes],
    access: str,
    work: list[tuple[str, tuple[int, int]]],
    tmp_path_factory: Any,
) -> None:
    """2,000 reads of any kind are those of the source, and no block is fetched twice."""
    store, data = bare
    folder = tmp_path_factory.mktemp("cache")
    store.clear()
    source = CachedSource(store, "o", str(folder), access)
    again = 0
    for what, (start, nbytes) in work:
        nbytes = min(nbytes, len(data) - start)
        expected = data[start : start + nbytes]
        if what == "read":
            assert source.read(start, nbytes).tobytes() == expected
        elif what == "private":
            found = source.private(start, nbytes)
            assert found.tobytes() == expected
            found[:] = 0
        elif what == "into":
            out = np.empty(nbytes, np.uint8)
            source.read_into(start, out)
            assert out.tobytes() == expected
        elif what == "reread":
            reread = source.reread(start, nbytes)
            assert reread is not None
            assert reread.tobytes() == expected
            again += nbytes + 2 * BLOCK_BYTES
        else:
            source.release(start, nbytes)
    # gaps of one block are fetched along
    assert store.nbytes() <= len(data) + (512 << 10) + again + BLOCK_BYTES * store.counted() * 2
    source.close()
    shutil.rmtree(folder)


def test_empty_and_tiny_objects(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    for nbytes in (0, 1, 255, 256, 257, 4095, 4096, 4097):
        data = os.urandom(nbytes)
        store.put("o", data)
        for _ in range(2):
            source = CachedSource(store, "o", str(tmp_path / "cache"), "auto")
            assert source.read(0, nbytes).tobytes() == data
            assert source.private(0, nbytes).tobytes() == data
            source.close()


# memory


@pytest.mark.slow
@pytest.mark.parametrize("job", ["touch", "drain", "verify"])
def test_memory_stays_small(
    store: FolderStore, cache: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 GB through the cache, cold and warm: what is mapped is no memory of ours."""
    each = 64 << 20
    archive.save(((f"w{number}", np.zeros(each, np.uint8)) for number in range(16)), URL)
    cold = told(child(job, store, cache))
    warm = told(child(job, store, cache))
    with capsys.disabled():
        sys.stdout.write(f"\n    [{job}: cold {cold}, warm {warm}]\n")
    assert cold["extra"] < 192 << 20
    assert warm["extra"] < 32 << 20
    assert warm["bytes"] <= 256 + 2 * BLOCK_BYTES


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
