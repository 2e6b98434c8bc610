"""FL4Health's clients and servers, killed in rounds 3 and 4, end with the bits of an uninterrupted run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fl4health")

from archive.interop.flower import Resumable
from tests.fl4health.live.algorithms import ALGORITHMS
from tests.fl4health.live.killing import ours, resumable, run


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_killed_twice_ends_with_the_bits_of_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole = run(name, tmp_path / "whole", ours(str(tmp_path / "whole/run")))
    url = str(tmp_path / "killed/run")
    run(name, tmp_path / "killed", ours(url), kill_in=3)
    run(name, tmp_path / "killed", ours(url), kill_in=4, seed=1000)
    killed = run(name, tmp_path / "killed", ours(url), seed=2000)
    assert_same(whole, killed)


@pytest.mark.parametrize("name", ["scaffold", "client DP", "fedprox", "dynamic layers"])
def test_the_same_with_a_resumable_strategy(name: str, tmp_path: Path) -> None:
    def start(folder: Path, **more: Any) -> Any:
        wrap = partial(Resumable, url=folder / "run", deterministic=True)
        return run(name, folder, resumable(str(folder / "run")), wrap=wrap, **more)

    whole = start(tmp_path / "whole")
    start(tmp_path / "killed", kill_in=3)
    start(tmp_path / "killed", kill_in=4, seed=1000)
    assert_same(whole, start(tmp_path / "killed", seed=2000))


def assert_same(whole: Any, killed: Any) -> None:
    for who, results in whole.items():
        for part, expected in results.items():
            assert killed[who][part] == expected, f"{who}: {part}"
