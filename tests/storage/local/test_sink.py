"""A file that appears under its name complete, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import archive
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


CHATTY = """
import contextlib, os, sys
import numpy as np
import archive

def speak(*_):
    for fd in range(3):
        with contextlib.suppress(OSError):  # there is none
            os.write(fd, b"a message of a library written in C")

os.closerange(0, 3)
arrays = {str(number): np.ones(1 << 18) for number in range(4)}
given = iter(arrays.items()) if sys.argv[2] == "stream" else arrays
archive.save(given, sys.argv[1], progress=speak, keep_input=sys.argv[3] == "kept", durable=False)
os._exit(0)
"""


@pytest.mark.parametrize("way", ["plan", "stream"])
@pytest.mark.parametrize("kept", ["kept", "consumed"])
def test_no_message_goes_into_the_file(tmp_path: Path, way: str, kept: str) -> None:
    """Where stdout and stderr are closed their numbers are free for the next file."""
    subprocess.run([sys.executable, "-c", CHATTY, str(tmp_path / "a.h5"), way, kept], check=True)
    assert archive.verify(tmp_path / "a.h5").ok
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
