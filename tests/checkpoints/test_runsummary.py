"""What is shown of a store: its folder and its rounds; nothing is opened, waited for or raised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive
from tests.hostiletexts import require_inert
from tests.storage.folderstore import FolderStore, reach


def texts(store: archive.CheckpointStore) -> list[str]:
    return require_inert(repr(store), store._repr_html_()).texts


def test_rounds_are_counted_and_none_is_opened(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    assert texts(store) == ["CheckpointStore", "folder", str(tmp_path / "run"), "rounds", "none yet"]
    store.save({"w": np.zeros(3)}, 1)
    assert texts(store)[-1] == "1 round: 1"
    for number in range(2, 1001):
        (tmp_path / f"run/rounds/{number:08}.h5").write_bytes(b"no archive")
    assert texts(store)[-1] == "1,000 rounds: 1 to 1000"
    assert repr(store) == f"CheckpointStore({str(tmp_path / 'run')!r})"


def test_showing_decides_nothing(tmp_path: Path) -> None:
    """The store looks for its run when it is used, not when it is shown."""
    for name in ("<b>adam", "sgd\x1b[2J"):
        archive.CheckpointStore(tmp_path, name).save({"w": np.zeros(3)}, 1)
        store = archive.CheckpointStore(tmp_path)
        shown = texts(store)[-1]
        assert store._files.location.display == str(tmp_path)
    assert shown.startswith(str(tmp_path))
    assert "<b>adam" in shown


def test_a_folder_that_cannot_be_listed_is_a_remark(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/rounds").symlink_to(tmp_path / "run/rounds")
    assert texts(archive.CheckpointStore(tmp_path / "run", "<img src=x>"))[:2] == [
        "CheckpointStore",
        "folder",
    ]


def test_a_remote_folder_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = FolderStore(tmp_path)
    reach(bucket, monkeypatch)
    store = archive.CheckpointStore("folder://m/run")
    assert texts(store)[-1].startswith("not listed")
    assert bucket.asked == []
