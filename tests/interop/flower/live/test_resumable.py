"""Resumable: which round a run goes on from, which rounds are kept, and which are refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import DamagedError, ValueRangeError, VersionError
from archive.interop.flower import Resumable, persist_state
from archive.interop.flower.orders import Order
from archive.interop.flower.strategystate import SchemaError
from tests.interop.flower.live.grid import InProcessGrid
from tests.interop.flower.live.messageruns import app, client_app, initial_arrays, known, start
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
    strategy = known.FedAvg()
    Resumable(strategy, tmp_path)
    with pytest.raises(TypeError, match="make another strategy"):
        Resumable(strategy, tmp_path, experiment="b")
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
    path = tmp_path / "default/rounds/00000004.h5"
    path.write_bytes(path.read_bytes()[:-50])
    assert dict(store.context("partition-1").state.metric_records["history"])["rounds"] == [1, 2, 3, 4]
    store.remove(4)
    store.remove(3)
    assert dict(store.context("partition-1").state.metric_records["history"])["rounds"] == [1, 2]
    with pytest.raises(archive.errors.MissingError):
        store.context("partition-2")


def test_a_complete_run_says_so_and_names_settings_that_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def start(eta: float, lr: float) -> Any:
        strategy = Resumable(known.FedAdam(eta=eta), tmp_path)
        config = app.ConfigRecord({"lr": lr})
        return strategy.start(InProcessGrid(client_app(), 2), initial_arrays(), 2, train_config=config)

    first = start(0.1, 1.0)
    caplog.clear()
    again = start(0.2, 0.5)
    assert data_of(again) == data_of(first)
    assert "complete, nothing to do: all 2 rounds are done" in caplog.text
    assert "eta was 0.1 and is 0.2 here, which changes nothing in a complete run" in caplog.text
    assert (
        "train_config['lr'] was 1.0 and is 0.5 here, which changes nothing in a complete run" in caplog.text
    )


def test_a_changed_config_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for rounds, lr in ((1, 1.0), (2, 0.5)):
        strategy = Resumable(known.FedAvg(), tmp_path)
        config = app.ConfigRecord({"lr": lr})
        strategy.start(InProcessGrid(client_app(), 2), initial_arrays(), rounds, train_config=config)
    assert "train_config['lr'] was 1.0 and is 0.5 from here on" in caplog.text
    saved = archive.load(tmp_path / "default/rounds/00000002.h5")
    assert saved["train"]["lr"] == 0.5


def test_rounds_may_be_required_or_refused(tmp_path: Path) -> None:
    with pytest.raises(archive.errors.MissingError, match=r'no round to resume after.*"must"'):
        run(tmp_path, known.FedAvg, 1, resume="must")
    run(tmp_path, known.FedAvg, 1, resume="never")
    with pytest.raises(archive.errors.ExistsError, match=r'round 1 was saved here.*"never"'):
        run(tmp_path, known.FedAvg, 2, resume="never")
    run(tmp_path, known.FedAvg, 2, resume="must")
    assert rounds_in(tmp_path) == [1, 2]


def test_another_app_is_an_error(tmp_path: Path) -> None:
    def start(fab_id: str, rounds: int) -> Any:
        grid = InProcessGrid(client_app(), 2)
        grid.run.fab_id = fab_id
        return Resumable(known.FedAvg(), tmp_path).start(grid, initial_arrays(), rounds)

    start("us/first", 1)
    with pytest.raises(SchemaError, match=r"whose name is 'first', and this app's is 'second'"):
        start("us/second", 2)
    with pytest.raises(SchemaError, match="publisher"):
        start("them/first", 2)
    start("us/first", 2)
    start("", 3)  # a script, of which Flower says nothing
    with pytest.raises(SchemaError, match="whose name is 'first'"):
        start("us/second", 4)
    assert rounds_in(tmp_path) == [1, 2, 3]


def test_a_refused_start_removes_no_damaged_round(tmp_path: Path) -> None:
    run(tmp_path, known.FedAvg, 3)
    path = tmp_path / "default/rounds/00000003.h5"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(archive.errors.ExistsError, match="never"):
        run(tmp_path, known.FedAvg, 3, resume="never")
    with pytest.raises(SchemaError, match="FedAdam"):
        run(tmp_path, known.FedAdam, 3)
    assert rounds_in(tmp_path) == [1, 2, 3]


def test_nothing_trains_where_rounds_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "default").write_bytes(b"a file where the folder would be")
    trained: list[int] = []
    grid = InProcessGrid(client_app(), 2, trap=lambda partition, message: trained.append(partition))
    with pytest.raises(archive.ArchiveError, match=r"default"):
        Resumable(known.FedAvg(), tmp_path).start(grid, initial_arrays(), 1)
    assert trained == []


def test_two_nodes_of_one_name_stop_the_run(tmp_path: Path) -> None:
    grid = InProcessGrid(client_app(tmp_path), 3)
    for context in grid.contexts.values():
        context.node_config["partition-id"] = 0
    grid.contexts = dict(grid.contexts)
    failing = grid.send_and_receive

    def lenient(messages: Any, *, timeout: float | None = None) -> list[Any]:
        replies = []
        for message in messages:
            with contextlib.suppress(archive.errors.ExistsError):  # in Flower an error reply
                replies += failing([message])
        return replies

    grid.send_and_receive = lenient  # type: ignore[method-assign]
    with pytest.raises((ValueRangeError, archive.ArchiveError), match="partition-0"):
        Resumable(known.FedAvg(), tmp_path, deterministic=True).start(grid, initial_arrays(), 1)


def test_the_best_round_is_kept(tmp_path: Path) -> None:
    losses = {0: 9.0, 1: 3.0, 2: 1.0, 3: 2.0, 4: 4.0, 5: 5.0, 6: 6.0}
    strategy = Resumable(known.FedAvg(), tmp_path, keep_last=2, best_by="central")
    strategy.start(
        InProcessGrid(client_app(), 2),
        initial_arrays(),
        6,
        evaluate_fn=lambda number, arrays: app.MetricRecord({"central": losses[number]}),
    )
    assert rounds_in(tmp_path) == [2, 5, 6]


def test_an_attribute_can_be_excluded(tmp_path: Path) -> None:
    def make(number: int) -> Any:
        strategy = known.FedAvg()
        strategy.testset = np.full(1000, number)
        return strategy

    run(tmp_path, lambda: make(1), 1, exclude=("testset",))
    strategy = Resumable(make(2), tmp_path, exclude=("testset",))
    start(strategy, 2)
    assert strategy.testset[0] == 2
    with archive.open(tmp_path / "default/rounds/00000002.h5") as saved:
        assert "testset" not in dict(saved.records["strategy"])
    with pytest.raises(archive.ArchiveError, match="tests"):
        run(tmp_path / "other", lambda: make(1), 1, exclude=("tests",))


def test_what_is_large_and_never_changes_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> Any:
        strategy = known.FedAvg()
        strategy.table, strategy.moving = np.zeros(2_500_000), np.zeros(2_500_000)
        return strategy

    class Moving(known.FedAvg):
        moving: Any

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            self.moving[0] += 1
            return super().aggregate_train(server_round, replies)

    strategy = make()
    strategy.__class__ = Moving
    start(Resumable(strategy, tmp_path), 4)
    told = [record.getMessage() for record in caplog.records if "did not change" in record.getMessage()]
    assert len(told) == 1
    assert "table of the strategy has 20 MB" in told[0]
    assert "exclude=('table',)" in told[0]


def test_clients_are_told_of_hundreds_of_kept_rounds(tmp_path: Path) -> None:
    strategy = Resumable(known.FedAvg(), tmp_path, keep_last=300)
    for number in range(1, 71):
        strategy._fedarchive.rounds.store.save({"w": np.zeros(1)}, number)
    strategy._fedarchive._kept = strategy._fedarchive.rounds.kept()
    text = strategy._fedarchive.orders(71)("5")
    assert Order.from_text(text).kept == tuple(range(1, 71))
    assert len(text) < 2000


def test_clients_without_the_mod_are_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run that had client states loses them, and says so; each node is asked once for its name."""
    Resumable(known.FedAvg(), tmp_path).start(InProcessGrid(client_app(tmp_path), 2), initial_arrays(), 1)
    caplog.clear()
    asked: list[int] = []

    class Grid(InProcessGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Any]:
            messages = list(messages)
            asked.extend(m.metadata.dst_node_id for m in messages if not m.content.array_records)
            return super().send_and_receive(
                [message for message in messages if message.content.array_records], timeout=timeout
            )

    strategy = Resumable(known.FedAvg(), tmp_path, deterministic=True)
    strategy.start(Grid(client_app(), 2, run_id=2), initial_arrays(), 3)
    assert len(asked) == 2
    assert caplog.text.count("2 nodes had saved states in this run, which are lost to it") >= 1
    assert caplog.text.count("2 nodes did not tell their names") == 1


