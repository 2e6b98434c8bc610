"""Temporary files: taken over or removed by content and lock, never by name alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.format.constants import DATA_AT, SUPERBLOCK_BYTES
from archive.format.footer import HDF5_SIGNATURE, parse_superblock_eof
from archive.storage.local.sink import AtomicFile
from archive.storage.local.slots import HEAD_BYTES, SLOTS, begins_as_archive
from archive.tools.collection import sweep


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
        assert begins_as_archive(other) == (parse_superblock_eof(other) is not None)
    for head in (b"text", HDF5_SIGNATURE, superblock + b"\1", bytes(DATA_AT - 1) + b"\1"):
        assert not begins_as_archive(head)


def test_the_files_of_others_are_no_temporary_files(tmp_path: Path) -> None:
    """A save of ``notes`` takes over or removes none of the names ``.notes.0.tmp`` to ``.notes.7.tmp``."""
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
    assert sweep(tmp_path, older_than=0) == []
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


def test_a_name_that_was_published_is_litter(tmp_path: Path) -> None:
    """An exclusive save was killed between link and unlink."""
    archive.save({"w": np.ones(3)}, tmp_path / "m.h5")
    content = (tmp_path / "m.h5").read_bytes()
    for slot in (0, 1):
        os.link(tmp_path / "m.h5", tmp_path / f".n.h5.{slot}.tmp")
    os.link(tmp_path / "m.h5", tmp_path / ".other.h5.0.tmp")
    assert len(sweep(tmp_path, older_than=0, dry_run=True)) == 3
    archive.save({"w": np.zeros(3)}, tmp_path / "n.h5")
    assert [left.path for left in sweep(tmp_path, older_than=0)] == [str(tmp_path / ".other.h5.0.tmp")]
    assert sorted(os.listdir(tmp_path)) == ["m.h5", "n.h5"]
    assert (tmp_path / "m.h5").read_bytes() == content


def test_no_writer_loses_its_file_to_a_collector(tmp_path: Path) -> None:
    """More writers of one name than there are slots: the ninth has a random name, and holds it too."""
    writers = [AtomicFile(str(tmp_path / "m.h5")) for _ in range(SLOTS + 2)]
    names = sorted(os.listdir(tmp_path))
    assert len(names) == SLOTS + 2
    assert sweep(tmp_path, older_than=0) == []
    assert sorted(os.listdir(tmp_path)) == names
    for writer in writers:
        writer.publish()
    assert os.listdir(tmp_path) == ["m.h5"]
