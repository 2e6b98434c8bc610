"""Saves into a store that are killed, refused, or find the disk full: no round is lost, none half there."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import StorageError
from archive.tuning import END_BYTES
from tests.checkpoints.forge import CLIENTS, contribution, model, save_round
from tests.children import ROOT
from tests.faults.conftest import environment, figures
from tests.faults.test_errors import small_disk
from tests.faults.test_kill import CALL, NEVER_KILLED_AT

__all__ = ["figures", "small_disk"]  # fixtures
pytestmark = pytest.mark.needs("os.fork", "os.pread")

SIZE = 1 << 10
LEFT = re.compile(r".*/?\.[^/]+\.h5\.[0-7]\.tmp")
CLIENT = re.compile(r"rounds/\d{8}/[^./]+\.h5")
Forge = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    """Save a round in a child: ``forge(folder, round, strace=[...])`` tells how it ended."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = [sys.executable, "-m", "tests.checkpoints.forge"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def run(path: Path, number: int, **request: Any) -> dict[str, Any]:
            assert server.stdin is not None
            assert server.stdout is not None
            line = {"path": str(path), "version": number, "size": SIZE, **request}
            server.stdin.write(json.dumps(line) + "\n")
            server.stdin.flush()
            answer: dict[str, Any] = json.loads(server.stdout.readline())
            if "refused" in answer:
                pytest.skip(f"strace may not attach here: {answer['refused']}")
            return answer

        yield run
        server.stdin.close()
        server.wait(10)


def prepare(folder: Path, *numbers: int) -> None:
    """Make a store that holds rounds."""
    shutil.rmtree(folder, ignore_errors=True)
    for number in numbers:
        save_round(folder, number, SIZE)


def check_whole(store: archive.CheckpointStore, number: int) -> None:
    """Check that a round is there with everything that it should have."""
    assert store.clients(number) == sorted(CLIENTS)
    assert store.verify(number).ok
    assert store.open(number)["w"].numpy().tolist() == model(number, SIZE)["w"].tolist()
    for client in CLIENTS:
        found = store.open(number, client=client)["c"].numpy()
        assert np.array_equal(found, contribution(number, client)["c"])


def check_after(folder: Path, before: list[int], number: int) -> str:
    """Return what is left of a save, after checking it, and that the run goes on."""
    store = archive.CheckpointStore(folder)
    rounds = store.rounds()
    for found in rounds:
        check_whole(store, found)
    there = number in rounds
    # the newest rounds before are there; the oldest is gone only where the new one has come
    assert set(before[-1:]) <= set(rounds)
    assert there or rounds == before
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    named = {f"rounds/{found:08d}.h5" for found in rounds} | {"contexts/node.h5"}
    others = [
        path for path in left if path not in named and not re.fullmatch(r"rounds/\d{8}/[^./]+\.h5", path)
    ]
    assert all(LEFT.fullmatch(path) for path in others), others
    if before:
        assert store.context("node").state["n"]["round"] in (before[-1], number)
    history = store.history()
    assert history["round"][history["kept"]].tolist() == rounds
    ever = list(range(1, rounds[-1] + 1)) if rounds else []
    assert history["round"].tolist() == ever
    assert history["loss"].tolist() == [1 / found for found in ever] if rounds else True
    if not there:
        save_round(folder, number, SIZE)
        check_whole(archive.CheckpointStore(folder), number)
    swept = archive.CheckpointStore(folder, keep_last=2)
    swept.prune()
    swept.gc(0)
    assert swept.rounds() == [*before, number][-2:]
    expected = {"contexts/node.h5"} if (folder / "contexts/node.h5").exists() else set()
    for found in swept.rounds():
        expected |= {f"rounds/{found:08d}.h5"}
        expected |= {f"rounds/{found:08d}/{name}.h5" for name in CLIENTS}
    left = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    # a client's file keeps out of the way of one that the killed run left
    assert sorted(re.sub(r"==[0-9a-f]{16}\.h5$", ".h5", path) for path in left) == sorted(expected)
    return ("new" if there else "old") + (" + left-overs" if others else "")


def calls_of(forge: Forge, folder: Path, before: list[int], number: int) -> Counter[str]:
    """Return how often one thread of an undisturbed save makes each call."""
    prepare(folder, *before)
    answer = forge(folder, number, strace=[], want_log=True)
    assert answer["error"] is None, answer
    most: Counter[str] = Counter()
    for (_, name), count in Counter(CALL.findall(answer["log"])).items():
        most[name] = max(most[name], count)
    return Counter({name: count for name, count in most.items() if name not in NEVER_KILLED_AT})


