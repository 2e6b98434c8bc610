"""A history is the same with a catalogue and without, whatever became of either; it reads less with one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import archive
from archive import tuning
from archive.checkpoints import cataloguekeeper, savedrounds
from archive.checkpoints.catalogue import Catalogue, KnownRound, is_due
from archive.checkpoints.cataloguefile import find_catalogue
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.knownrounds import read_known_rounds
from archive.checkpoints.roundfile import ClientFile
from archive.checkpoints.runfacts import facts_of
from archive.errors import ArchiveError, CatalogueWarning, ExistsError, MissingError, SkippedWarning
from archive.storage.folder import Entry
from archive.storage.url import parse_url
from archive.tools.archivefacts import Facts
from archive.tools.tabulation import Table
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

Store = archive.CheckpointStore
ROOT = Path(__file__).parents[2]
CONFIGS = {
    "lr": 0.1,
    "name": "Köln",
    "on": True,
    "seed": 2**63 + 5,
    "key": b"x",
    "hosts": ["a", "b"],
    "none": [],
}


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once."""
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.0)


def save(store: archive.CheckpointStore, number: int, clients: int = 3, scale: float = 1.0) -> None:
    for client in range(clients):
        metrics: dict[str, Any] = {"n": client, "each": [0.5, float("nan")], "loss": scale / (number + 1)}
        configs = CONFIGS if client else {"lr": 1}
        store.save({"w": np.zeros(2)}, number, client=f"client/{client}", metrics=metrics, configs=configs)
    losses = (
        {"loss": scale / number if number else float("nan"), "late": number} if number % 2 else {"loss": 1}
    )
    store.save({"w": np.zeros(2)}, number, metrics={"fit": losses, "eval": {"loss": -0.0}}, configs=CONFIGS)


def spelled(table: Table) -> list[Any]:
    """Everything about a table that somebody may rely on."""
    columns = [(name, column.dtype.str, repr(column.tolist())) for name, column in table.items()]
    return [columns, [(path, type(error), str(error)) for path, error in table.failures]]


def answers(url: Any, options: dict[str, Any] | None = None, *, ways: str = "raise column") -> list[Any]:
    """What a new store says of its history."""
    found: list[Any] = []
    for clients in (False, True):
        for errors in ways.split():
            store = Store(url, storage_options=options)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", SkippedWarning)
                    found.append(spelled(store.history(clients=clients, errors=errors)))  # type: ignore[arg-type]
            except ArchiveError as error:
                found.append((type(error), str(error)))
    return found


def without(folder: Path, *, ways: str = "raise column") -> list[Any]:
    """The same without a catalogue."""
    catalogue, hidden = folder / "catalogue.h5", folder / "hidden"
    there = catalogue.exists()
    if there:
        catalogue.rename(hidden)
    try:
        return answers(folder, ways=ways)
    finally:
        if there:
            hidden.rename(catalogue)


def known(folder: Path) -> Catalogue:
    return find_catalogue(parse_url(folder / "catalogue.h5"), clients=True)[0]


def steps(folder: Path) -> Iterator[str]:
    """A run of 12 rounds: yields after each step what it was."""
    store = Store(folder, keep_last=4, keep_every=3, best_by="fit/loss")
    for number in range(8):
        save(store, number)
        yield f"round {number}"
    store.rewind(5)
    yield "rewound"
    for number in (6, 7, 8):
        save(store, number, clients=2, scale=2.0)
        yield f"round {number} again"
    Store(folder).remove(7)
    yield "removed"
    other = Store(folder)
    save(other, 7, clients=0)
    yield "of another store"
    for number in (9, 10, 11):
        save(store, number, clients=number % 3)
        yield f"round {number}"
    next((folder / "rounds").glob("*/*.h5")).unlink()
    yield "a client is gone"
    first = sorted((folder / "rounds").glob("*.h5"))[1]
    content = bytearray(first.read_bytes())
    content[-100] ^= 1
    first.write_bytes(content)
    yield "a round is damaged"
    save(store, 12)
    yield "after damage"


def test_a_history_is_the_same_after_every_step(tmp_path: Path) -> None:
    """With the catalogue as it is, without one, and with each that there was before."""
    folder, before = tmp_path / "run", list[bytes]()
    for step in steps(folder):
        catalogue = folder / "catalogue.h5"
        expected = without(folder)
        assert answers(folder) == expected, step
        newest = catalogue.read_bytes()
        for stale in before[-2:-1]:
            catalogue.write_bytes(stale)
            assert answers(folder, ways="column") == expected[1::2], step
        catalogue.write_bytes(newest)
        if newest not in before:
            before.append(newest)
    assert len(before) > 12
    assert set(known(folder).numbers) >= {8, 10, 11, 12}


