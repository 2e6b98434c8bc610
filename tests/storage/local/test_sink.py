"""A file that appears under its name complete, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archive.errors import ExistsError, StorageError
from archive.storage.local.sink import AtomicFile


def begin(path: Path, **options: bool) -> tuple[AtomicFile, Path]:
    """Return a file that is written, and where it lies until it is published."""
    file = AtomicFile(str(path), durable=False, **options)
    file.write(b"new", 0)
    return file, path.with_name(f".{path.name}.0.tmp")


def test_a_rename_that_was_made_already(tmp_path: Path) -> None:
    """As by NFS, which repeats a request whose reply was lost: the second finds no file to rename."""
    path = tmp_path / "model.h5"
    file, temporary = begin(path)
    temporary.rename(path)
    temporary.write_bytes(b"of another writer")
    temporary.rename(tmp_path / "other")
    file.publish()
    assert path.read_bytes() == b"new"


def test_a_temporary_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"old")
    file, temporary = begin(path)
    temporary.unlink()
    with pytest.raises(StorageError, match="No such file"):
        file.publish()
    file.discard()
    assert path.read_bytes() == b"old"


def test_a_link_that_was_made_already(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    file, temporary = begin(path, overwrite=False)
    os.link(temporary, path)
    file.publish()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["model.h5"]


def test_a_file_that_appeared_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    file, _ = begin(path, overwrite=False)
    path.write_bytes(b"theirs")
    with pytest.raises(ExistsError):
        file.publish()
    file.discard()
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["model.h5"]
