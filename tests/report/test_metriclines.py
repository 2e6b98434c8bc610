"""Metrics as lines, and outliers among them."""

from __future__ import annotations

import math
from pathlib import Path

from archive.checkpoints.roundrows import read_history
from archive.report.metriclines import metric_lines, outlying
from tests.report.samples import save_run


def test_lines_of_rounds_and_clients(tmp_path: Path) -> None:
    store = save_run(tmp_path / "run", rounds=2, clients=3)
    rows = read_history(store._files, clients=True, errors="raise")
    lines = {line.key: line for line in metric_lines(rows)}
    assert list(lines) == ["loss", "accuracy", "examples"]
    loss = lines["loss"]
    assert loss.model == {0: 2.0, 1: 1.0, 2: 2 / 3}
    assert loss.rounds() == [0, 1, 2]
    lows, middles, highs = loss.ranges([0, 1])
    assert math.isnan(lows[0])
    assert [round(one[1], 9) for one in (lows, middles, highs)] == [1.05, 1.06, 1.07]
    assert lines["examples"].model == {}
    assert lines["examples"].clients["client-02"] == {1: 102.0, 2: 102.0}


def test_outliers() -> None:
    assert outlying([1.0, 1.01, 0.99, 1.02, 0.98, 1.5]) == [5]
    assert outlying([1.0, 1.01, 0.99, 1.02, 0.98, -3.0, math.nan]) == [5]
    assert outlying([1.0, 1.0, 1.0, 1.0, 1.0 + 1e-9]) == []
    assert outlying([1.0, 1.0, 1.0, 1.0, 2.0]) == [4]
    assert outlying([0.0, 0.0, 0.0, 0.0, 0.1]) == []
    assert outlying([1.0, 2.0, 3.0, 4.0, 5.0]) == []
    assert outlying([1.0, 1.0, 1.0, 9.0]) == []
