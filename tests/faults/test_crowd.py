"""L6 and L7 of FAULTS.md: several processes save to one path while others read it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.children import ROOT
from tests.faults.conftest import environment
from tests.faults.crowd import WRITERS
from tests.faults.scenes import litter, save, version_of

Players = list[subprocess.Popen[str]]


@contextlib.contextmanager
def players(folder: Path, role: str, numbers: range, rounds: int) -> Iterator[Players]:
    """Start processes, which wait for a line; end those that still run where a test fails."""
    crowd = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crowd", role, str(folder), str(number), str(rounds)],
            cwd=ROOT, env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in numbers
    ]  # fmt: skip
    try:
        yield crowd
    finally:
        for player in crowd:
            if player.returncode is None:
                player.kill()
                player.communicate()


def go(crowd: Players) -> None:
    """Let all begin."""
    for player in crowd:
        assert player.stdin is not None
        player.stdin.write("go\n")
        player.stdin.flush()


def results(crowd: Players) -> list[dict[str, Any]]:
    """Wait for all and return what they say."""
    found = []
    for player in crowd:
        output, errors = player.communicate()
        assert player.returncode == 0, errors[-2000:]
        found.append(json.loads(output))
    return found


@pytest.mark.parametrize(
    ("writers", "rounds"),
    [
        pytest.param(2, 300, marks=pytest.mark.slow),
        (4, 40),
        pytest.param(4, 3000, marks=pytest.mark.slow),
    ],
)
def test_writers_and_readers(
    tmp_path: Path, writers: int, rounds: int, figures: Callable[[str], None]
) -> None:
    """L6: the last rename wins; every reader gets one complete version; nothing is left over."""
    save(tmp_path / "model.h5", 0)
    with (
        players(tmp_path, "write", range(writers), rounds) as writing,
        players(tmp_path, "read", range(2), rounds) as reading,
    ):
        go(writing + reading)
        saved = results(writing)
        (tmp_path / "done").touch()
        read = results(reading)
    opened, versions = (sum(answer[key] for answer in read) for key in ("opened", "versions"))
    figures(f"L6 {writers} writers: {writers * rounds} saves, {opened} opens, {versions} versions seen")
    assert sum(answer["saved"] for answer in saved) == writers * rounds
    assert version_of(tmp_path / "model.h5") // WRITERS == rounds - 1
    assert litter(tmp_path, "model.h5", "done") == []
    assert versions > 2


@pytest.mark.parametrize(
    ("writers", "paths"),
    [pytest.param(2, 200, marks=pytest.mark.slow), (4, 60), pytest.param(4, 3000, marks=[pytest.mark.slow])],
)
def test_exactly_one_creates(
    tmp_path: Path, writers: int, paths: int, figures: Callable[[str], None]
) -> None:
    """L7: overwrite=False: one winner a path, and the archive is the winner's."""
    with players(tmp_path, "create", range(writers), paths) as crowd:
        go(crowd)
        won = [set(answer["won"]) for answer in results(crowd)]
    figures(f"L7 {writers} writers, {paths} paths: won {[len(share) for share in won]}")
    assert sorted(path for share in won for path in share) == list(range(paths))
    for number, share in enumerate(won):
        assert all(version_of(tmp_path / f"{path}.h5") == number for path in share)
    assert sorted(os.listdir(tmp_path)) == sorted(f"{path}.h5" for path in range(paths))
