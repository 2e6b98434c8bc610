"""A limit of the cache folder: what goes first, what stays, and archives that are larger themselves."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.storage.remote.cachefolder import clear_cache, list_cache, prune_cache
from archive.types import Access
from tests.storage.folderstore import FolderStore, reach

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
NAMES = ("a", "b", "c")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """Three archives of two arrays of 1 MiB each."""
    made = FolderStore(tmp_path / "store")
    reach(made, monkeypatch)
    for number, name in enumerate(NAMES):
        arrays = {key: np.full(MIB, number, np.uint8) for key in ("v", "w")}
        archive.save(arrays, f"folder://{name}.h5")
    return made


def kept(cache: Path) -> list[str]:
    """Names of the archives of which something is kept, the one that was used last first."""
    return [entry.url.removeprefix("folder://").removesuffix(".h5") for entry in list_cache(str(cache))]


def kept_bytes(cache: Path) -> int:
    return sum(entry.cached_bytes for entry in list_cache(str(cache)))


def read(name: str, cache: Path, cache_bytes: int | None = None) -> None:
    with archive.open(f"folder://{name}.h5", cache=cache, cache_bytes=cache_bytes) as handle:
        for key in ("v", "w"):
            assert (handle[key].numpy() == NAMES.index(name)).all()


@pytest.mark.needs("fcntl")
def test_those_used_longest_ago_go_first(store: FolderStore, cache: Path) -> None:
    for name in ("a", "b", "a", "c"):
        read(name, cache, 5 * MIB)
    assert kept(cache) == ["c", "a"]
    assert kept_bytes(cache) <= 5 * MIB
    read("b", cache)  # without a limit nothing is removed
    assert kept(cache) == ["b", "c", "a"]
    with archive.open("folder://b.h5", cache=cache, cache_bytes=3 * MIB):
        assert kept(cache) == ["b"]  # as it is opened
    assert kept(cache) == ["b"]


@pytest.mark.needs("fcntl")
def test_what_is_open_stays(store: FolderStore, cache: Path) -> None:
    with archive.open("folder://a.h5", cache=cache) as handle:
        view = handle["v"].numpy()
        for name in ("b", "c"):
            read(name, cache, 2 * MIB)
        assert kept(cache) == ["a"]
        store.clear()
        assert (handle["v"].numpy() == 0).all()
        assert store.asked == []
    read("c", cache, 2 * MIB)
    assert kept(cache) == ["a"]  # which is mapped still
    assert (view == 0).all()
    del view, handle
    gc.collect()
    read("c", cache, 2 * MIB)
    assert kept(cache) == ["c"]


@pytest.mark.needs("fcntl")
def test_what_another_process_has_open_stays(store: FolderStore, cache: Path) -> None:
    read("a", cache)
    (path,) = cache.glob("*.bytes")
    code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.flock(f, fcntl.LOCK_SH); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert prune_cache(str(cache), 0) == []
        assert kept(cache) == ["a"]
        process.communicate("\n")
    assert [entry.url for entry in prune_cache(str(cache), 0)] == ["folder://a.h5"]


@pytest.mark.needs("fcntl")
def test_a_process_that_reads_holds_its_file(store: FolderStore, cache: Path) -> None:
    """The lock above is what `archive.open` takes, in any process."""
    with archive.open("folder://a.h5", cache=cache) as handle:
        handle["v"].numpy()
        code = (
            "import sys; from archive.storage.remote.cachefolder import prune_cache, clear_cache\n"
            "print(len(prune_cache(sys.argv[1], 0)), len(clear_cache(sys.argv[1])))"
        )
        command = [sys.executable, "-c", code, str(cache)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.split() == ["0", "1"]  # who clears means all


@pytest.mark.parametrize("access", ["mmap", "pread"])
@pytest.mark.parametrize("limit", [0, 4096, MIB, MIB + MIB // 2])
@pytest.mark.needs("fcntl")
def test_an_archive_that_is_larger_itself(
    store: FolderStore, cache: Path, limit: int, access: Access
) -> None:
    read("b", cache)
    for _ in range(2):
        store.clear()
        with archive.open("folder://a.h5", cache=cache, cache_bytes=limit, access=access) as handle:
            for key in ("v", "w"):
                assert (handle[key].numpy() == 0).all()
            assert (handle["v"].numpy() == 0).all()
        assert kept_bytes(cache) <= limit
        assert "b" not in kept(cache)
    if limit > MIB:
        assert store.nbytes() < 2 * MIB  # some of it was kept
    loaded = archive.load("folder://a.h5", cache=cache, cache_bytes=limit)
    assert (loaded.array_records["model"]["w"].numpy() == 0).all()
    assert archive.verify("folder://a.h5", cache=cache, cache_bytes=limit)
    assert kept_bytes(cache) <= limit


def test_threads_share_a_limit(store: FolderStore, cache: Path) -> None:
    with archive.open("folder://a.h5", cache=cache, cache_bytes=MIB) as handle:
        with ThreadPoolExecutor(8) as threads:
            parts = list(threads.map(lambda at: handle["w"][at : at + 9999], range(0, MIB, 4999)))
        assert not any(part.any() for part in parts)
    assert 0 < kept_bytes(cache) <= MIB


@pytest.mark.needs("fcntl")
def test_an_archive_that_was_kept_whole_meets_a_smaller_limit(store: FolderStore, cache: Path) -> None:
    read("a", cache)
    read("a", cache, MIB)
    assert kept_bytes(cache) <= MIB
    read("a", cache, MIB)
    assert kept_bytes(cache) <= MIB


def test_a_limit_that_cannot_be_meant(store: FolderStore, cache: Path) -> None:
    for wrong, error in ((-1, ValueError), ("10GB", TypeError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="cache_bytes must be"):
            archive.open("folder://a.h5", cache=cache, cache_bytes=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give cache= too"):
        archive.open("folder://a.h5", cache_bytes=5)
    archive.save({"w": np.zeros(3)}, cache.parent / "local.h5")
    archive.load(cache.parent / "local.h5", cache=cache, cache_bytes=5)  # a local file needs none
    assert not cache.exists()


def test_prune_and_clear_of_no_folder(tmp_path: Path) -> None:
    assert prune_cache(str(tmp_path / "none"), 0) == clear_cache(str(tmp_path / "none")) == []
