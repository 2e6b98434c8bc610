"""Results of a round as metric records: numbers of numpy among them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import packers
from archive.interop.flower import Resumable
from tests.interop.flower.live import legacyruns
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


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_of_the_old_api_have_names(tmp_path: Path, packed: bool) -> None:
    weights = [np.arange(6, dtype="f4").reshape(2, 3), np.zeros(3, "f4")]
    packer = packers.ParameterPackerWithControlVariates(2) if packed else None
    arrays = packer.pack_parameters(weights, [weights[0] + 1, weights[1] - 1]) if packer else weights
    initial = common.ndarrays_to_parameters(arrays)

    def make() -> Any:
        strategy = known.FedAvg(fraction_evaluate=0.0, initial_parameters=initial)
        return Resumable(strategy, tmp_path, names=["fc.weight", "fc.bias"], packer=packer)

    strategy = make()
    strategy.initialize_parameters(None)
    strategy._fedarchive.begin(1)
    strategy.aggregate_fit(1, [(None, common.FitRes(common.Status(common.Code.OK, ""), initial, 1, {}))], [])
    strategy.configure_evaluate(1, initial, None)
    strategy._fedarchive.rounds.release()
    saved = archive.load(tmp_path / "default/rounds/00000001.h5")
    assert list(saved["model"]) == ["fc.weight", "fc.bias"]
    assert ("control_variates" in list(saved)) == packed
    again = make().initialize_parameters(None)
    assert (again.tensors, again.tensor_type) == (initial.tensors, initial.tensor_type)


def test_names_are_for_the_old_api(tmp_path: Path) -> None:
    today = pytest.importorskip("flwr.serverapp.strategy")
    with pytest.raises(TypeError, match="names and packer are for"):
        Resumable(today.FedAvg(), tmp_path, names=["w"])
    with pytest.raises(ValueError, match="list of str"):
        Resumable(known.FedAvg(), tmp_path, names="w")


def save_again(path: Path, change: dict[str, Any]) -> None:
    """Save a round anew with other facts of its server."""
    with archive.open(path) as saved:
        records: Any = saved.records
        records["fedarchive.resume"] = archive.ConfigRecord({**records["fedarchive.resume"], **change})
        archive.save(records, path)


HOSTILE: dict[str, list[Any]] = {
    "schema": ["5", "1e999"],
    "configs": ["5", "[1]", '{"train":5}', '{"train":{"1":5}}', '{"train":{"given":5,"last":5}}'],
    "random": ["null", "[1]", "{}", '{"python":5}'],
    "history": ["5", "[]", '{"train":null}', '{"train":{"1":5}}'],
    "nodes": ["null", "5", "[1]", "[[]]"],
    "identity": ["null", "[]", '{"name":5}'],
    "models": [[], ["strategy"]],
}


@pytest.mark.parametrize(("name", "made"), [(name, made) for name in HOSTILE for made in HOSTILE[name]])
def test_a_round_that_somebody_else_made_is_a_typed_error(tmp_path: Path, name: str, made: Any) -> None:
    runs = pytest.importorskip("tests.interop.flower.live.messageruns")

    def run(rounds: int) -> None:
        config = runs.app.ConfigRecord({"lr": 1.0})
        runs.start(Resumable(runs.known.FedAvg(), tmp_path), rounds, train_config=config)

    run(1)
    path = tmp_path / "default/rounds/00000001.h5"
    save_again(path, {name: made})
    with pytest.raises(archive.ArchiveError):
        run(2)


def test_a_round_under_the_number_of_another_is_a_typed_error(tmp_path: Path) -> None:
    runs = pytest.importorskip("tests.interop.flower.live.messageruns")
    runs.start(Resumable(runs.known.FedAvg(), tmp_path), 2)
    rounds = tmp_path / "default/rounds"
    shutil.copy(rounds / "00000002.h5", rounds / "00000004.h5")
    with pytest.raises(archive.ArchiveError, match="round 4 is that of round 2"):
        runs.start(Resumable(runs.known.FedAvg(), tmp_path), 4)
    assert (rounds / "00000004.h5").exists()


@pytest.mark.parametrize("history", ['{"fit":{"1":5}}', '{"evaluate":{"1":[0.5]}}', '{"server":{"0":"x"}}'])
def test_a_result_of_the_old_api_that_no_server_made_is_a_typed_error(tmp_path: Path, history: str) -> None:
    legacyruns.run("FedAvgM of a sample", str(tmp_path), 1, 1)
    path = tmp_path / "default/rounds/00000001.h5"
    save_again(path, {"history": history})
    with pytest.raises(archive.errors.HostileFileError, match="no server made"):
        legacyruns.run("FedAvgM of a sample", str(tmp_path), 2, 2)
