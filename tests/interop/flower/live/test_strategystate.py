"""What a resumed strategy goes on with: settings of the script, and state that the run changed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.interop.flower import Resumable
from tests.interop.flower.live.grid import InProcessGrid
from tests.interop.flower.live.messageruns import app, client_app, initial_arrays, known, start


def test_settings_of_the_script_win(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "flwr")
    start(Resumable(known.FedAdam(eta=0.1), tmp_path), 1)
    second, third = known.FedAdam(eta=0.2), known.FedAdam(eta=0.3)
    start(Resumable(second, tmp_path), 2)
    assert second.eta == 0.2
    assert "eta was 0.1 and is 0.2" in caplog.text
    assert second.m_t is not None
    start(Resumable(third, tmp_path), 3)
    assert third.eta == 0.3


def test_state_that_cannot_be_saved_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "flwr")
    strategy = known.FedAvg()
    strategy.stream = iter([1, 2])
    strategy.callback = lambda: None
    start(Resumable(strategy, tmp_path), 1)
    assert "stream of the strategy cannot be saved" in caplog.text
    assert "callback" not in caplog.text


class Counting(known.FedAdam):
    """Halves the rate of its messages in every round."""

    def __init__(self, rates: dict[int, list[float]]) -> None:
        super().__init__(fraction_train=0.5, min_train_nodes=2)
        self.calls = 0
        self.note = lambda server_round, rate: rates.setdefault(server_round, []).append(rate)

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        self.calls += 1
        config["lr"] *= 0.5
        self.note(server_round, config["lr"])
        return super().configure_train(server_round, arrays, config, grid)


def stop_in_round_3(partition: int, message: Any) -> None:
    if message.content["config"]["server-round"] == 3:
        raise RuntimeError("stopped")


def test_started_again_in_the_same_process(tmp_path: Path) -> None:
    """After an exception in round 3 of 4, ``start`` of the same object goes on."""
    rates: dict[int, list[float]] = {}
    results = []
    for fails in (False, True):
        random.seed(5)
        clients = client_app(tmp_path / f"states {fails}")
        config = app.ConfigRecord({"lr": 1.0})
        strategy = Resumable(Counting(rates), tmp_path / f"run {fails}")
        if fails:
            stopped = InProcessGrid(clients, 4, 1, stop_in_round_3)
            with pytest.raises(RuntimeError, match="stopped"):
                strategy.start(stopped, initial_arrays(), 4, train_config=config)
            random.seed(77)
        grid = InProcessGrid(clients, 4, 2)
        result = strategy.start(grid, initial_arrays(), 4, train_config=config)
        assert strategy.calls == 4
        assert list(result.train_metrics_clientapp) == [1, 2, 3, 4]
        results.append({key: array.data for key, array in result.arrays.items()})
    assert results[0] == results[1]
    assert {number: set(found) for number, found in rates.items()} == {n: {0.5**n} for n in (1, 2, 3, 4)}


def test_a_config_may_be_changed_at_every_start(tmp_path: Path) -> None:
    """A value that the run changes goes on from where it was, also after a start that gave another value."""
    rates: dict[int, list[float]] = {}
    for rounds, lr in ((1, 1.0), (2, 8.0), (3, 8.0), (4, 8.0), (5, 2.0)):
        config = app.ConfigRecord({"lr": lr})
        start(Resumable(Counting(rates), tmp_path), rounds, train_config=config)
    assert rates == {1: [0.5], 2: [4.0], 3: [2.0], 4: [1.0], 5: [1.0]}


class Own(known.FedAvg):
    """A strategy that overrides start, and keeps the best metric it has seen."""

    best = 0.0

    def start(self, grid: Any, initial_arrays: Any, num_rounds: int = 3, note: str = "") -> Any:
        assert note == "yes"
        result = super().start(grid, initial_arrays, num_rounds)
        self.best = 1.0
        return result


def test_a_start_of_your_own(tmp_path: Path) -> None:
    strategy = Resumable(Own(), tmp_path)
    result = start(strategy, 2, note="yes")
    assert list(result.train_metrics_clientapp) == [1, 2]
    assert strategy.best == 1.0


class Accountant:
    """Hands out its state as Flower's accountants do; its handle can be in no file."""

    def __init__(self) -> None:
        self.handle: Iterator[Any] = iter([])
        self.spent: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        return {"spent": list(self.spent), "orders": (1.5, 2.0)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["orders"] == (1.5, 2.0)
        self.spent = list(state["spent"])


class Accounted(known.FedAvg):
    def __init__(self) -> None:
        super().__init__()
        self.accountant = Accountant()

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.accountant.spent.append(server_round)
        return super().aggregate_train(server_round, replies)


def test_accountants_go_on(tmp_path: Path) -> None:
    start(Resumable(Accounted(), tmp_path), 2)
    second = Accounted()
    start(Resumable(second, tmp_path), 4)
    assert second.accountant.spent == [1, 2, 3, 4]


class Seen:
    def __init__(self) -> None:
        self.rounds: list[int] = []


class Reporting(known.FedAvg):
    """Has a folder, a date, and reporters in a list, as FL4Health's strategies do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.since = Path("runs"), datetime(2024, 1, 1)
        self.reporters = [Seen()]
        self.by_round: dict[int, Any] = {}

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        self.reporters[0].rounds.append(server_round)
        self.by_round[server_round] = Seen()
        self.since += timedelta(days=1)
        return super().aggregate_train(server_round, replies)


def test_objects_in_lists_go_on_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "flwr")
    start(Resumable(Reporting(), tmp_path), 2)
    second = Reporting()
    reporter = second.reporters[0]
    start(Resumable(second, tmp_path), 4)
    assert second.reporters == [reporter]
    assert reporter.rounds == list(second.by_round) == [1, 2, 3, 4]
    assert {type(seen) for seen in second.by_round.values()} == {Seen}
    assert second.since == datetime(2024, 1, 5)
    assert [line for line in caplog.messages if "fedarchive" in line] == []
