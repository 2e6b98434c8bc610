"""Clients of one NFS-like file system: stale names, stale handles, late errors, locks of processes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ExistsError, ReplacedError, StorageError
from archive.storage.local.source import filesystem_of
from archive.storage.remote.cachefolder import list_cache
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.nfsphases import (
    SCENES,
    Scene,
    Sweep,
    fail_to_consume,
    judge_recovered,
    prepare_store,
    save_round,
)
from tests.faults.scenes import CREATED, layers, litter, save, version_of
from tests.servers.nfslike import Mount, nfs_client
from tests.storage.folderstore import FolderStore, reach

pytestmark = pytest.mark.root
TTL = 30.0
"""Seconds that a client keeps what it knows: as NFS does."""
BARE = ("save", "exclusive", "consume", "recover", "round", "cache")
"""Scenes that a file system without locks and hard links is tried with."""


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    """The folder that the server of the file system keeps."""
    folder = tmp_path / "backing"
    folder.mkdir()
    return folder


@pytest.fixture
def client(backing: Path, tmp_path: Path) -> Iterator[Mount]:
    """A client whose locks belong to processes."""
    with nfs_client(backing, tmp_path / "client", ttl=TTL) as mount:
        yield mount


@pytest.fixture
def other(backing: Path, tmp_path: Path) -> Iterator[Mount]:
    """Another client of the same folder."""
    with nfs_client(backing, tmp_path / "other", ttl=TTL) as mount:
        yield mount


def wait_for(met: Callable[[], bool]) -> None:
    """Wait for the end of a request that nobody waits for."""
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


# The file system itself


def test_a_client_sees_late_what_others_do(client: Mount, other: Mount) -> None:
    (client.folder / "a").write_text("1")
    assert os.listdir(other.folder) == ["a"]
    assert not (other.folder / "b").exists()
    (client.folder / "b").write_text("2")
    assert sorted(os.listdir(client.folder)) == ["a", "b"]
    assert os.listdir(other.folder) == ["a"]
    assert not (other.folder / "b").exists()
    fd = os.open(other.folder / "a", os.O_RDONLY)
    (client.folder / "a").unlink()
    with pytest.raises(OSError, match="Stale") as caught:
        os.pread(fd, 10, 0)
    assert caught.value.errno == errno.ESTALE
    os.close(fd)


def test_an_open_file_is_removed_in_silence(client: Mount, backing: Path) -> None:
    fd = os.open(client.folder / "a", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"kept")
    (client.folder / "a").unlink()
    (name,) = os.listdir(client.folder)
    assert name.startswith(".nfs")
    assert os.pread(fd, 10, 0) == b"kept"
    os.close(fd)
    wait_for(lambda: not os.listdir(backing))


def test_errors_of_writing_come_late(client: Mount) -> None:
    fd = os.open(client.folder / "a", os.O_RDWR | os.O_CREAT)
    client.reset({"op": "WRITE", "at": 1, "error": "ENOSPC"}, {"op": "WRITE", "at": 2, "error": "EDQUOT"})
    assert os.write(fd, b"lost") == 4
    with pytest.raises(OSError, match="No space"):
        os.fsync(fd)
    os.fsync(fd)  # told once
    assert os.write(fd, b"lost") == 4
    with pytest.raises(OSError, match="quota"):
        os.close(fd)


# Reading


READING = """
import sys
import archive
with archive.open(sys.argv[1], access=sys.argv[2]) as handle:
    array = handle.records.parameters_records["model"]["w"]
    print("open", handle._reader.source.mapped, flush=True)
    sys.stdin.readline()
    try:
        print(float(array.numpy().sum()))
    except archive.ArchiveError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize(("access", "mapped", "end"), [("auto", False, "TruncatedError"), ("mmap", True, -7)])
def test_a_file_cut_by_another_client_kills_no_reader(
    client: Mount, other: Mount, access: str, mapped: bool, end: str | int
) -> None:
    """It would kill one that asked for a map: so ``auto`` reads."""
    path = other.folder / "m.h5"
    archive.save({"w": np.ones(1 << 16)}, path)
    assert filesystem_of(path.stat().st_dev) == "fuse.nfslike"
    command = [sys.executable, "-c", READING, str(client.folder / "m.h5"), access]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == f"open {mapped}\n"
        os.truncate(path, 4096)
        answer, _ = reader.communicate("go\n")
    assert end == (reader.returncode or answer.strip())


def test_a_removed_file_is_a_replaced_one(client: Mount, other: Mount) -> None:
    save(other.folder / "m.h5", 1, 1 << 17)  # more than is read ahead
    with archive.open(client.folder / "m.h5") as handle:
        save(other.folder / "m.h5", 2)
        with pytest.raises(ReplacedError) as caught:
            handle["w"].numpy()
    assert caught.value.errno == errno.ESTALE
    assert version_of(client.folder / "m.h5") == 2


