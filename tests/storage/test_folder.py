"""Folders: what is below the one that was named, without following a link there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from archive.errors import MissingError, StorageError
from archive.storage.folder import (
    list_files,
    make_place,
    remove_empty,
    remove_file,
    remove_if,
    remove_slot,
)
from archive.storage.protocols import Source


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of somebody else, and links to it and to what is in it."""
    folder = tmp_path / "others"
    (folder / "empty").mkdir(parents=True)
    (folder / "thesis.txt").write_text("a thesis")
    (folder / ".left.h5.0.tmp").write_bytes(b"")
    root = tmp_path / "disk"
    (root / "real").mkdir(parents=True)
    (root / "linked").symlink_to(folder)
    (root / "real/inner").symlink_to(folder)
    (root / "real/thesis.txt").symlink_to(folder / "thesis.txt")
    (root / "real/round").symlink_to("round")
    (tmp_path / "root").symlink_to(root)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_nothing_below_is_reached_through_a_link(tmp_path: Path, others: Path) -> None:
    root, before = str(tmp_path / "root"), names(others)
    assert list(list_files(root, path="linked")) == []
    assert list(list_files(root, path="real/inner")) == []
    assert "thesis.txt" not in {entry.path.rpartition("/")[2] for entry in list_files(root, path="linked")}
    for path in ("linked/thesis.txt", "real/inner/thesis.txt"):
        with pytest.raises(StorageError, match="no link is followed"):
            remove_file(root, path)
        assert not remove_if(root, path, lambda source: True)
        with pytest.raises(StorageError, match="no link is followed"):
            make_place(root, path)
    assert not remove_slot(root, "linked/.left.h5.0.tmp")
    remove_empty(root, "linked/empty")
    assert names(others) == before
    # a link itself is removed by its name, and never by what is behind it
    assert not remove_if(root, "real/thesis.txt", lambda source: True)
    with pytest.raises(StorageError, match="no link is followed"):
        make_place(root, "real/thesis.txt")
    remove_file(root, "real/thesis.txt")
    assert names(others) == before
    assert (others / "thesis.txt").read_text() == "a thesis"


def test_the_root_and_what_is_above_it_may_be_links(tmp_path: Path, others: Path) -> None:
    root = str(tmp_path / "root")
    place = make_place(root, "real/a/b/file.txt")
    Path(place).write_text("mine")
    assert [entry.path for entry in list_files(root, path="real/a")] == ["b/file.txt"]
    seen: list[bytes] = []

    def judge(source: Source) -> bool:
        seen.append(source.read(0, source.nbytes).tobytes())
        return len(seen) > 1

    assert not remove_if(root, "real/a/b/file.txt", judge)
    assert remove_if(root, "real/a/b/file.txt", judge)
    assert not remove_if(root, "real/a/b/file.txt", judge)
    assert seen == [b"mine"] * 2
    with pytest.raises(MissingError):
        remove_file(root, "real/a/b/file.txt")
    remove_empty(root, "real/a/b")
    assert names(tmp_path / "disk/real/a") == []
    assert list(list_files(root, path="nowhere")) == list(list_files(str(tmp_path / "nowhere"))) == []


def test_what_was_replaced_while_it_was_judged_stays(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def judge(source: Source) -> bool:
        (tmp_path / "new").write_text("new")
        (tmp_path / "new").replace(path)
        return True

    assert not remove_if(str(tmp_path), "file.txt", judge)
    assert path.read_text() == "new"


def test_a_listing_of_links_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "nothing").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    assert [entry.path for entry in list_files(str(tmp_path))] == ["a/b/file"]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        list(list_files(str(tmp_path / "file")))
    with pytest.raises(StorageError):
        make_place(str(tmp_path), "file/inner/x.h5")
