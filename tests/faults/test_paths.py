"""Paths as they are meant, through every public call that takes one; and what the system refuses them for."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.tools.averaging import mean
from archive.tools.collection import collect_garbage
from archive.tools.copying import copy
from archive.tools.editing import edit
from archive.tools.recovery import recover
from archive.tools.reindexing import reindex
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.scenes import consume, litter, save, version_of

ARRAYS = {"w": np.arange(6.0)}


def streamed(path: Any) -> None:
    with archive.create(path) as writer:
        writer.add("model", "w", ARRAYS["w"])


def failed(path: Any) -> None:
    with pytest.raises(archive.ArchiveError) as caught:
        consume(path, 3)
    if isinstance(caught.value, OSError):
        raise caught.value


def edited(path: Any, out: Any = None) -> None:
    with edit(path, out) as e:
        e["w"] = ARRAYS["w"]


WRITING: dict[str, Callable[[Any, Path], Any]] = {
    "save": lambda path, _: archive.save(ARRAYS, path),
    "consume": lambda path, _: consume(path),
    "create": lambda path, _: streamed(path),
    "copy": lambda path, other: copy(other, path),
    "mean": lambda path, other: mean([other, other], out=path),
    "reindex": lambda path, other: reindex(other, path),
    "edit": lambda path, other: edited(other, path),
    "cp": lambda path, other: main(["cp", str(other), str(path)]),
}
READING: dict[str, Callable[[Any], Any]] = {
    "open": lambda path: archive.open(path)["w"].numpy(),
    "load": lambda path: archive.load(path).array_records["model"]["w"],
    "verify": archive.verify,
    "copy": lambda path: copy(path, "memory://fedarchive-paths.h5"),
    "mean": lambda path: mean([path], out="memory://fedarchive-paths.h5"),
    "edit": lambda path: edited(path, "memory://fedarchive-paths.h5"),
    "table": lambda path: archive.table([path]),
    "one": archive.table,
    "foreign": lambda path: archive.open(path, foreign=True).records,
    "recover": recover,
}
SPELLINGS: dict[str, Callable[[Path], Any]] = {
    "uri": lambda path: path.as_uri(),
    "localhost": lambda path: path.as_uri().replace("file://", "file://localhost"),
    "upper": lambda path: path.as_uri().replace("file", "FILE"),
    "relative": lambda path: path.name,
}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """An archive in another folder."""
    (tmp_path / "other").mkdir()
    archive.save(ARRAYS, tmp_path / "other" / "o.h5")
    return tmp_path / "other" / "o.h5"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, whose name needs escapes in a URL."""
    folder = tmp_path / "my runs::50%"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("how", [how for how in WRITING if how != "cp"])
def test_written_where_it_was_meant(here: Path, other: Path, how: str, spelling: str) -> None:
    path = here / "exp::round 80.h5"
    WRITING[how](SPELLINGS[spelling](path), other)
    assert litter(here) == [path.name]
    assert litter(here.parent) == [here.name, "other"]
    assert archive.verify(path).ok


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("how", READING)
def test_read_where_it_was_meant(here: Path, how: str, spelling: str) -> None:
    path = here / "exp::round 80.h5"
    archive.save(ARRAYS, path)
    READING[how](SPELLINGS[spelling](path))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_stores_and_their_garbage(here: Path, spelling: str) -> None:
    run = here / "run 1"
    url = SPELLINGS[spelling](run)
    store = archive.CheckpointStore(url)
    store.save(dict(ARRAYS), round=1, client="100%")
    store.save(dict(ARRAYS), round=1)
    assert archive.CheckpointStore(run).rounds() == [1]
    assert list(store.clients(1)) == ["100%"]
    assert collect_garbage(url, older_than=0) == []
    pattern = url + "/rounds/*.h5"
    assert archive.table(pattern)["path"].tolist()[0].endswith("/rounds/00000001.h5")
    assert litter(here) == ["run 1"]


