"""Temporary files: held while their writer lives, removed by content and lock, never by name alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.format.constants import DATA_AT, SUPERBLOCK_BYTES
from archive.format.footer import HDF5_SIGNATURE, parse_superblock_eof
from archive.owner import Descriptor
from archive.storage.local.partial import PartialFile
from archive.storage.local.sink import AtomicFile, claim_slot
from archive.storage.local.slots import HEAD_BYTES, SLOTS, begins_as_archive, remove_stale
from archive.storage.local.volumes import close_unlocked, hold
from archive.tools.collection import collect_garbage
from tests.children import ROOT
from tests.faults.conftest import environment

fcntl = pytest.importorskip("fcntl", reason="what holds a slot is a lock")

CLAIMING = """
import json, os, sys, time
from archive.storage.local.sink import claim_slot
from archive.storage.local.slots import remove_stale
from archive.owner import Descriptor
from archive.storage.local.volumes import close_unlocked

role, folder, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
paths = [f"{folder}/.model.h5.{slot}.tmp" for slot in range(2)]
sys.stdin.readline()
end, turns, wrong = time.monotonic() + seconds, 0, []
while time.monotonic() < end:
    path = paths[turns % 2]
    turns += 1
    if role == "remove":
        remove_stale(path, dry_run=True)
        remove_stale(path)
        continue
    file = Descriptor()
    if not claim_slot(path, file):
        continue
    fd = file[0]
    mine = f"{os.getpid()} {turns}".encode()
    os.pwrite(fd, mine, 4096)
    if turns % 3 == 0:
        time.sleep(0.0005)
    try:
        named = os.stat(path)
    except FileNotFoundError:
        wrong.append("removed under its writer")
    else:
        if named.st_ino != os.fstat(fd).st_ino:
            wrong.append("another file under its name")
        if named.st_nlink != 1 or os.pread(fd, 100, 4096) != mine:
            wrong.append("shared by two writers")
    if turns % 5:
        os.unlink(path)
        close_unlocked(file)
    file.close()  # as a killed writer leaves it
print(json.dumps([turns, wrong]))
"""


def test_what_begins_as_an_archive_is_what_the_format_says(tmp_path: Path) -> None:
    archive.save({"w": np.ones(3)}, tmp_path / "m.h5")
    whole = (tmp_path / "m.h5").read_bytes()
    assert HEAD_BYTES == DATA_AT
    superblock = whole[:SUPERBLOCK_BYTES]
    assert parse_superblock_eof(superblock) == len(whole)
    for head in (whole, whole[:DATA_AT], superblock, b"", bytes(9), bytes(DATA_AT)):
        assert begins_as_archive(head[:HEAD_BYTES])
    for place in range(SUPERBLOCK_BYTES):
        other = bytearray(superblock)
        other[place] ^= 1
        flipped = bytes(other)
        assert begins_as_archive(flipped) == (parse_superblock_eof(flipped) is not None)
    for head in (b"text", HDF5_SIGNATURE, superblock + b"\1", bytes(DATA_AT - 1) + b"\1"):
        assert not begins_as_archive(head)


def test_the_files_of_others_are_no_temporary_files(tmp_path: Path) -> None:
    """A save of ``notes`` removes none of the names ``.notes.0.tmp`` to ``.notes.7.tmp``."""
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("a thesis")
    for slot in (0, 3, 7):
        (tmp_path / f".notes.{slot}.tmp").write_text("notes")
    (tmp_path / ".notes.2.tmp").symlink_to(thesis)
    os.link(thesis, tmp_path / ".notes.4.tmp")
    os.mkfifo(tmp_path / ".notes.5.tmp")
    (tmp_path / ".notes.6.tmp").mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    archive.save({"w": np.ones(3)}, tmp_path / "notes")
    assert collect_garbage(tmp_path, older_than=0) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "notes"])
    assert thesis.read_text() == "a thesis"
    assert [(tmp_path / f".notes.{slot}.tmp").read_text() for slot in (0, 3, 7)] == ["notes"] * 3


@pytest.mark.parametrize("head", [b"", bytes(5000), None])
def test_what_a_killed_save_left_is_taken_over_or_removed(tmp_path: Path, head: bytes | None) -> None:
    archive.save({"w": np.ones(3)}, tmp_path / "m.h5")
    content = (tmp_path / "m.h5").read_bytes()[:4999] if head is None else head
    for slot in range(SLOTS):
        (tmp_path / f".m.h5.{slot}.tmp").write_bytes(content)
    archive.save({"w": np.zeros(3)}, tmp_path / "m.h5")
    assert os.listdir(tmp_path) == ["m.h5"]


def test_what_is_no_archive_is_ours_by_its_name(tmp_path: Path) -> None:
    """``.table.csv.0.tmp`` may be anybody's, as may its content."""
    theirs, killed, other = (
        tmp_path / f".{name}.tmp"
        for name in ("table.csv.0", "table.csv.0.fedarchive", "page.html.7.fedarchive")
    )
    for path in (theirs, killed, other):
        path.write_text("1,2\n")
    held = AtomicFile(str(tmp_path / "table.csv"), marked=True)
    assert Path(held.temporary) == killed  # taken over
    held.write(b"3,4\n", 0)
    assert [left.path for left in collect_garbage(tmp_path, older_than=0)] == [str(other)]
    held.publish()
    assert sorted(os.listdir(tmp_path)) == [".table.csv.0.tmp", "table.csv"]