def test_a_store_is_read_while_another_client_prunes(client: Mount, backing: Path) -> None:
    """A round is gone at every read in turn: the others are found, no error is raised."""
    work = 0
    while True:
        work += 1
        prepare_store(backing / str(work))
        rounds = f"{work}/run/rounds"
        gone = [f"{rounds}/00000001.h5", f"{rounds}/00000001/a.h5"]
        client.reset({"op": "READ", "at": work, "before": [["unlink", path] for path in gone]})
        store = archive.CheckpointStore(client.folder / str(work) / "run", best_by="loss")
        assert {2, 3} <= set(store.history()["round"])
        assert {2, 3} <= set(store.history(clients=True)["round"])
        for which in ("best", "latest"):
            with store.open(which) as handle:
                assert handle["w"].numpy()[0] == 3
        if not client.fired():
            break
    assert work > 5


# Writing


def test_writers_of_one_process_have_a_slot_each(client: Mount) -> None:
    """A lock keeps out no thread of the process that has it."""
    path = client.folder / "m.h5"
    with archive.create(path) as writer:
        writer.add("model", "w", np.full(300, 2))
        save(path, 1)
    assert archive.verify(path).ok
    assert archive.load(path).parameters_records["model"]["w"].numpy()[0] == 2
    assert litter(client.folder, "m.h5") == []


def test_a_consuming_save_is_not_recovered_as_it_runs(client: Mount) -> None:
    path = client.folder / "m.h5"

    def arrays() -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        for key, array in layers().items():
            if key == "layer5":
                with pytest.raises(StorageError, match="still running"):
                    archive.recover(f"{path}.partial")
            yield key, array

    archive.save(arrays(), path, keep_input=False, created=CREATED)
    assert list(archive.load(path).parameters_records["model"]) == list(layers())
    assert archive.verify(path).ok


def test_a_recovery_that_failed_holds_nothing(client: Mount, backing: Path) -> None:
    """Not even while its error is looked at."""
    fail_to_consume(backing)
    client.reset({"op": "READ", "at": 1, "on": True, "error": "EIO"})
    with pytest.raises(StorageError) as caught:
        archive.recover(client.folder / "m.h5.partial")
    client.reset()
    assert caught.value.errno == errno.EIO
    assert judge_recovered(archive.recover(backing / "m.h5.partial")) == 6


def test_a_table_is_not_empty_where_its_folder_cannot_be_read(client: Mount, backing: Path) -> None:
    (backing / "runs").mkdir()
    for number in (1, 2):
        save(backing / f"runs/{number}.h5", number)
    for pattern in ("runs/*.h5", "*/1.h5", "**/*.h5"):
        client.reset({"op": "READDIR", "at": 1, "on": True, "error": "EIO"})
        with pytest.raises(StorageError, match="cannot list it"):
            archive.table(str(client.folder / pattern))
        client.reset()
        assert len(archive.table(str(client.folder / pattern))["path"]) in (1, 2)


def test_a_writer_whose_lock_was_lost_publishes_no_file_of_another(client: Mount, backing: Path) -> None:
    """To close a copy of the descriptor drops the lock; then another client takes the temporary name."""
    save(client.folder / "m.h5", 1)
    (backing / "half").write_bytes(b"half")
    taken = [["replace", "half", ".m.h5.0.tmp"]]
    client.reset({"op": "FLUSH", "at": 1, "after": taken})
    with pytest.raises(StorageError):
        save(client.folder / "m.h5", 2, durable=False)
    assert client.fired()
    assert version_of(backing / "m.h5") == 1
    assert (backing / ".m.h5.0.tmp").read_bytes() == b"half"


def test_a_slot_that_another_client_took_is_not_removed(client: Mount, backing: Path) -> None:
    """Taken between its creation and the lock on it: the next slot is used."""
    (backing / "theirs").write_bytes(b"")
    client.reset({"op": "CREATE", "at": 1, "after": [["replace", "theirs", ".m.h5.0.tmp"]]})
    save(client.folder / "m.h5", 1)
    assert client.fired()
    assert version_of(backing / "m.h5") == 1
    assert litter(backing, "m.h5") == [".m.h5.0.tmp"]


def test_garbage_of_a_store_is_none_of_rounds_that_are_listed_late(client: Mount, other: Mount) -> None:
    store = archive.CheckpointStore(client.folder / "run")
    save_round(store, 1)
    store.save({"w": np.full(300, 2)}, 2, client="a")
    late = archive.CheckpointStore(other.folder / "run")
    late.gc()
    store.save({"w": np.full(300, 2)}, 2)
    assert late.rounds() == [1]
    assert late.gc(0) == []
    assert store.verify(2)
    assert store.clients(2) == ["a"]


def test_what_cannot_be_told_is_no_missing_round(client: Mount, backing: Path) -> None:
    """An error of the server does not mean that nothing is there."""
    prepare_store(backing)
    store = archive.CheckpointStore(client.folder / "run")
    client.reset({"op": "LOOKUP", "at": 3, "on": True, "error": "EIO"})  # run, rounds, 00000001.h5
    with pytest.raises(StorageError) as caught:
        store.open(1)
    client.reset()
    assert caught.value.errno == errno.EIO


