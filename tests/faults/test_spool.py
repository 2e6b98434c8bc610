"""What waits in a folder for temporary files to be sent is its owner's alone, from the first moment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.faults.conftest import environment

NOBODY = 65534
SENDING = """
import numpy as np
import archive

with archive.create("memory://fedarchive/model.h5") as writer:
    writer.add("model", "secret", np.arange(1000.0))
archive.save(iter([("secret", np.arange(1000.0))]), "memory://fedarchive/model.h5", keep_input=False)
"""
READING = """
import os, sys

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
seen, got = set(), set()
print("ready", flush=True)
os.set_blocking(0, False)
while True:
    for name in os.listdir(sys.argv[1]):
        seen.add(name)
        try:
            os.close(os.open(f"{sys.argv[1]}/{name}", os.O_RDONLY))
            got.add(name)
        except OSError:
            pass
    try:
        if not os.read(0, 1):
            break
    except BlockingIOError:
        pass
print(len(seen), sorted(got))
"""
pytestmark = pytest.mark.tools


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder as ``/tmp`` is."""
    made = Path(tempfile.mkdtemp(prefix="fedarchive-spool-", dir="/tmp"))
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


def send(folder: Path, log: Path, *arguments: str) -> None:
    """Save to a store that needs local files, under strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    command = ["strace", "-f", "-o", str(log), *arguments, sys.executable, "-c", SENDING]
    variables = {**environment(), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run(command, cwd=ROOT, env=variables, check=True, umask=0, capture_output=True)


@pytest.mark.slow
def test_created_private(folder: Path, tmp_path: Path) -> None:
    """By the call that creates the file, whatever the umask."""
    send(folder, tmp_path / "log", "--trace=openat")
    created = re.findall(rf'openat\(AT_FDCWD, "{folder}/(.+?)", (.+?)\)', (tmp_path / "log").read_text())
    names = {name.rpartition(".")[2]: how for name, how in created if "O_CREAT" in how}
    assert {"tmp", "partial", "journal"} <= set(names)
    for how in names.values():
        assert how.endswith("0600")
        assert "O_EXCL" in how
    assert os.listdir(folder) == []


@pytest.mark.root
@pytest.mark.slow
def test_another_user_reads_nothing(folder: Path, tmp_path: Path) -> None:
    """However long the moment between two calls."""
    if os.geteuid():
        pytest.skip("a second user needs root")
    command = [sys.executable, "-c", READING, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        send(folder, tmp_path / "log", "--trace=fchmod,flock", "-e", "inject=fchmod,flock:delay_enter=300000")
        found, _ = reader.communicate()
    seen, _, got = found.strip().partition(" ")
    assert int(seen) >= 3
    assert got == "[]"
