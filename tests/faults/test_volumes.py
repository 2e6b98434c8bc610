"""File systems that lack something: no fallocate, no hard links, no exclusive renames, no modes."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

import archive
from archive.storage.local.source import filesystem_of
from archive.storage.remote.cachefolder import list_cache
from tests.children import ROOT
from tests.faults.conftest import Forge, environment
from tests.faults.mounts import mounted
from tests.faults.scenes import LARGE, litter, version_of
from tests.storage.folderstore import FolderStore, reach


@pytest.fixture(params=["exfat", "ext2"])
def unreserved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of a file system that reserves nothing."""
    with mounted(request.param, tmp_path) as folder:
        yield folder


def writes(log: str) -> int:
    return len(re.findall(r"pwrite64\(", log))


@pytest.mark.tools
@pytest.mark.parametrize("number", ["EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_no_reservation_is_no_reason_to_write(forge: Forge, tmp_path: Path, number: str) -> None:
    """glibc's posix_fallocate writes one byte to every block where the system reserves nothing."""
    trace = ["--trace=fallocate,pwrite64"]
    usual = forge(tmp_path / "usual.h5", 1, LARGE, strace=trace, want_log=True)
    refused = [*trace, "-e", f"inject=fallocate:error={number}"]
    answer = forge(tmp_path / "model.h5", 1, LARGE, strace=refused, want_log=True)
    assert usual["error"] is answer["error"] is None
    assert "INJECTED" in answer["log"]
    assert 0 < writes(answer["log"]) <= writes(usual["log"])
    assert version_of(tmp_path / "model.h5") == 1


@pytest.mark.root
@pytest.mark.tools
def test_writes_without_fallocate(forge: Forge, unreserved: Path, tmp_path: Path) -> None:
    """The same on real file systems: as many writes as on one that reserves."""
    trace = ["--trace=fallocate,pwrite64"]
    usual = forge(tmp_path / "usual.h5", 1, LARGE, strace=trace, want_log=True)
    answer = forge(unreserved / "model.h5", 1, LARGE, strace=trace, want_log=True)
    assert answer["error"] is None
    assert re.search(r"fallocate\(.*EOPNOTSUPP", answer["log"])
    assert 0 < writes(answer["log"]) <= writes(usual["log"])
    assert version_of(unreserved / "model.h5") == 1


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """A folder of a file system without hard links and exclusive renames."""
    with mounted("exfat", tmp_path) as folder:
        yield folder


DECODING = """
import sys
import archive
with archive.open(sys.argv[1], foreign=True) as handle:
    (array,) = (array for record in handle.records.parameters_records.values() for array in record.values())
    assert (array.numpy() == 7).all()
"""


@pytest.mark.root
@pytest.mark.tools
def test_decoding_without_fallocate(unreserved: Path, tmp_path: Path) -> None:
    """A foreign file is decoded into a map of a temporary file, whose room is taken by large writes."""
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.create_dataset("x", data=np.full(400_000, 7.0), compression="gzip")
    command: list[str | Path] = ["strace", "-f", "-e", "trace=pwrite64", "-o", tmp_path / "log"]
    command += [sys.executable, "-c", DECODING, tmp_path / "foreign.h5"]
    subprocess.run(command, cwd=ROOT, env={**environment(), "TMPDIR": str(unreserved)}, check=True)
    assert 3 <= writes((tmp_path / "log").read_text()) < 20


REFUSED = ["-e", "inject=renameat2:error=EINVAL", "-e", "inject=link,linkat:error=EPERM"]
"""What a file system says that has neither exclusive renames nor hard links."""


@pytest.mark.tools
@pytest.mark.parametrize("refused", [REFUSED[:2], REFUSED])
def test_exclusive_names_without_the_system(forge: Forge, tmp_path: Path, refused: list[str]) -> None:
    """Without exclusive renames a hard link is made; without hard links the folder is locked for a rename."""
    path, exclusive = tmp_path / "model.h5", {"overwrite": False}
    trace = ["--trace=renameat2,link,linkat,rename,flock", *refused]
    answer = forge(path, 1, options=exclusive, strace=trace, want_log=True)
    assert answer["error"] is None
    assert "INJECTED" in answer["log"]
    assert version_of(path) == 1
    answer = forge(path, 2, options=exclusive, strace=trace)
    assert answer["error"] == "ExistsError"
    assert version_of(path) == 1
    assert litter(tmp_path, path.name) == []


@pytest.mark.tools
def test_no_exclusive_names_and_no_locks(forge: Forge, tmp_path: Path) -> None:
    """An honest refusal names the file system; nothing is left."""
    trace = ["--trace=renameat2,link,linkat,flock", *REFUSED, "-e", "inject=flock:error=ENOLCK"]
    answer = forge(tmp_path / "model.h5", 1, options={"overwrite": False}, strace=trace)
    assert answer["error"] == "StorageError"
    assert answer["errno"] == errno.EOPNOTSUPP
    kind = filesystem_of(tmp_path.stat().st_dev)
    assert kind
    assert f"the file system {kind} has no exclusive renames" in answer["text"]
    assert litter(tmp_path) == []


CLAIMING = """
import sys
import numpy as np
import archive

folder, me = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
won = 0
for number in range(30):
    try:
        archive.save({"w": np.full(3, me)}, f"{folder}/{number}.h5", overwrite=False, durable=False)
        won += 1
    except archive.errors.ExistsError:
        pass
print(won)
"""


@pytest.mark.root
def test_one_of_many_writers_is_first(exfat: Path) -> None:
    command = [sys.executable, "-c", CLAIMING, str(exfat)]
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen([*command, str(me)], cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True)
        for me in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    won = [int(writer.communicate()[0]) for writer in writers]
    assert sum(won) == 30, won
    holders = [
        int(archive.load(exfat / f"{number}.h5").array_records["model"]["w"].numpy()[0])
        for number in range(30)
    ]
    assert [holders.count(me) for me in range(4)] == won
    assert len(litter(exfat)) == 30


@pytest.mark.root
def test_a_store_on_exfat(exfat: Path) -> None:
    """Rounds, clients, contexts, retention, garbage collection."""
    store = archive.CheckpointStore(exfat / "run", keep_last=2)
    for number in range(1, 6):
        store.save({"w": np.full(10, number)}, round=number, client="a", metrics={"n": number})
        store.save({"w": np.full(10, number)}, round=number, metrics={"n": number})
    with pytest.raises(archive.errors.ExistsError):
        store.save({"w": np.zeros(10)}, round=5)
    assert store.rounds() == [4, 5]
    assert store.open("latest")["w"].numpy().tolist() == [5] * 10
    archive.save({"w": np.zeros(3)}, exfat / "consumed.h5", keep_input=False, overwrite=False)
    with pytest.raises(archive.errors.ExistsError), archive.create(exfat / "consumed.h5", overwrite=False):
        pass
    assert litter(exfat) == ["consumed.h5", "run"]


@pytest.mark.root
def test_a_cache_on_exfat(exfat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched is kept: the second time, all of it comes from there."""
    store = FolderStore(tmp_path / "objects")
    reach(store, monkeypatch)
    archive.save({"w": np.arange(300_000.0)}, "folder://model.h5")
    for _ in range(2):
        with archive.open("folder://model.h5", cache=exfat / "cache") as handle:
            assert handle["w"].numpy()[-1] == 299_999
    (entry,) = list_cache(str(exfat / "cache"))
    assert entry.cached_bytes >= 2_400_000
    assert len(litter(exfat / "cache")) == 2