@pytest.mark.slow
def test_each_catalogue_there_ever_was(tmp_path: Path) -> None:
    folder, before = tmp_path / "run", list[bytes]()
    for step in steps(folder):
        ways = "raise skip column"
        expected = without(folder, ways=ways)
        catalogue = folder / "catalogue.h5"
        before.append(catalogue.read_bytes())
        for stale in before:
            catalogue.write_bytes(stale)
            assert answers(folder, ways=ways) == expected, step
        Store(folder).reindex()
        assert answers(folder, ways=ways) == expected, step
        catalogue.write_bytes(before[-1])


def test_damage_anywhere(tmp_path: Path) -> None:
    """A byte of each region, and a cut."""
    store = Store(tmp_path)
    for number in range(3):
        save(store, number)
    expected, catalogue = without(tmp_path, ways="raise"), tmp_path / "catalogue.h5"
    content = catalogue.read_bytes()
    for place in [*range(0, len(content), len(content) // 20), *range(len(content) - 200, len(content), 40)]:
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        catalogue.write_bytes(damaged)
        assert answers(tmp_path, ways="raise") == expected, place
    for nbytes in (0, 100, len(content) // 2, len(content) - 1):
        catalogue.write_bytes(content[:nbytes])
        assert answers(tmp_path, ways="raise") == expected, nbytes
    save(store, 3)
    assert known(tmp_path).numbers == [0, 1, 2, 3]  # it is written anew


def test_a_catalogue_that_lies_of_files_that_changed(tmp_path: Path) -> None:
    """Another attempt saved a file of the same name and length."""
    store = Store(tmp_path)
    store.save({"w": np.zeros(2)}, 1, metrics={"loss": 0.5})
    stale = (tmp_path / "catalogue.h5").read_bytes()
    path = tmp_path / "rounds/00000001.h5"
    status = path.stat()
    store.remove(1)
    store.save({"w": np.ones(2)}, 1, metrics={"loss": 0.7})
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    (tmp_path / "catalogue.h5").write_bytes(stale)
    assert Store(tmp_path).history()["loss"].tolist() == [0.7]


def test_new_files_prove_nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 3600.0)
    store = Store(tmp_path)
    save(store, 1)
    assert not (tmp_path / "catalogue.h5").exists()
    assert store.reindex().rounds == 0
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.0)
    save(store, 2)
    assert known(tmp_path).numbers == [1, 2]


def test_rounds_that_a_catalogue_lacks_come_to_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(4):
        save(store, number)
    (tmp_path / "catalogue.h5").unlink()
    save(Store(tmp_path), 4)
    assert known(tmp_path).numbers == [0, 1, 2, 3, 4]
    assert len(known(tmp_path).clients) == 15


def test_two_stores_save_by_turns(tmp_path: Path) -> None:
    stores = Store(tmp_path), Store(tmp_path)
    for number in range(6):
        save(stores[number % 2], number)
        assert known(tmp_path).numbers == list(range(number + 1))
    assert answers(tmp_path) == without(tmp_path)


def test_a_round_is_saved_where_no_catalogue_can_be(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "catalogue.h5").mkdir(parents=True)
    with pytest.warns(CatalogueWarning, match="the catalogue of the run is not written any more"):
        save(store, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(store, 2)  # said once
    assert store.rounds() == [1, 2]
    assert Store(tmp_path).history()["round"].tolist() == [1, 2]


def test_an_archive_of_that_name_stays(tmp_path: Path) -> None:
    archive.save({"w": np.ones(3)}, tmp_path / "catalogue.h5")
    before = (tmp_path / "catalogue.h5").read_bytes()
    store = Store(tmp_path)
    with pytest.warns(CatalogueWarning, match="an archive has the name of the catalogue"):
        save(store, 1)
    with pytest.raises(ExistsError):
        store.reindex()
    assert (tmp_path / "catalogue.h5").read_bytes() == before
    assert store.history()["round"].tolist() == [1]


@pytest.mark.parametrize("content", [b"my notes", b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_a_file_of_that_name_stays(tmp_path: Path, content: bytes) -> None:
    """It is no archive at all: notes, a table of another program."""
    path = tmp_path / "catalogue.h5"
    path.write_bytes(content)
    store = Store(tmp_path)
    with pytest.warns(CatalogueWarning, match="a file has the name of the catalogue"):
        save(store, 1)
    with pytest.raises(ExistsError):
        store.reindex()
    assert path.read_bytes() == content


def test_a_save_reads_few_files_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many clients the rounds have that a catalogue lacks; those of a round are read together."""
    monkeypatch.setattr(tuning, "CATALOGUE_FILES", 8)
    store = Store(tmp_path)
    for number in range(6):
        save(store, number, clients=4)
    (tmp_path / "catalogue.h5").unlink()
    store = Store(tmp_path)
    for number, count in ((6, 3), (7, 6), (8, 9)):
        save(store, number, clients=0)
        assert len(known(tmp_path).numbers) == count  # two of four clients, and itself
    assert store.reindex().rounds == 9


def test_a_clock_that_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the future prove nothing yet: they are looked at less and less often."""
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.01)
    real, read = time.time, list[int]()
    monkeypatch.setattr(time, "time", lambda: real() - 3600)

    def known_of(files: Any, numbers: Any, found: Any) -> Any:
        read.extend(numbers)
        return read_known_rounds(files, numbers, found)

    monkeypatch.setattr(savedrounds, "read_known_rounds", known_of)
    store = Store(tmp_path)
    for number in range(40):
        save(store, number, clients=0)
    assert not (tmp_path / "catalogue.h5").exists()
    assert 1 < read.count(0) <= 8


def test_what_a_power_cut_left_is_replaced(tmp_path: Path) -> None:
    path, store = tmp_path / "catalogue.h5", Store(tmp_path)
    save(store, 1)
    sound = path.read_bytes()
    for left in (b"", bytes(len(sound)), sound[:5000], bytes(4096) + sound[4096:]):
        path.write_bytes(left)
        save(store, store.rounds()[-1] + 1)
        assert known(tmp_path).numbers == store.rounds()


def test_threads_save_rounds_of_one_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda number: store.save({"w": np.zeros(2)}, number), range(100)))
    assert len(done) == 100
    save(store, 100, clients=0)  # a thread does not wait for another that writes
    assert known(tmp_path).fresh(store._files.listed()) == list(range(101))


@pytest.mark.needs("os.fork")
def test_killed_in_the_middle_of_the_rewriting(tmp_path: Path) -> None:
    """Whatever is there by then is whole, and `gc` removes the rest."""
    script = (
        "import os, sys, signal\n"
        "from archive import tuning; tuning.SETTLED_SECONDS = 0.0\n"
        "from archive.storage.local.sink import AtomicFile\n"
        "import archive, numpy as np\n"
        "publish = AtomicFile.publish\n"
        "def killed(self):\n"
        "    if 'catalogue' in self.path and os.path.exists(self.path):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return publish(self)\n"
        "AtomicFile.publish = killed\n"
        "store = archive.CheckpointStore(sys.argv[1])\n"
        "for number in (1, 2, 3):\n"
        "    store.save({'w': np.zeros(2)}, number, metrics={'loss': number})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert Store(tmp_path).rounds() == [1, 2]
    assert answers(tmp_path) == without(tmp_path)
    store = Store(tmp_path)
    assert [path for path in store.gc(0) if "catalogue" in path] == [".catalogue.h5.0.tmp"]
    assert sorted(os.listdir(tmp_path)) == ["catalogue.h5", "rounds"]


def test_a_catalogue_alone_is_no_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    save(store, 1)
    store.remove(1)
    assert (tmp_path / "catalogue.h5").exists()
    with pytest.raises(MissingError, match="no round was saved"):
        facts_of(store._files)
    assert len(store.history()["round"]) == 0


def test_a_copy_of_a_run_has_a_catalogue_of_no_use(tmp_path: Path) -> None:
    save(Store(tmp_path / "run"), 1)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert answers(tmp_path / "copy") == without(tmp_path / "copy")
    listed = Store(tmp_path / "copy")._files.listed()
    assert known(tmp_path / "copy").fresh(listed) == []


def requests(proxy: Proxy) -> dict[str, int]:
    kinds = ["list" if "list-type" in one.target else "object" for one in proxy.seen]
    return {kind: kinds.count(kind) for kind in ("list", "object")}


def test_objects(server: S3Server) -> None:
    """Nothing but the catalogue and the curve is read; what another attempt replaced is noticed."""
    with Proxy(server.endpoint) as proxy:
        options, url = server.options(proxy.endpoint), f"s3://{BUCKET}/{uuid.uuid4().hex}"
        store = Store(url, storage_options=options)
        for number in range(6):
            save(store, number)
        for clients, listings in ((False, 2), (True, 3)):
            new = Store(url, storage_options=options)
            proxy.reset()
            new.history(clients=clients)
            assert requests(proxy) == {"list": listings, "object": 2}
        key = f"{url.rpartition('/')[2]}/catalogue.h5"
        stale = server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        store.rewind(3)
        for number in (4, 5):
            save(store, number, scale=3.0)
        expected = answers(url, options)
        server.client.put_object(Bucket=BUCKET, Key=key, Body=stale)
        assert answers(url, options) == expected
        server.client.delete_object(Bucket=BUCKET, Key=key)
        assert answers(url, options) == expected


class WeakTags(MemoryFileSystem):
    """Says of every object that it is like every other, as WebDAV of Apache does within a second."""

    protocol = "weaktags"

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        found = super().ls(path, detail=detail, **kwargs)
        return [{**one, "etag": 'W/"same"'} for one in found] if detail else found

    def info(self, path: str, **kwargs: Any) -> Any:
        return {**super().info(path, **kwargs), "etag": 'W/"same"'}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(str(path).removeprefix("weaktags:"))


def test_a_weak_tag_proves_nothing() -> None:
    fsspec.register_implementation("weaktags", WeakTags, clobber=True)
    folder = uuid.uuid4().hex
    store, seen = Store(f"memory://{folder}"), Store(f"weaktags://{folder}")
    for loss in (0.5, 0.7):
        store.save({}, 1, metrics={"loss": loss})
        assert seen.history()["loss"].tolist() == [loss]
        assert seen.reindex().rounds == 0
        store.remove(1)


def test_a_store_whose_listings_prove_nothing_has_none() -> None:
    store = Store(f"memory://{uuid.uuid4().hex}")
    save(store, 1)
    with pytest.raises(MissingError):
        archive.open(f"{store.url}/catalogue.h5")
    assert store.history()["round"].tolist() == [1]


# What it decides


def round_of(number: int, tag: str, *clients: str) -> KnownRound:
    def file(tag: str, digest: str) -> KnownFile:
        return KnownFile(Facts({("metrics", "m", "loss"): 0.5}, "", 9000, 1, digest), 2000, tag)

    digest = f"{number:032x}"
    named = [(ClientFile(number, name, "", digest), file("c", digest)) for name in clients]
    return KnownRound(number, file(tag, digest), named)


def entry(tag: str, nbytes: int = 9000) -> Entry:
    return Entry("", nbytes, 0.0, tag)


def test_what_is_fresh() -> None:
    made = Catalogue().updated([round_of(2, "b", "x"), round_of(1, "a", "y", "z"), round_of(3, "")], ())
    assert made.numbers == [1, 2]  # nothing would tell another version of round 3
    assert made.fresh({1: entry("a"), 2: entry("b"), 3: entry("")}) == [1, 2]
    assert made.fresh({1: entry("b"), 2: entry("b", 9001)}) == []
    assert made.fresh({1: None, 4: entry("a")}) == []
    rounds = made.fresh_rounds({1: entry("a")}, clients=True, remote=True)
    assert {number: list(one.clients or ()) for number, one in rounds.items()} == {1: ["y", "z"]}
    listed = {"rounds/00000001/y.h5": entry("c"), "rounds/00000001/z.h5": entry("d")}
    assert [file.name for file in made.fresh_clients([1], listed, remote=True)] == ["y"]


def test_what_a_long_file_says_of_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `read_facts`: of a remote round alone, only where that takes no request more."""
    made = Catalogue().updated([round_of(1, "a")], ())
    for most, arrays in ((2000, 1), (1999, None)):
        monkeypatch.setattr(tuning, "VALUES_TAIL_BYTES", most)
        found = [
            made.fresh_rounds({1: entry("a")}, clients=clients, remote=remote)[1].facts.arrays
            for clients, remote in ((False, True), (True, True), (False, False))
        ]
        assert found == [arrays, 1, 1]


def test_joined_and_updated() -> None:
    first = Catalogue().updated([round_of(number, "a", "x") for number in (1, 2, 4)], ())
    other = Catalogue().updated([round_of(number, "b", "y") for number in (2, 3)], ())
    both = first.join(other)
    assert both.numbers == [1, 2, 3, 4]
    listed = {number: entry("a") for number in range(9)}
    assert both.fresh(listed) == [1, 2, 4]
    assert first.updated([round_of(2, "b"), round_of(9, "a")], [1]).numbers == [2, 4, 9]
    assert len(first.updated([round_of(2, "b")], [1]).clients) == 1


def test_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes written for it a save: at most a piece, and then a 32nd of its length."""
    written = saves = nbytes = 0
    for number in range(10_000):
        saves, nbytes = saves + 1, 2500 * number
        if is_due(saves, nbytes):
            written, saves = written + nbytes, 0
    assert written < 10_000 * 2500 * 10_000 / 32 / 2 + 10_000 * tuning.CATALOGUE_BYTES
    monkeypatch.setattr(tuning, "CATALOGUE_ROUNDS", 1)
    assert is_due(1, 1 << 40)


def test_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is a warning; the round is whole."""
    from archive.errors import StorageError

    def full(*_: Any) -> None:
        raise StorageError("no space", path="x", errno=errno.ENOSPC)

    monkeypatch.setattr(cataloguekeeper, "write_catalogue", full)
    store = Store(tmp_path)
    with pytest.warns(CatalogueWarning, match="no space"):
        save(store, 1)
    assert store.verify(1)
