"""FL4Health's clients and servers, killed in rounds 3 and 4, end with the bits of an uninterrupted run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fl4health")

from tests.fl4health.live.algorithms import ALGORITHMS
from tests.fl4health.live.killing import ours, run


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_killed_twice_ends_with_the_bits_of_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    whole = run(name, tmp_path / "whole", ours(str(tmp_path / "whole/run")))
    url = str(tmp_path / "killed/run")
    run(name, tmp_path / "killed", ours(url), kill_in=3)
    run(name, tmp_path / "killed", ours(url), kill_in=4, seed=1000)
    killed = run(name, tmp_path / "killed", ours(url), seed=2000)
    assert whole is not None
    assert killed is not None
    for who, results in whole.items():
        for part, expected in results.items():
            assert killed[who][part] == expected, f"{who}: {part}"