def test_two_clients_and_one_name(client: Mount, other: Mount) -> None:
    """One is first; a lock held at one client is held at the other."""
    assert not (other.folder / "m.h5").exists()  # and so it seems for a while
    save(client.folder / "m.h5", 1, overwrite=False)
    with pytest.raises(ExistsError):
        save(other.folder / "m.h5", 2, overwrite=False)
    with archive.create(client.folder / "m.h5") as writer:
        writer.add("model", "w", np.full(3, 3))
        save(other.folder / "m.h5", 2)
        assert version_of(other.folder / "m.h5") == 2
    assert archive.load(other.folder / "m.h5").parameters_records["model"]["w"].numpy().tolist() == [3] * 3
    assert litter(client.folder, "m.h5") == []


# Every phase and every fault

MODES: dict[str, dict[str, Any]] = {
    "posix": {"ttl": TTL},
    "flock": {"ttl": 0, "locks": "flock"},
    "bare": {"ttl": TTL, "locks": "none", "links": False},
}
"""Locks of processes; locks of open files, and nothing kept; neither locks nor hard links."""
SCENES_OF = {"posix": SCENES, "flock": SCENES[:4], "bare": [scene for scene in SCENES if scene.name in BARE]}


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder without a disk: thousands of syncs take no time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("mode", "scene"),
    [pytest.param(mode, scene, id=f"{mode}-{scene.name}") for mode in MODES for scene in SCENES_OF[mode]],
)
def test_every_fault_in_every_phase(
    mode: str,
    scene: Scene,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[[str], None],
) -> None:
    """OLD, NEW or a typed error; nothing half-written, no file of others touched."""
    objects = FolderStore(memory / "objects")
    reach(objects, monkeypatch)
    archive.save({"w": np.arange(30_000.0)}, "folder://model.h5")
    backing = memory / f"{mode}-{scene.name}"
    backing.mkdir()
    with nfs_client(backing, memory / "mount", **MODES[mode]) as mount:
        sweep = Sweep(scene, backing, mount)
        sweep.run()
    figures(f"NFS {mode} {scene.name}: {sweep.count} cases, {sweep.ends}")
    assert not sweep.failures, "\n".join(sweep.failures[:20])
    assert sweep.count > 8


WORKING = """
import json, sys, time
import numpy as np
import archive
from archive.errors import ArchiveError, ExistsError

role, folder, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
store = archive.CheckpointStore(folder, keep_last=3)
sys.stdin.readline()
end, done, typed, number = time.monotonic() + seconds, 0, {}, 1
while time.monotonic() < end:
    try:
        if role == "write":
            number = max([number, *store.rounds()]) + 1
            store.save({"w": np.full(300, number)}, number, client=role)
            store.save({"w": np.full(300, number)}, number)
        else:
            with store.open("latest") as handle:
                found = handle["w"].numpy()
                assert (found == found[0]).all()
            table = store.history(clients=True)
            assert len(table["round"]), "empty"
        done += 1
    except ArchiveError as error:
        typed[type(error).__name__] = typed.get(type(error).__name__, 0) + 1
print(json.dumps([done, typed]))
"""


@pytest.mark.slow
def test_two_clients_and_one_store(
    client: Mount, other: Mount, backing: Path, figures: Callable[[str], None]
) -> None:
    """Each writes with one process and reads with another; no round is damaged, no table is empty."""
    store = archive.CheckpointStore(backing / "run")
    save_round(store, 1)
    players = [(role, mount) for mount in (client, other) for role in ("write", "read")]
    pipe = subprocess.PIPE
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", WORKING, role, str(mount.folder / "run"), "15"],
            cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True,
        )
        for role, mount in players
    ]  # fmt: skip
    answers = []
    for player in crowd:
        assert player.stdin is not None
        player.stdin.write("go\n")
        player.stdin.flush()
    for (role, _), player in zip(players, crowd, strict=True):
        answer, _ = player.communicate(timeout=100)
        assert player.returncode == 0
        answers.append((role, json.loads(answer)))
    figures(f"two NFS clients of a store: {answers}")
    numbers = store.rounds()
    assert numbers
    assert all(done for _, (done, _) in answers)
    assert all(store.verify(number) for number in numbers)


@pytest.mark.parametrize("links", [True, False])
def test_a_cache_is_read_and_not_mapped(
    links: bool, backing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = FolderStore(tmp_path / "objects")
    reach(objects, monkeypatch)
    archive.save({"w": np.arange(30_000.0)}, "folder://model.h5")
    with nfs_client(backing, tmp_path / "client", ttl=TTL, links=links) as mount:
        for _ in range(2):
            with archive.open("folder://model.h5", cache=mount.folder / "cache") as handle:
                assert not handle._reader.source.mapped
                assert handle["w"].numpy()[-1] == 29_999
        (entry,) = list_cache(str(mount.folder / "cache"))
        assert entry.cached_bytes >= 240_000
