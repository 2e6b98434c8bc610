"""``fedarchive cache``: what is listed, and what is removed."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.storage.remote.cachedsource import CachedSource
from tests.cli.conftest import Run
from tests.storage.folderstore import FolderStore, reach


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of two objects, the first last used two days ago, with an odd name in its sidecar."""
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    folder = tmp_path / "cache"
    for name in ("a", "b"):
        archive.save(
            {"w": np.zeros(1 << 20, np.uint8), "v": np.ones(1 << 20, np.uint8)}, f"folder://{name}.h5"
        )
        source = CachedSource(store, f"{name}.h5", str(folder), "auto")
        if name == "b":
            source.read(0, 1 << 20)
        source.close()
        if name == "a":
            (sidecar,) = folder.glob("*.json")
            facts = json.loads(sidecar.read_text())
            sidecar.write_text(json.dumps(facts | {"url": "folder://a\x1b[2J.h5"}))
            old = time.time() - 2 * 86400
            os.utime(sidecar, (old, old))
    return folder


def test_list(fedarchive: Run, cache: Path) -> None:
    done = fedarchive("cache", "ls", "--dir", cache)
    assert (done.returncode, done.stderr) == (0, "")
    header, first, second, total = done.stdout.splitlines()
    assert header.split() == ["cached", "of", "age", "last", "use", "url"]
    assert first.endswith("folder://b.h5")
    assert "2.0 MiB" in first
    assert second.endswith("2d        folder://a\\x1b[2J.h5")
    assert "64.0 KiB" in second
    assert total.startswith(f"{cache}: keeps 2 versions, ")
    told = json.loads(fedarchive("cache", "ls", "--dir", cache, "--json").stdout)
    assert told["dir"] == str(cache)
    assert [set(entry) for entry in told["entries"]] == [
        {"url", "tag", "bytes", "cached_bytes", "created", "used"}
    ] * 2
    assert told["entries"][0]["cached_bytes"] <= told["entries"][0]["bytes"]


def test_clear_what_is_old(fedarchive: Run, cache: Path) -> None:
    assert (
        len(
            json.loads(fedarchive("cache", "ls", "--dir", cache, "--older-than", "1d", "--json").stdout)[
                "entries"
            ]
        )
        == 1
    )
    done = fedarchive("cache", "clear", "--dir", cache, "--older-than", "1d")
    assert done.stdout.startswith(f"{cache}: removed 1 versions, 64.0 KiB")
    (entry,) = json.loads(fedarchive("cache", "ls", "--dir", cache, "--json").stdout)["entries"]
    assert entry["url"] == "folder://b.h5"


def test_prune_keeps_what_was_used_last(fedarchive: Run, cache: Path) -> None:
    names = sorted(path.name for path in cache.iterdir())
    done = fedarchive("cache", "prune", "--dir", cache, "--max-bytes", "1G")
    assert "removed 0 versions" in done.stdout
    assert sorted(path.name for path in cache.iterdir()) == names
    told = json.loads(fedarchive("cache", "prune", "--dir", cache, "--max-bytes", "1.15M", "--json").stdout)
    assert [entry["url"] for entry in told["removed"]] == ["folder://a\x1b[2J.h5"]
    (left,) = json.loads(fedarchive("cache", "ls", "--dir", cache, "--json").stdout)["entries"]
    assert left["url"] == "folder://b.h5"
    fedarchive("cache", "prune", "--dir", cache, "--max-bytes", "0")
    assert list(cache.iterdir()) == []


def test_clear_leaves_what_is_not_ours(fedarchive: Run, cache: Path) -> None:
    (cache / "notes.txt").write_text("mine")
    (cache / "0123.json").write_text("mine")
    (name,) = {path.stem for path in cache.glob("*.bytes")} - {next(iter(cache.glob("*.bytes"))).stem}
    (cache / f"{name}.0123456789abcdef.new").touch()
    (cache / f"{name}.bytes").unlink()  # leaves a sidecar without a file
    told = json.loads(fedarchive("cache", "clear", "--dir", cache, "--json").stdout)
    assert len(told["removed"]) == 1
    assert sorted(path.name for path in cache.iterdir()) == ["0123.json", "notes.txt"]


