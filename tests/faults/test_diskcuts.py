"""Power cuts of ext4, XFS and Btrfs in failing consuming saves, recoveries and saves: nothing is lost."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import archive
from archive.errors import ArchiveError
from tests.faults.diskcuts import cuts, mounted_cut
from tests.faults.scenes import layers, recovered, version_of

STATES = int(os.environ.get("FEDARCHIVE_DISK_STATES", "200"))
BATCH = 50
PARTIAL = "model.h5.partial"
ORDER = ("old", "failed", "recovered", "new")


def published(folder: Path) -> str:
    """Return what is there under the name of the archive, every byte verified."""
    path = folder / "model.h5"
    if not path.exists():
        return "nothing"
    with archive.open(path) as handle:
        assert handle.verify().ok
        whole = len(handle) == len(layers())
    return "new" if whole else f"version {version_of(path)}"


def judge(folder: Path, told: str) -> str:
    """Return what is there; fail where that is less than what the child had been promised."""
    there = published(folder)
    came_back = None if there == "new" else recovered(folder / PARTIAL)
    if told == "old":
        assert there == "version 1"
    elif told in ("failed", "recovered"):
        assert there == "new" or (there, came_back) == ("version 1", 7), (there, came_back)
    elif told == "new":
        assert there == "new"
    else:
        assert there in ("nothing", "version 1"), there
    return f"{told or 'nothing'}: {there}, {came_back}"


def judge_all(place: Path, told: tuple[str, int]) -> list[str]:
    """Judge the last folders of a cut; return what is there in those where something may still happen."""
    what, last = told
    found = []
    for number in range(max(0, last - 3), last + 2):
        if number > last and not (place / str(number)).is_dir():
            continue
        promised = "new" if number < last else what if number == last else ""
        there = judge(place / str(number), promised)
        found += [there] if number >= last else []
    return found


pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="images are kept in memory"),
]


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_power_cuts(kind: str, figures: Callable[[str], None]) -> None:
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder, states, seed = Path(name), 0, 0
        while states < STATES:
            seed += 1
            for cut in cuts(kind, folder, min(BATCH, STATES - states), seed):
                states += 1
                with mounted_cut(kind, cut, folder / "place") as place:
                    found.update(judge_all(place, cut.told))
    figures(f"{kind}: {states} power cuts, {dict(found)}")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_saves_that_sync_nothing_lose_something(kind: str) -> None:
    """Or the cuts would prove nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder, lost = Path(name), 0
        for cut in cuts(kind, folder, 20, 1, durable=False):
            with mounted_cut(kind, cut, folder / "place") as place:
                try:
                    judge_all(place, cut.told)
                except (AssertionError, ArchiveError):
                    lost += 1
    assert lost