@pytest.mark.parametrize("end", ["/", "/.", "//"])
@pytest.mark.parametrize("how", WRITING)
def test_a_folder_is_no_file(here: Path, other: Path, how: str, end: str) -> None:
    """What ends in a slash names a folder, there or not; no file is made under another name."""
    for base in (str(here / "new"), "new", (here / "new").as_uri()):
        if how == "cp":
            assert main(["cp", str(other), base + end]) != 0
        else:
            with pytest.raises(archive.errors.StorageError, match="names a folder") as caught:
                WRITING[how](base + end, other)
            assert caught.value.errno == errno.EISDIR
    assert litter(here) == []


def test_a_folder_is_no_object() -> None:
    for url in ("memory://new/", "memory://", "s3://bucket/new/"):
        for keep_input in (True, False):
            with pytest.raises(archive.errors.StorageError, match="names a folder"):
                archive.save(dict(ARRAYS), url, keep_input=keep_input)


REMOVED = """
import os, sys
import numpy as np
import archive
from archive.tools.collection import collect_garbage
from archive.tools.recovery import recover

folder, whole = sys.argv[1:]
os.mkdir(folder)
os.chdir(folder)
os.rmdir(folder)
arrays = {"w": np.arange(6.0)}
calls = [
    lambda: archive.save(arrays, "m.h5"), lambda: archive.save(dict(arrays), "m.h5", keep_input=False),
    lambda: archive.create("m.h5"), lambda: archive.open("m.h5"), lambda: archive.load("m.h5"),
    lambda: archive.verify("m.h5"), lambda: recover("m.h5"), lambda: archive.table(["m.h5"]),
    lambda: archive.CheckpointStore("run"), lambda: collect_garbage("run", older_than=0),
    lambda: archive.open("memory://m.h5", cache="cache"), lambda: archive.open("m.h5", foreign=True),
]
for number, call in enumerate(calls):
    try:
        call()
    except archive.errors.MissingError as error:
        assert "absolute path" in str(error), error
    else:
        raise AssertionError(number)
archive.save(arrays, whole)
assert archive.load(whole).array_records["model"]["w"].shape == (6,)
"""


def test_a_working_folder_that_was_removed(tmp_path: Path) -> None:
    """Relative paths mean nothing then, in any call; absolute ones go on."""
    command = [sys.executable, "-c", REMOVED, str(tmp_path / "gone"), str(tmp_path / "m.h5")]
    subprocess.run(command, cwd=tmp_path, env=environment(), check=True)


EXHAUSTED = """
import itertools, os, resource, sys
import numpy as np
import archive
from archive.tools.collection import collect_garbage
from archive.tools.copying import copy
from archive.tools.recovery import recover
from tests.faults.scenes import consume

folder = sys.argv[1]
numbers = itertools.count(1)
arrays = {"w": np.arange(6.0)}
store = archive.CheckpointStore(f"{folder}/run", keep_last=2)

def streamed():
    with archive.create(f"{folder}/s.h5") as writer:
        writer.add("model", "w", arrays["w"])

def sealed():
    try:
        consume(f"{folder}/p.h5", 3)
    except RuntimeError:
        raise
    except archive.ArchiveError as error:
        if isinstance(error, OSError):
            raise

calls = {
    "save": lambda: archive.save(arrays, f"{folder}/m.h5"),
    "consume": lambda: consume(f"{folder}/c.h5"),
    "failing": sealed,
    "recover": lambda: recover(f"{folder}/kept.partial"),
    "create": streamed,
    "open": lambda: archive.open(f"{folder}/m.h5"),
    "load": lambda: archive.load(f"{folder}/m.h5"),
    "verify": lambda: archive.verify(f"{folder}/m.h5"),
    "copy": lambda: copy(f"{folder}/m.h5", f"{folder}/copy.h5"),
    "table": lambda: archive.table(f"{folder}/*.h5"),
    "round": lambda: store.save(dict(arrays), round=next(numbers)),
    "latest": lambda: store.open("latest"),
    "history": lambda: store.history(),
    "gc": lambda: store.gc(),
    "collect": lambda: collect_garbage(folder, older_than=0),
    "foreign": lambda: archive.open(f"{folder}/m.h5", foreign=True),
    "cached": lambda: archive.open("memory://m.h5", cache=f"{folder}/cache"),
    "remote": lambda: archive.save(arrays, "memory://m.h5"),
    "sent": lambda: archive.save(iter(arrays.items()), "memory://m.h5"),
}
archive.save(arrays, "memory://m.h5")
for name, call in calls.items():  # everything is imported
    try:
        call()
    except archive.ArchiveError as error:
        assert name in ("failing", "recover"), (name, error)
wrong, typed = [], 0
for name, call in calls.items():
    for free in range(5):
        highest = max(map(int, os.listdir("/proc/self/fd")))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, hard))
        for fd in taken[:free]:
            os.close(fd)
        more = []
        try:
            while True:
                more.append(os.dup(0))
        except OSError:
            for fd in more[:free]:
                os.close(fd)
        try:
            call()
        except archive.ArchiveError as error:
            typed += 1
            if "ulimit" not in str(error) and name not in ("failing", "recover"):
                wrong.append((name, free, str(error)))
        except BaseException as error:
            wrong.append((name, free, repr(error)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in (*taken[free:], *more[free:]):
                os.close(fd)
print(typed)
assert not wrong, "\\n".join(map(str, wrong))
"""


