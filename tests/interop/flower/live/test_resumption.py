"""Results of a round as metric records: numbers of numpy among them."""

from pathlib import Path

import numpy as np
import pytest

import archive
from archive.interop.flower import Resumable
from tests.interop.flower.live.names import require_today

common = require_today()
known = pytest.importorskip("flwr.server.strategy")


def test_numbers_of_numpy_are_metrics(tmp_path: Path) -> None:
    initial = common.ndarrays_to_parameters([np.zeros(3, "f4")])
    found = {"accuracy": np.float64(0.9), "count": np.int64(3), "rates": [1, np.float32(0.5)], "name": "x"}
    strategy = Resumable(
        known.FedAvg(
            fraction_evaluate=0.0,
            initial_parameters=initial,
            fit_metrics_aggregation_fn=lambda _: found,
            evaluate_fn=lambda *_: (np.float32(0.5), {"central": np.float64(0.75)}),
        ),
        tmp_path,
    )
    strategy.initialize_parameters(None)
    strategy._fedarchive.begin(1)
    done = common.FitRes(common.Status(common.Code.OK, ""), initial, 1, {})
    strategy.aggregate_fit(1, [(None, done)], [])
    strategy.evaluate(1, initial)
    strategy.configure_evaluate(1, initial, None)
    saved = archive.load(tmp_path / "default/rounds/00000001.h5")
    assert dict(saved["fit"]) == {"accuracy": 0.9, "count": 3, "rates": [1.0, 0.5]}
    assert dict(saved["server"]) == {"loss": 0.5, "central": 0.75}
