"""Which folders of some names a folder has."""

from __future__ import annotations

from pathlib import Path

from archive.storage.subfolders import find_subfolders


def test_a_link_that_leads_nowhere_hides_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run" / "rounds").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("run")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "long").symlink_to("n" * 300)
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "rounds.h5").touch()
    assert find_subfolders(str(tmp_path), ["rounds"]) == ["linked", "run"]
