"""`recover`: what a failed save left is completed, and no other file is written to or removed."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.errors import (
    ArchiveError,
    DamagedError,
    NotAnArchiveError,
    PartialSaveError,
    StorageError,
    VersionError,
)
from archive.format.constants import FOOTER_BYTES
from archive.format.digests import digest
from archive.owner import Owner
from archive.storage.local.journal import Journal

NDArray = np.ndarray[Any, Any]


def layers(version: int = 1) -> dict[str, NDArray]:
    return {f"layer{number}": np.full(3000, number + 10 * version, "f8") for number in range(6)}


@functools.cache
def left_by_a_kill(arrived: int, version: int) -> tuple[bytes, bytes]:
    """Return partial file and journal of a save that was killed when some arrays had arrived."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.h5")
        found: list[bytes] = []

        def killed() -> Iterator[tuple[str, NDArray]]:
            yield from itertools.islice(layers(version).items(), arrived)
            with open(f"{path}.partial", "rb") as file:
                found.append(file.read(1 << 20))  # what follows was only reserved
            found.append(Path(f"{path}.partial.journal").read_bytes())
            raise RuntimeError

        with pytest.raises(PartialSaveError):
            archive.save(killed(), path, keep_input=False, durable=False)
    return found[0], found[1]


def begin(folder: Path, arrived: int = 4, version: int = 1) -> Path:
    """Return the partial file of a killed save, its journal beside it."""
    folder.mkdir(exist_ok=True)
    partial = folder / "x.h5.partial"
    data, journal = left_by_a_kill(arrived, version)
    partial.write_bytes(data)
    journal_of(partial).write_bytes(journal)
    return partial


def journal_of(partial: Path) -> Path:
    return partial.with_name(partial.name + ".journal")


def check(partial: Path, arrived: int = 4, version: int = 1) -> None:
    """Recover, and compare."""
    found = dict(archive.recover(partial).array_records["model"])
    wanted = list(layers(version).items())[:arrived]
    assert [(key, array.numpy().tolist()) for key, array in found.items()] == [
        (key, array.tolist()) for key, array in wanted
    ]
    assert not journal_of(partial).exists()
    assert archive.verify(partial)


def test_what_arrived_is_completed(tmp_path: Path) -> None:
    partial = begin(tmp_path)
    arrays = partial.read_bytes()[4096 : 4096 + 4 * 24000]
    check(partial)
    assert partial.read_bytes()[4096 : 4096 + 4 * 24000] == arrays
    check(partial)


# Files of others


def of_text(path: Path) -> None:
    path.write_text("a thesis" * 1000)


def of_h5py(path: Path) -> None:
    """An HDF5 file whose superblock is of the same version as ours."""
    with h5py.File(path, "w", libver="v110") as file:
        file["w"] = np.ones(30_000)
    data = bytearray(path.read_bytes())
    assert data[8] in (2, 3)
    data[8] = 2
    path.write_bytes(data)


