"""Resumable: which round a run goes on from, which rounds are kept, and which are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import DamagedError, ValueRangeError, VersionError
from archive.interop.flower import Resumable, persist_state
from archive.interop.flower.strategystate import SchemaError
from tests.interop.flower.live.grid import InProcessGrid
from tests.interop.flower.live.messageruns import client_app, initial_arrays, known, start
from tests.interop.flower.live.models import SHAPES, initial_weights


def run(folder: Path, make: Callable[[], Any], rounds: int, **options: Any) -> Any:
    return start(Resumable(make(), folder, **options), rounds)


def rounds_in(folder: Path, experiment: str = "default") -> list[int]:
    return sorted(int(path.stem) for path in (folder / experiment / "rounds").iterdir())


def data_of(result: Any) -> dict[str, bytes]:
    return {key: array.data for key, array in result.arrays.items()}


def test_another_strategy_is_an_error(tmp_path: Path) -> None:
    run(tmp_path, known.FedAdam, 1)
    with pytest.raises(SchemaError, match=r"FedAdam.*FedAvg.*another url or experiment"):
        run(tmp_path, known.FedAvg, 2)
    run(tmp_path, known.FedAvg, 1, experiment="other")
    assert rounds_in(tmp_path) == [1]


def test_another_strategy_inside_is_an_error(tmp_path: Path) -> None:
    around = known.DifferentialPrivacyServerSideFixedClipping
    run(tmp_path, lambda: around(known.FedAvg(), 0.1, 1.0, 2), 1)
    with pytest.raises(SchemaError, match=r"strategy.*FedAvgM"):
        run(tmp_path, lambda: around(known.FedAvgM(), 0.1, 1.0, 2), 2)


def test_another_model_is_an_error(tmp_path: Path) -> None:
    weights = dict(zip(SHAPES, initial_weights(), strict=True))
    run(tmp_path, known.FedAvg, 1)
    for other in (
        {**weights, "fc.bias": np.zeros(2, "f4")},
        {**weights, "fc.bias": np.zeros(1, "f8")},
        dict(list(weights.items())[:-1]),
        {**weights, "more": np.zeros(1, "f4")},
        dict(reversed(list(weights.items()))),
    ):
        with pytest.raises(SchemaError, match="the model"):
            start(Resumable(known.FedAvg(), tmp_path), 2, weights=other)


def test_the_newest_round_that_verifies_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "flwr")
    whole = run(tmp_path / "whole", known.FedAdam, 4)
    run(tmp_path, known.FedAdam, 3)
    path = tmp_path / "default/rounds/00000003.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    result = run(tmp_path, known.FedAdam, 4)
    assert "round 3 is not taken" in caplog.text
    assert "round 2 is the newest that verifies" in caplog.text
    assert list(result.train_metrics_clientapp) == [1, 2, 3, 4]
    assert list(result.arrays) == list(whole.arrays)
    for path in (tmp_path / "default/rounds").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DamagedError, match="none of 3 rounds verifies"):
        run(tmp_path, known.FedAdam, 5)


def test_a_foreign_file_is_no_round(tmp_path: Path) -> None:
    (tmp_path / "default/rounds").mkdir(parents=True)
    archive.save({"w": np.zeros(2)}, tmp_path / "default/rounds/00000001.h5")
    with pytest.raises(SchemaError, match="not a round of a resumable strategy"):
        run(tmp_path, known.FedAvg, 2)


def test_a_foreign_file_among_rounds_stays(tmp_path: Path) -> None:
    run(tmp_path, known.FedAvg, 2)
    archive.save({"w": np.zeros(2)}, tmp_path / "default/rounds/00000007.h5")
    with pytest.raises(SchemaError, match=r"00000007\.h5.*move it away"):
        run(tmp_path, known.FedAvg, 3)
    assert rounds_in(tmp_path) == [1, 2, 7]


def test_a_round_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, known.FedAvg, 2)
    path = tmp_path / "default/rounds/00000002.h5"
    newer = archive.load(path)
    resume = newer.config_records["fedarchive.resume"]
    assert isinstance(resume["version"], int)
    resume["version"] += 1
    archive.save(newer, path)
    with pytest.raises(VersionError, match=r"newer.*upgrade"):
        run(tmp_path, known.FedAvg, 3)
    assert rounds_in(tmp_path) == [1, 2]


def test_rounds_that_are_kept(tmp_path: Path) -> None:
    run(tmp_path, known.FedAvg, 7)
    assert rounds_in(tmp_path) == [5, 6, 7]
    run(tmp_path, known.FedAvg, 7, experiment="every", every=3, keep_last=None)
    assert rounds_in(tmp_path, "every") == [3, 6, 7]
    history = archive.CheckpointStore(str(tmp_path / "default")).history()
    assert any("train_loss" in column for column in history), list(history)


def test_nothing_left_to_do(tmp_path: Path) -> None:
    first = run(tmp_path, known.FedAvg, 3)
    again = run(tmp_path, known.FedAvg, 3)
    assert data_of(again) == data_of(first)
    assert list(again.train_metrics_clientapp) == [1, 2, 3]
    assert rounds_in(tmp_path) == [1, 2, 3]


def test_fewer_rounds_than_are_done_are_an_error(tmp_path: Path) -> None:
    run(tmp_path, known.FedAvg, 3)
    with pytest.raises(ValueRangeError, match=r"3 rounds are done, and 2 are asked for.*rewind\(2\)"):
        run(tmp_path, known.FedAvg, 2)
    assert rounds_in(tmp_path) == [1, 2, 3]


def test_paths_are_absolute_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "flwr")
    monkeypatch.chdir(tmp_path)
    strategy = Resumable(known.FedAvg(), "relative")
    persist_state("relative")
    monkeypatch.chdir(os.sep)
    place = str(tmp_path.resolve() / "relative")
    assert isinstance(strategy, known.FedAvg)
    assert strategy.__dict__["_fedarchive"].rounds.shown == place + "/default"
    assert sum(place in record.getMessage() for record in caplog.records) == 2


@pytest.mark.parametrize("program", ["flwr-serverapp", "flwr-clientapp", "flwr-simulation", "on sys.path"])
def test_a_relative_path_in_an_app_that_flower_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if program == "on sys.path":  # as in an actor of Ray
        monkeypatch.syspath_prepend(tmp_path / "apps/us.app.1.0.0.0123abcd")
    else:
        monkeypatch.setattr("sys.argv", [str(tmp_path / program)])
    for make in (persist_state, lambda url: Resumable(known.FedAvg(), url)):
        with pytest.raises(
            archive.errors.UnsupportedURLError, match=r"relative path.*absolute path or a URL"
        ):
            make("checkpoints")
        make(tmp_path / "checkpoints")
    assert not list(tmp_path.glob("checkpoints/**/*.h5"))


def test_arguments_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        Resumable(object(), tmp_path)
    with pytest.raises(TypeError, match="already"):
        Resumable(Resumable(known.FedAvg(), tmp_path), tmp_path)
    with pytest.raises(ValueError, match="every"):
        Resumable(known.FedAvg(), tmp_path, every=0)
    with pytest.raises(ValueError, match="keep_last"):
        Resumable(known.FedAvg(), tmp_path, keep_last=0)
    with pytest.raises(ValueError, match='"auto", "never" or "must"'):
        Resumable(known.FedAvg(), tmp_path, resume="always")  # type: ignore[arg-type]
    for experiment in ("", "..", "a/b"):
        with pytest.raises(ValueError, match="experiment"):
            Resumable(known.FedAvg(), tmp_path, experiment=experiment)


def test_only_the_outermost_strategy_can_be_wrapped(tmp_path: Path) -> None:
    around = known.DifferentialPrivacyServerSideFixedClipping
    strategy = around(Resumable(known.FedAvg(), tmp_path), 0.1, 1.0, 2)
    with pytest.raises(RuntimeError, match="outermost"):
        strategy.configure_train(1, None, None, None)


def test_the_store_finds_what_the_run_wrote(tmp_path: Path) -> None:
    app = client_app(tmp_path)
    for rounds in (2, 4):
        grid = InProcessGrid(app, 2, rounds)
        Resumable(known.FedAvg(), tmp_path).start(grid, initial_arrays(), rounds)
    store = archive.CheckpointStore(tmp_path)
    assert store.rounds() == [2, 3, 4]
    assert dict(store.context("partition-1").state.metric_records["history"])["rounds"] == [1, 2, 3, 4]
    assert not [column for column in store.history() if "fedarchive" in column or "resume" in column]
    store.remove(4)
    store.remove(3)
    assert dict(store.context("partition-1").state.metric_records["history"])["rounds"] == [1, 2]
    with pytest.raises(archive.errors.MissingError):
        store.context("partition-2")