@pytest.mark.slow
def test_descriptors_that_are_all_taken(tmp_path: Path) -> None:
    """With none to five left, each call works or says what to do."""
    command = [sys.executable, "-c", EXHAUSTED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert int(done.stdout) > 15


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    """A file that is mounted by itself, as containers do."""
    if os.geteuid():
        pytest.skip("mounts need root")
    outside, inside = tmp_path / "outside.h5", tmp_path / "inside.h5"
    save(outside, 1)
    inside.touch()
    mounted = subprocess.run(
        ["mount", "--bind", outside, inside], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no mounts here: {mounted.stderr}")
    try:
        yield inside
    finally:
        subprocess.run(["umount", inside], check=True)


@pytest.mark.root
@pytest.mark.parametrize("keep_input", [True, False])
def test_a_file_mounted_by_itself(bound: Path, keep_input: bool) -> None:
    """It cannot be replaced: the error says why, the old file stays."""
    with pytest.raises(archive.errors.StorageError) as caught:
        save(bound, 2, keep_input=keep_input)
    assert caught.value.errno == errno.EBUSY
    assert "mounted by itself" in str(caught.value) or caught.value.partial
    assert version_of(bound) == 1


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on a file system that keeps any time; ext4 ends in the year 2446."""
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm")
    made = Path(tempfile.mkdtemp(prefix="fedarchive-future-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("year", [9999, 10_500, 1 << 20, -50])
def test_files_of_other_ages(memory: Path, year: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A clock that was wrong, or a file system that kept a wrong time."""
    seconds = int((year - 1970) * 365.2425 * 86400) + 86400 * 3
    store = archive.CheckpointStore(memory / "run")
    store.save(dict(ARRAYS), round=1, client="a")
    store.save(dict(ARRAYS), round=1)
    cache = memory / "cache"
    cache.mkdir(mode=0o700)
    name = f"{'0' * 16}-{'0' * 64}"
    (cache / f"{name}.bytes").write_bytes(bytes(4097))
    (memory / "run" / "rounds" / ".00000001.h5.0.tmp").touch()
    for path in (*memory.rglob("*.h5"), *memory.rglob("*.bytes"), *memory.rglob(".*.tmp")):
        os.utime(path, (seconds, seconds))
        if path.stat().st_mtime != seconds:
            pytest.skip("the file system keeps no such time")
    assert store.open("latest")["w"].shape == (6,)
    assert store.history()["round"].tolist() == [1]
    listing = ["cache", "ls", "--dir", str(cache)]
    for command in (listing, [*listing, "--json"], ["gc", str(memory)], ["gc", str(memory), "--dry-run"]):
        assert main(command) == 0, capsys.readouterr()
    (cache / f"{name}.json").write_text('{"created": "9999-12-31T23:59:59-12:00"}')
    assert main([*listing, "--json"]) == 0, capsys.readouterr()
    store.gc()


@pytest.mark.parametrize("created", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_times_of_creation_without_a_year(tmp_path: Path, created: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        archive.save(ARRAYS, tmp_path / "m.h5", created=created)
    assert litter(tmp_path) == []
    for possible in ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
        archive.save(ARRAYS, tmp_path / "m.h5", created=possible)
        assert archive.open(tmp_path / "m.h5").info.created == possible