def test_a_name_that_was_published_is_litter(tmp_path: Path) -> None:
    """An exclusive save was killed between link and unlink."""
    archive.save({"w": np.ones(3)}, tmp_path / "m.h5")
    content = (tmp_path / "m.h5").read_bytes()
    for slot in (0, 1):
        os.link(tmp_path / "m.h5", tmp_path / f".n.h5.{slot}.tmp")
    os.link(tmp_path / "m.h5", tmp_path / ".other.h5.0.tmp")
    assert len(collect_garbage(tmp_path, older_than=0, dry_run=True)) == 3
    archive.save({"w": np.zeros(3)}, tmp_path / "n.h5")
    assert [left.path for left in collect_garbage(tmp_path, older_than=0)] == [
        str(tmp_path / ".other.h5.0.tmp")
    ]
    assert sorted(os.listdir(tmp_path)) == ["m.h5", "n.h5"]
    assert (tmp_path / "m.h5").read_bytes() == content


def test_no_writer_loses_its_file_to_a_collector(tmp_path: Path) -> None:
    """More writers of one name than there are slots: the ninth has a random name, and holds it too."""
    writers = [AtomicFile(str(tmp_path / "m.h5")) for _ in range(SLOTS + 2)]
    names = sorted(os.listdir(tmp_path))
    assert len(names) == SLOTS + 2
    assert collect_garbage(tmp_path, older_than=0) == []
    assert sorted(os.listdir(tmp_path)) == names
    for writer in writers:
        writer.publish()
    assert os.listdir(tmp_path) == ["m.h5"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / ".model.h5.0.tmp")


def test_a_writer_shares_its_file_with_readers_only(path: str) -> None:
    file = Descriptor()
    assert claim_slot(path, file)
    assert not remove_stale(path)
    assert not claim_slot(path, Descriptor())
    with open(path, "rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)  # as libhdf5 does
        with pytest.raises(BlockingIOError):
            fcntl.flock(reader, fcntl.LOCK_EX | fcntl.LOCK_NB)
    close_unlocked(file)
    assert remove_stale(path)
    assert not os.path.exists(path)


def test_what_a_killed_writer_left_is_replaced(path: str) -> None:
    left = bytes(HEAD_BYTES) + b"left behind"
    Path(path).write_bytes(left)
    with open(path, "rb") as before:
        file = Descriptor()
        assert claim_slot(path, file)
        assert os.fstat(file[0]).st_ino != os.fstat(before.fileno()).st_ino
        assert before.read() == left
    assert os.fstat(file[0]).st_size == 0


def test_a_file_that_somebody_locked_or_removed_first_is_not_held(path: str) -> None:
    """What another process does between the creation of a slot and its lock."""
    with open(path, "wb") as made, open(path, "rb") as faster:
        fcntl.flock(faster, fcntl.LOCK_EX)
        assert not hold(made.fileno(), path)
        os.unlink(path)
        fcntl.flock(faster, fcntl.LOCK_UN)
        assert not hold(made.fileno(), path)
        Path(path).touch()
        assert not hold(made.fileno(), path)


def test_a_partial_file_that_somebody_looks_at_is_left_to_them(tmp_path: Path) -> None:
    """Readers may look at it all the time; whoever completes it waits until its writer is gone."""
    file = PartialFile(str(tmp_path / "model.h5"))
    with open(file.partial, "rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(reader, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("seconds", [0.5, pytest.param(30, marks=pytest.mark.slow)])
def test_claims_and_removals_side_by_side(tmp_path: Path, seconds: float) -> None:
    """Whoever claimed a slot has it alone, whatever others claim and remove meanwhile."""
    command = [sys.executable, "-c", CLAIMING]
    roles = ["claim"] * 3 + ["remove"] * 2
    crowd = [
        subprocess.Popen(
            [*command, role, str(tmp_path), str(seconds)],
            cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for role in roles
    ]  # fmt: skip
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate()[0]) for process in crowd]
    assert all(turns > 20 for turns, _ in results)
    assert [wrong for _, wrong in results] == [[]] * len(roles)


@pytest.mark.root
def test_what_root_was_about_to_give_away(tmp_path: Path) -> None:
    """Killed right before the rename: the temporary file has the owner of the old one already."""
    if os.geteuid():
        pytest.skip("needs root")
    path, slot = tmp_path / "model.h5", tmp_path / ".model.h5.0.tmp"
    archive.save({"w": np.zeros(3)}, path)
    slot.write_bytes(path.read_bytes())
    for left in (path, slot):
        os.chown(left, 1234, 1234)
    archive.save({"w": np.ones(3)}, path)
    assert os.listdir(tmp_path) == ["model.h5"]
    assert path.stat().st_uid == 1234