def test_default_folder(fedarchive: Run, cache: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = fedarchive("cache", "ls", env=environment | {"FEDARCHIVE_CACHE": str(cache)})
    assert "keeps 2 versions" in done.stdout
    home = {**environment, "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    home.pop("FEDARCHIVE_CACHE", None)
    done = fedarchive("cache", "clear", env=home)
    assert done.stdout == f"{tmp_path}/xdg/fedarchive: removed 0 versions, 0 bytes\n"
    assert not (tmp_path / "xdg").exists()


DEEP = "[" * 30_000 + "]" * 30_000


@pytest.mark.parametrize(
    "sidecar",
    [
        pytest.param(DEEP, id="deep"),
        pytest.param('{"url": {"a": [1]}, "tag": 5, "size": 1e999}', id="types"),
        pytest.param(f'{{"url": {DEEP[29_500:30_500]}}}', id="deep url", marks=pytest.mark.slow),
        pytest.param(f'{{"size": 1{"0" * 400}}}', id="size", marks=pytest.mark.slow),
        pytest.param(
            '{"size": -7, "created": "0001-01-01T00:00:00+05:00"}', id="first", marks=pytest.mark.slow
        ),
        pytest.param('{"created": "9999-12-31T23:59:59-05:00"}', id="last", marks=pytest.mark.slow),
        pytest.param('{"created": "0001-01-01T00:00:00"}', id="local", marks=pytest.mark.slow),
    ],
)
def test_sidecars_that_another_wrote(fedarchive: Run, cache: Path, sidecar: str) -> None:
    for path in cache.glob("*.json"):
        path.write_text(sidecar)
    done = fedarchive("cache", "ls", "--dir", cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(" unknown") == 2
    told = json.loads(fedarchive("cache", "ls", "--dir", cache, "--json").stdout)
    assert [entry["url"] for entry in told["entries"]] == ["", ""]
    assert fedarchive("cache", "clear", "--dir", cache).returncode == 0


def test_files_of_the_year_9999_and_of_before_christ(fedarchive: Run, cache: Path) -> None:
    """A file system of 64-bit seconds has them; others take the nearest that they have."""
    folder = Path("/dev/shm", f"fedarchive-{os.getpid()}")
    if not folder.parent.is_dir():
        pytest.skip("no file system of 64-bit seconds")
    shutil.copytree(cache, folder)
    try:
        folder.chmod(0o700)
        for path, seconds in zip(sorted(folder.glob("*.json")), (5e11, -1e12), strict=True):
            os.utime(path, (seconds, seconds))
        told = json.loads(fedarchive("cache", "ls", "--dir", folder, "--json").stdout)
        assert [entry["used"] for entry in told["entries"]] == [
            "1970 + 500000000000 s",
            "1970 - 1000000000000 s",
        ]
        assert fedarchive("cache", "ls", "--dir", folder).returncode == 0
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("arguments", [["cache"], ["cache", "drop"], ["cache", "ls", "--older-than", "1y"]])
def test_usage(fedarchive: Run, arguments: list[str]) -> None:
    done = fedarchive(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_folder_of_others(fedarchive: Run, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = fedarchive("cache", "clear", "--dir", tmp_path / "open")
    assert done.returncode == 2
    assert "chmod 700" in done.stderr


@pytest.mark.parametrize("folder", ["s3://bucket/cache", ""])
def test_what_is_no_folder(fedarchive: Run, folder: str) -> None:
    done = fedarchive("cache", "ls", "--dir", folder)
    assert done.returncode == 2
    assert done.stderr.startswith("fedarchive: argument --dir: a local folder, not ")
    assert done.stderr.count("\n") == 1