def test_another_number_of_nodes_is_told_where_clients_are_sampled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = InProcessGrid(client_app(tmp_path), 4)
    everybody = list(grid.ids)
    strategy = Resumable(known.FedAvg(fraction_train=0.5, min_train_nodes=1), tmp_path, deterministic=True)
    there = iter([3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4])
    grid.get_node_ids = lambda: everybody[: next(there)]  # type: ignore[method-assign]
    strategy.start(grid, initial_arrays(), 2)
    assert "clients are selected among 4 nodes, and before among 3" in caplog.text
    assert "min_available_nodes" in caplog.text


def test_clients_that_save_what_they_send_are_those_of_the_round(tmp_path: Path) -> None:
    def saving(message: Any, context: Any, call_next: Any) -> Any:  # what docs/resume.md says
        reply = call_next(message, context)
        if message.metadata.message_type == "train":
            number = message.content["config"]["server-round"]
            sent = archive.CheckpointStore(tmp_path, "default")
            name, metrics = f"clinic-{context.node_config['partition-id']}", {"num-examples": 10}
            sent.save(reply.content["arrays"], number, client=name, metrics=metrics)
        return reply

    grid = InProcessGrid(client_app(tmp_path, (saving,)), 3)
    Resumable(known.FedAvg(), tmp_path, keep_last=2).start(grid, initial_arrays(), 3)
    store, names = archive.CheckpointStore(tmp_path, "default"), [f"clinic-{number}" for number in range(3)]
    assert (store.rounds(), store.clients(2), store.clients(3)) == ([2, 3], names, names)
    assert not (tmp_path / "default/rounds/00000001").exists()
    clients = f"{tmp_path}/default/rounds/00000003/*.h5"
    archive.mean(clients, "num-examples", out=tmp_path / "mean.h5")
    with store.open(3) as saved, archive.open(tmp_path / "mean.h5") as mean:
        for record, key in mean:
            np.testing.assert_allclose(mean[record, key].numpy(), saved["model", key].numpy(), rtol=1e-5)
    assert store.updates(3).drift()["client"].tolist() == names