def kill(forge: Forge, folder: Path, before: list[int], number: int, calls: Counter[str]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    ready = folder.with_name("ready")
    prepare(ready, *before)
    for name, count in calls.items():
        for k in range(1, count + 1):
            shutil.rmtree(folder, ignore_errors=True)
            if before:
                shutil.copytree(ready, folder)
            inject = [f"--trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={k}"]
            answer = forge(folder, number, strace=inject)
            assert answer["signal"] in (0, 9), answer
            outcome = check_after(folder, before, number)
            outcomes[outcome if answer["signal"] else "not reached"] += 1
    return outcomes


@pytest.mark.tools
def test_kill_at_the_calls_that_publish(forge: Forge, tmp_path: Path, figures: Callable[[str], None]) -> None:
    """L1, in short: renames, links and removals of a whole round with clients, context and retention."""
    folder, before = tmp_path / "run", [1, 2]
    calls = calls_of(forge, folder, before, 3)
    calls = Counter(
        {name: calls[name] for name in ("link", "rename", "renameat2", "mkdir", "rmdir") if name in calls}
    )
    outcomes = kill(forge, folder, before, 3, calls)
    figures(f"store, publishing calls: {sum(outcomes.values())} kills, {dict(outcomes)}")
    assert {outcome.partition(" ")[0] for outcome in outcomes} >= {"old", "new"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.tools
@pytest.mark.parametrize("before", [[], [1, 2]], ids=["first", "third"])
def test_kill_at_every_call(
    forge: Forge, tmp_path: Path, figures: Callable[[str], None], before: list[int]
) -> None:
    """L1: every system call of a whole round with clients, context and retention."""
    number = len(before) + 1
    calls = calls_of(forge, tmp_path / "run", before, number)
    outcomes = kill(forge, tmp_path / "run", before, number, calls)
    figures(f"store, round {number}: {sum(outcomes.values())} kills, {dict(outcomes)}")
    assert {outcome.partition(" ")[0] for outcome in outcomes} >= {"old", "new"}


@pytest.mark.tools
@pytest.mark.parametrize("when", [1, 2, 3])
def test_no_room_for_a_round(forge: Forge, tmp_path: Path, when: int) -> None:
    """L3: the disk is full at a client's file, another's, or the round's: those before are intact."""
    folder = tmp_path / "run"
    prepare(folder, 1, 2)
    writing = "pwrite64"
    inject = [f"--trace={writing}", "-e", f"inject={writing}:error=ENOSPC:when={when}"]
    answer = forge(folder, 3, strace=inject)
    assert (answer["error"], answer["ours"], answer["errno"]) == ("StorageError", True, errno.ENOSPC)
    assert check_after(folder, [1, 2], 3) == "old"


@pytest.mark.root
def test_a_disk_that_runs_full(small_disk: Path) -> None:
    """L3: rounds on a file system of 8 MB until there is no room; every one before is there."""
    store = archive.CheckpointStore(small_disk / "run")
    number = 0

    def save_next() -> None:
        store.save({"c": np.full(20_000, number, "f8")}, number, client="a")
        store.save({"w": np.full(60_000, number, "f8")}, number, metrics={"loss": 1 / number})

    def save_on() -> None:
        nonlocal number
        for _ in range(100):
            number += 1
            save_next()

    with pytest.raises(StorageError) as caught:
        save_on()
    assert caught.value.errno == errno.ENOSPC
    assert number > 5
    assert store.rounds() == list(range(1, number))
    for found in store.rounds():
        assert store.verify(found).ok
        assert store.open(found)["w"].numpy()[0] == found
    assert store.history()["loss"].tolist() == [1 / found for found in range(1, number)]
    store.remove(1)
    store.save({"w": np.full(60_000, number, "f8")}, number)
    assert store.verify(number).ok


READER = """
import sys
import archive
store = archive.CheckpointStore(sys.argv[1])
store.history(clients=True)  # everything is imported before what is watched
sys.stdout.write("ready\\n")
sys.stdout.flush()
store.history(clients=True)
archive.table(sys.argv[1] + "/rounds/*/*.h5")
"""
READ = re.compile(
    r'openat\([^"]*"(?P<path>[^"]+)"|preadv2?\(.*iov_len=(?P<nbytes>\d+)\}\], 1, (?P<at>\d+)[,)]'
)


@pytest.mark.tools
def test_history_asks_for_no_array(tmp_path: Path) -> None:
    """What is read of a file of a store by `history` and `table`, call by call: its start and its end."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    folder, log = tmp_path / "run", tmp_path / "log"
    store = archive.CheckpointStore(folder)
    for number in (1, 2):
        for client in CLIENTS:
            store.save({"c": np.full(100_000, number, "f8")}, number, client=client)
        store.save({"w": np.full(100_000, number, "f8")}, number, metrics={"loss": 1 / number})
    command: list[str | Path] = [
        "strace",
        "-f",
        "-e",
        "trace=openat,read,pread64,preadv,preadv2,mmap,write",
        "-o",
        log,
    ]
    subprocess.run(
        [*command, sys.executable, "-c", READER, folder],
        check=True,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
    )
    lines = log.read_text().partition('write(1, "ready')[2].splitlines()
    ends = {str(path): path.stat().st_size - END_BYTES for path in (folder / "rounds").rglob("*.h5")}
    assert min(ends.values()) > 700_000
    opened, reads = "", 0
    for line in lines:
        assert str(folder) in line or "mmap" not in line or ", -1, 0)" in line, f"mapped: {line}"
        found = READ.search(line)
        if found is None:
            continue
        if found["path"]:
            opened = found["path"]
        elif opened in ends:
            at, nbytes = int(found["at"]), int(found["nbytes"])
            assert at >= ends[opened] or at + nbytes <= 4096, line
            reads += 1
    assert reads >= 2 * (2 + 2 * 2 + 2 * 2), "of each file that history and table open, two parts"
