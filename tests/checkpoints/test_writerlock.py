"""One process at a time goes on with a run; the next is told which, and goes on when that one has ended."""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from archive.checkpoints.writerlock import LOCK, WriterLock
from archive.errors import ArchiveError, LockedError, StorageError, UnsupportedURLError
from tests.children import ROOT, child_environment

if TYPE_CHECKING:
    from tests.servers.s3 import S3Server

needs_locks = pytest.mark.needs("fcntl.flock")
TAKE = """
import os, sys
from archive.checkpoints.writerlock import WriterLock
from archive.errors import LockedError

lock = WriterLock(sys.argv[1], owner="FedAvg of " + sys.argv[2])
sys.stdin.readline()
try:
    lock.take()
    print("taken", flush=True)
except LockedError as error:
    print(f"refused {error}", flush=True)
sys.stdin.readline()
"""
Process = subprocess.Popen[str]


def start(folder: Path, name: str) -> Process:
    """Start a process that takes the lock after a line, prints how that went, and ends after another."""
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder), name],
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(process: Process) -> None:
    """Send a process a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: Process) -> str:
    """Return the next line of a process."""
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: Process) -> None:
    """Kill a process."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


@needs_locks
def test_of_three_processes_one_gets_it(tmp_path: Path) -> None:
    """The others learn who has it; after a kill the next one gets it."""
    run = tmp_path / "adam"
    processes = [start(run, name) for name in "abc"]
    try:
        for process in processes:
            go(process)
        heard = {process.pid: hear(process) for process in processes}
        [winner] = [process for process in processes if heard[process.pid] == "taken\n"]
        losers = [process for process in processes if process is not winner]
        for loser in losers:
            told = heard[loser.pid]
            assert told.startswith(
                f"refused {run}: another process writes this run: process {winner.pid} on "
            )
            assert f" on {socket.gethostname()}, since 20" in told
            assert "(FedAvg of " in told
            assert told.endswith("under another url or experiment\n")
            assert "remove" not in told
            assert "overwrite" not in told
        end(winner)
        WriterLock(run).take()
    finally:
        for process in processes:
            end(process)


@needs_locks
def test_it_is_free_after_its_block(tmp_path: Path) -> None:
    with WriterLock(tmp_path, owner="é" * 5000) as lock:
        assert lock.taken
        lock.take()
        with pytest.raises(LockedError, match=f"process {os.getpid()} on") as caught:
            WriterLock(tmp_path).take()
        assert caught.value.path == str(tmp_path)
    assert not lock.taken
    facts = json.loads((tmp_path / LOCK).read_text())
    assert list(facts) == ["host", "pid", "started", "owner"]
    with WriterLock(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [LOCK], "the probe is gone"


ENDLESS = b'{"owner": "", "pid": Infinity, "host": "h", "started": ""}\n'


@needs_locks
@pytest.mark.parametrize("text", [b"", b"[" * 4000, b"{}", b'{"owner": 1, "pid": "x"}\n', b"\xff", ENDLESS])
def test_a_lock_without_a_holder_in_it(tmp_path: Path, text: bytes) -> None:
    with WriterLock(tmp_path):
        (tmp_path / LOCK).write_bytes(text)
        with pytest.raises(LockedError, match="its lock file does not say which"):
            WriterLock(tmp_path).take()


@needs_locks
def test_the_holder_is_named_on_one_line(tmp_path: Path) -> None:
    with WriterLock(tmp_path):
        (tmp_path / LOCK).write_text('{"owner": "a\\n\\u001b[2J", "pid": 5, "host": "h", "started": "now"}\n')
        with pytest.raises(LockedError) as caught:
            WriterLock(tmp_path).take()
    assert str(caught.value).isprintable()


@needs_locks
def test_copies_have_not_taken_it(tmp_path: Path) -> None:
    with WriterLock(tmp_path, owner="first") as lock:
        for again in (copy.deepcopy(lock), pickle.loads(pickle.dumps(lock))):
            assert not again.taken
            with pytest.raises(LockedError, match="first"):
                again.take()
        assert lock.taken


def test_without_locks_the_run_goes_on(tmp_path: Path) -> None:
    """Calls of the system are hidden from a child, and with them every lock."""
    child = (
        "import logging, sys; logging.basicConfig(stream=sys.stdout)\n"
        "from archive.checkpoints.writerlock import WriterLock\n"
        "locks = [WriterLock(sys.argv[1]) for _ in range(2)]\n"
        "for lock in locks: lock.take()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, str(tmp_path)],
        cwd=ROOT,
        env=child_environment(str(ROOT / "tests" / "hidden")),
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count(f"{tmp_path} is on a file system without locks") == 2


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        WriterLock(tmp_path / "file" / "run").take()


@pytest.mark.needs("os.setuid", "fcntl.flock")
def test_a_folder_of_another_user() -> None:
    """The lock file may be open to all; no round can be saved beside it."""
    child = (
        "import os, sys\n"
        "from archive.checkpoints.writerlock import WriterLock\n"
        "from archive.errors import StorageError\n"
        "with WriterLock(sys.argv[1]): pass\n"  # whatever is imported at the first use
        "os.chmod(sys.argv[1], 0o555); os.chmod(sys.argv[1] + '/writer.lock', 0o666)\n"
        "if not os.geteuid(): os.setuid(65534)\n"
        "lock = WriterLock(sys.argv[1])\n"
        "try: lock.take()\n"
        "except StorageError as error: print(error, lock.taken)\n"
    )
    with tempfile.TemporaryDirectory() as run:  # pytest's folders are for their owner alone
        done = subprocess.run(
            [sys.executable, "-c", child, run],
            cwd=ROOT,
            env=child_environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        os.chmod(run, 0o755)
    assert "no round can be saved in this folder: cannot create a temporary file: Permission" in done.stdout
    assert done.stdout.endswith("check the permissions of the folder False\n")


def test_a_remote_folder_is_proven_and_not_locked() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    with WriterLock(url) as lock, WriterLock(url):
        assert not lock.taken
    with pytest.raises(UnsupportedURLError, match="no round can be saved in this folder"):
        WriterLock("https://127.0.0.1:9/run").take()


def test_an_object_store(server: S3Server) -> None:
    from tests.servers.s3 import BUCKET

    folder = uuid.uuid4().hex
    with WriterLock(f"s3://{BUCKET}/{folder}", storage_options=server.options()):
        assert server.keys(folder) == []
    with pytest.raises(ArchiveError, match="no round can be saved in this folder") as caught:
        WriterLock("s3://no-such-bucket/run", storage_options=server.options()).take()
    assert "not-a-secret-key" not in str(caught.value)