def of_archive(path: Path) -> None:
    """An archive that is whole, but for a flipped bit in its index."""
    archive.save(layers(7), path)
    data = bytearray(path.read_bytes())
    data[-FOOTER_BYTES - 100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", [of_text, of_h5py, of_archive])
@pytest.mark.parametrize("way", ["link", "hard link", "file"])
def test_the_file_of_something_else_is_not_written_to(tmp_path: Path, kind: Any, way: str) -> None:
    partial, thesis = begin(tmp_path / "run"), tmp_path / "thesis"
    kind(thesis)
    before, journal = thesis.read_bytes(), journal_of(partial).read_bytes()
    partial.unlink()
    if way == "link":
        partial.symlink_to(thesis)
    elif way == "hard link":
        os.link(thesis, partial)
    else:
        shutil.copyfile(thesis, partial)
    with pytest.raises(ArchiveError) as caught:
        archive.recover(partial)
    assert caught.value.path == str(partial)
    assert thesis.read_bytes() == partial.read_bytes() == before
    assert journal_of(partial).read_bytes() == journal, "nothing is lost: the right file may yet be found"


def test_a_link_to_an_archive_in_the_making_is_not_followed(tmp_path: Path) -> None:
    there = begin(tmp_path / "there")
    before = there.read_bytes()
    here = tmp_path / "x.h5.partial"
    shutil.copyfile(journal_of(there), journal_of(here))
    for make in (here.symlink_to, here.hardlink_to):
        make(there)
        with pytest.raises(StorageError, match=r"link|another name"):
            archive.recover(here)
        here.unlink()
        assert there.read_bytes() == before
    check(there)


def test_folders_above_may_be_links(tmp_path: Path) -> None:
    begin(tmp_path / "there")
    (tmp_path / "here").symlink_to(tmp_path / "there")
    check(tmp_path / "here/x.h5.partial")


def test_a_journal_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    partial = begin(tmp_path)
    before, journal = partial.read_bytes(), journal_of(partial)
    journal.rename(tmp_path / "elsewhere")
    for plant in (lambda: journal.symlink_to("elsewhere"), lambda: os.mkfifo(journal), journal.mkdir):
        plant()
        with pytest.raises(StorageError, match="link"):
            archive.recover(partial)
        assert partial.read_bytes() == before
        journal.rmdir() if journal.is_dir() else journal.unlink()
    (tmp_path / "elsewhere").rename(journal)
    check(partial)


def test_a_partial_file_that_is_a_pipe(tmp_path: Path) -> None:
    partial = begin(tmp_path)
    partial.unlink()
    os.mkfifo(partial)
    with pytest.raises(StorageError):
        archive.recover(partial)


def test_a_new_journal_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.h5.partial").write_bytes(b"")
    (tmp_path / "m.h5.partial.journal").write_text("a thesis")
    with pytest.raises(StorageError):
        Journal(str(tmp_path / "m.h5.partial"), Owner())
    assert (tmp_path / "m.h5.partial.journal").read_text() == "a thesis"


def test_the_journal_of_another_save(tmp_path: Path) -> None:
    """What follows the arrays of a journal would be written over the arrays of the other save."""
    partial, other = begin(tmp_path / "run", 6), begin(tmp_path / "other", 2, version=2)
    before, own = partial.read_bytes(), journal_of(partial).read_bytes()
    shutil.copyfile(journal_of(other), journal_of(partial))
    with pytest.raises(DamagedError, match="no array that the journal lists"):
        archive.recover(partial)
    assert partial.read_bytes() == before
    journal_of(partial).write_bytes(own)
    check(partial, 6)


# Files that are whole

JOURNALS = {
    "as it was": lambda text: text,
    "with fewer arrays": lambda text: b"".join(text.splitlines(keepends=True)[:3]),
    "with a torn line": lambda text: text[: len(text) // 2],
    "with a torn first line": lambda text: text[:40],
    "with a damaged line": lambda text: text[:-200] + b"\0" * 200,
    "empty": lambda text: b"",
    "zeros": lambda text: bytes(len(text)),
}
"""What a power cut may bring back of a journal that was removed."""


@pytest.mark.parametrize("state", JOURNALS)
def test_a_whole_file_stays_as_it_is(tmp_path: Path, state: str) -> None:
    partial = begin(tmp_path)
    journal = journal_of(partial).read_bytes()
    check(partial)
    data, written = partial.read_bytes(), partial.stat().st_mtime_ns
    journal_of(partial).write_bytes(JOURNALS[state](journal))
    check(partial)
    assert partial.read_bytes() == data
    assert partial.stat().st_mtime_ns == written


@pytest.mark.parametrize("text", ["a thesis", "0123abcd {notes}\n", "12345678 notes\nmore\n"])
def test_a_file_of_others_that_is_called_like_a_journal(tmp_path: Path, text: str) -> None:
    archive.save(layers(), tmp_path / "m.h5")
    (tmp_path / "m.h5.journal").write_text(text)
    assert list(archive.recover(tmp_path / "m.h5").array_records["model"]) == list(layers())
    assert (tmp_path / "m.h5.journal").read_text() == text


def test_a_whole_file_of_a_newer_format(tmp_path: Path) -> None:
    partial = begin(tmp_path)
    journal = journal_of(partial).read_bytes()
    check(partial)
    data = bytearray(partial.read_bytes())
    footer = data[-FOOTER_BYTES:]
    footer[8] = 9
    footer[-24:-8] = digest(bytes(footer[:-24]))
    data[-FOOTER_BYTES:] = footer
    partial.write_bytes(data)
    journal_of(partial).write_bytes(journal)
    with pytest.raises(VersionError):
        archive.recover(partial)
    assert partial.read_bytes() == data
    assert journal_of(partial).read_bytes() == journal


def test_nothing_of_ours_without_a_journal(tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_text("a thesis")
    with pytest.raises(NotAnArchiveError):
        archive.recover(tmp_path / "x.partial")
    assert (tmp_path / "x.partial").read_text() == "a thesis"
