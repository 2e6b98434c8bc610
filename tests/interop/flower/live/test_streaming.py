"""Streaming: the mean is Flower's but for rounding, its bits do not depend on arrivals, no reply is kept."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archive.checkpoints.writerlock import WriterLock
from archive.errors import LockedError, ReplacedError, ValueRangeError
from archive.interop.flower import Resumable, Streaming, persist_state
from archive.interop.flower.gridpulls import pull_each
from archive.tools import Accumulator
from tests.interop.flower.live import messageruns
from tests.interop.flower.live.grid import InProcessGrid
from tests.interop.flower.live.killing import assert_resumes_bit_for_bit
from tests.interop.flower.live.messageruns import HALF, app, client_app, initial_arrays, known, start

NODES = 5
EPSILON = 2.0**-24
"""Half the distance of two float32 next to each other, of numbers around 1."""

Reply = Callable[[int, Any], Any]
"""Returns the reply of a partition to a message."""


def weighted(arrays: dict[str, Any], weight: Any, **metrics: Any) -> Any:
    """Return the content of a reply."""
    record = app.ArrayRecord({key: app.Array(np.asarray(array)) for key, array in arrays.items()})
    metric = app.MetricRecord({"num-examples": weight, **metrics})
    return app.RecordDict({"arrays": record, "metrics": metric})


def client(content: Callable[[int], Any]) -> Any:
    """Return an app whose replies have the content of their partition, or its error."""

    def reply(message: Any, context: Any) -> Any:
        made = content(context.node_config["partition-id"])
        return app.Message(made, reply_to=message)

    return reply


def train(strategy: Any, content: Callable[[int], Any], arrivals: Any = None, **options: Any) -> Any:
    """Run one round."""
    grid = InProcessGrid(client(content), NODES, arrivals=arrivals)
    strategy.fraction_evaluate = 0.0
    return strategy.start(grid, app.ArrayRecord({"w": app.Array(np.zeros(3, "f4"))}), 1, **options)


def numbers(partition: int) -> Any:
    draw = np.random.default_rng(partition)
    layers = {"w": draw.normal(size=(40, 50)).astype("f4"), "b": draw.normal(size=7).astype("f4")}
    return weighted(layers, 10 + 3 * partition, loss=float(draw.random()), steps=[partition + 0.5, 1.5])


def bits(result: Any) -> dict[str, bytes]:
    return {key: array.data for key, array in result.arrays.items()}


def test_mean_is_the_sum_in_float64_rounded_once_and_flowers_but_for_its_roundings(tmp_path: Path) -> None:
    ours, flowers = train(Streaming(known.FedAvg(), tmp_path / "s"), numbers), train(known.FedAvg(), numbers)
    replies = [numbers(partition) for partition in range(NODES)]
    weights = [reply["metrics"]["num-examples"] for reply in replies]
    assert list(ours.arrays) == list(flowers.arrays) == ["w", "b"]
    for key, mean in ours.arrays.items():
        total, size = 0.0, 0.0
        for reply, weight in zip(replies, weights, strict=True):
            total = total + reply["arrays"][key].numpy().astype("f8") * weight
            size = size + abs(reply["arrays"][key].numpy().astype("f8")) * weight
        assert mean.numpy().tobytes() == (total / sum(weights)).astype("f4").tobytes()
        bound = (NODES + 2) * EPSILON * size / sum(weights)  # a product and a sum for each, and the weights
        assert np.all(abs(mean.numpy().astype("f8") - flowers.arrays[key].numpy()) <= bound)
    metrics, expected = (dict(one.train_metrics_clientapp[1]) for one in (ours, flowers))
    assert metrics.keys() == {"loss", "steps"}
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value)


def test_where_nothing_is_rounded_the_bits_and_types_are_flowers(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    kinds = ("f2", "f4", "f8", "i1", "i8", "u2", "?", "c8", ">f4")
    shapes = [(3, 4), (), (0, 2)]

    def dyadic(partition: int) -> Any:
        layers = {
            f"{kind}{shape}": (draw.integers(0, 2, size=shape) * 2**partition).astype(kind)
            for kind, shape in itertools.product(kinds, shapes)
        }
        layers["fortran"] = np.asfortranarray(draw.integers(-4, 4, size=(3, 5)).astype("f4"))
        return weighted(layers, (4, 2, 1, 1, 8)[partition])

    replies = [dyadic(partition) for partition in range(NODES)]
    ours = train(Streaming(known.FedAvg(), tmp_path / "s"), replies.__getitem__)
    flowers = train(known.FedAvg(), replies.__getitem__)
    for key, array in flowers.arrays.items():
        mean = ours.arrays[key].numpy()
        assert (mean.dtype.newbyteorder("="), mean.shape) == (array.numpy().dtype, array.numpy().shape), key
        np.testing.assert_array_equal(mean, array.numpy(), err_msg=key)


def test_bits_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    orders = [None, range(NODES), (4, 3, 2, 1, 0), (2, 0, 4, 1, 3)]
    found: list[Any] = []
    for arrivals in orders:
        # Flower draws the order of the messages too
        strategy = Resumable(
            Streaming(known.FedAvg(fraction_evaluate=0.0), tmp_path / "s"),
            tmp_path / str(len(found)),
            deterministic=True,
        )
        grid = InProcessGrid(client_app(tmp_path / str(len(found))), NODES, len(found) + 1, arrivals=arrivals)
        result = strategy.start(grid, initial_arrays(), 2)
        found.append((bits(result), {n: dict(m) for n, m in result.train_metrics_clientapp.items()}))
    assert all(one == found[0] for one in found)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["writer.lock"]


def test_clients_that_fail_or_are_late_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)

    def content(partition: int) -> Any:
        return app.Error(code=7, reason="no data here") if partition == 1 else numbers(partition)

    with caplog.at_level(logging.INFO, "flwr"):
        ours = train(Streaming(known.FedAvg(), tmp_path / "s"), content, (4, 1, 0, 2), timeout=0.3)
    assert "Received 3 results and 1 failures" in caplog.text
    assert "no data here" in caplog.text
    monkeypatch.setattr("tests.interop.flower.live.test_streaming.NODES", 3)
    rest = train(known.FedAvg(), lambda partition: numbers((0, 2, 4)[partition]))
    for key, array in rest.arrays.items():
        np.testing.assert_allclose(ours.arrays[key].numpy(), array.numpy(), rtol=1e-4, atol=1e-6)
    nobody = train(Streaming(known.FedAvg(), tmp_path / "s"), lambda _: app.Error(code=7, reason="no"))
    assert not nobody.arrays
    assert not nobody.train_metrics_clientapp


@pytest.mark.parametrize("name", ["FedProx", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi"])
def test_strategies_that_derive_from_fedavg(tmp_path: Path, name: str) -> None:
    kind = getattr(known, name, None)
    if kind is None:
        pytest.skip("this flwr has no such strategy")

    def make() -> Any:
        return kind(proximal_mu=0.1) if name == "FedProx" else kind()

    grid = InProcessGrid(client_app(), 3)
    ours = Streaming(make(), tmp_path / "s").start(grid, initial_arrays(), 3)
    assert isinstance(Streaming(make(), tmp_path / "s"), kind)
    assert grid.collected == 3, "evaluations alone"
    flowers = make().start(InProcessGrid(client_app(), 3), initial_arrays(), 3)
    for key, array in flowers.arrays.items():
        np.testing.assert_allclose(ours.arrays[key].numpy(), array.numpy(), rtol=1e-4, atol=1e-5)
    assert ours.evaluate_metrics_clientapp.keys() == {1, 2, 3}


def test_killed_within_rounds_and_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"streamed": lambda: Streaming(known.FedAdam(**HALF), tmp_path / "scratch")}
    monkeypatch.setattr(messageruns, "STRATEGIES", made)
    assert_resumes_bit_for_bit(messageruns.run, "streamed", tmp_path)


def test_a_run_goes_on_with_and_without(tmp_path: Path) -> None:
    for number, wrap in enumerate((lambda one: one, lambda one: Streaming(one, tmp_path / "s")) * 2, 1):
        strategy = Resumable(wrap(known.FedAdam()), tmp_path / "runs")
        result = start(strategy, number)
        assert result.train_metrics_clientapp.keys() == set(range(1, number + 1))


def test_no_more_than_one_reply_is_held(tmp_path: Path) -> None:
    replies: list[Any] = []
    most = 0

    def content(partition: int) -> Any:
        nonlocal most
        most = max(most, sum(one() is not None for one in replies))
        made = numbers(partition)
        replies.extend(weakref.ref(array) for array in made["arrays"].values())
        return made

    train(Streaming(known.FedAvg(), tmp_path / "s"), content)
    assert most <= 2, "arrays of more than one reply are alive"


def test_replies_that_do_not_go_together_end_the_run_as_in_flower(tmp_path: Path) -> None:
    def other_keys(partition: int) -> Any:
        return weighted({"w" if partition < 3 else "v": np.ones(2, "f4")}, 1)

    def no_weight(partition: int) -> Any:
        made = numbers(partition)
        del made["metrics"]["num-examples"]
        return made

    for content in (other_keys, no_weight):
        with pytest.raises(Exception, match="Skipping aggregation") as flowers:
            train(known.FedAvg(), content)
        with pytest.raises(type(flowers.value), match=str(flowers.value)[:60]):
            train(Streaming(known.FedAvg(), tmp_path / "s"), content)

    def other_shape(partition: int) -> Any:
        return weighted({"w": np.ones(2 + partition // 3, "f4")}, 1)

    with pytest.raises(ValueRangeError, match=r"reply [0-4] of node \d+.*w"):
        train(Streaming(known.FedAvg(), tmp_path / "s"), other_shape)


def test_a_strategy_that_looks_at_replies_itself_is_an_error(tmp_path: Path) -> None:
    class Choosy(known.FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return super().aggregate_train(server_round, list(replies)[1:])

    class Weighing(known.FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            for reply in replies:
                reply.content["metrics"]["num-examples"] = 1
            return super().aggregate_train(server_round, replies)

    class Looking(known.FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            _ = [reply.content["arrays"]["w"].numpy() for reply in replies]
            return super().aggregate_train(server_round, replies)

    for kind in (Choosy, Weighing):
        with pytest.raises(ValueRangeError, match="leaves no reply out"):
            train(Streaming(kind(), tmp_path / "s"), numbers)
    with pytest.raises(TypeError, match="in the sum already"):
        train(Streaming(Looking(), tmp_path / "s"), numbers)


def test_strategies_that_cannot_stream_are_refused(tmp_path: Path) -> None:
    import flwr.server.strategy as legacy

    for name in ("FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "QFedAvg", "FedXgbBagging"):
        kind = getattr(known, name, None)
        if kind is not None:
            with pytest.raises(TypeError, match="all replies at once"):
                Streaming(object.__new__(kind), tmp_path / "s")
    with pytest.raises(TypeError, match=r"take one of flwr\.serverapp\.strategy"):
        Streaming(legacy.FedAvg(), tmp_path / "s")
    around = known.DifferentialPrivacyServerSideFixedClipping(known.FedAvg(), 0.1, 1.0, 2)
    with pytest.raises(TypeError, match="derives from"):
        Streaming(around, tmp_path / "s")
    strategy = known.FedAvg()
    streamed = Streaming(strategy, tmp_path / "s")
    for again in (strategy, streamed):
        with pytest.raises(TypeError, match=r"already|before"):
            Streaming(again, tmp_path / "s")
    with pytest.raises(TypeError, match=r"Resumable\(Streaming"):
        Streaming(Resumable(known.FedAvg(), tmp_path / "runs"), tmp_path / "s")


def test_scratch_belongs_to_one_run_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    scratch = tmp_path / "s"
    with WriterLock(str(scratch), owner="another"):
        pass  # a lock of this process keeps out another alone
    (scratch / "mean.h5").write_text("of somebody else")
    for name in (
        "batch-000000.h5",
        "staged-000000003.h5",
        "streamed.mean.h5",
        f"{'0' * 32}.sum.h5",
        "notes.txt",
    ):
        (scratch / name).write_text("half a file")
    train(Streaming(known.FedAvg(), scratch), numbers)
    assert sorted(path.name for path in scratch.iterdir()) == ["mean.h5", "notes.txt", "writer.lock"]
    lock = WriterLock(str(scratch), owner="another")
    lock.take()
    with pytest.raises(LockedError, match="another"):
        train(Streaming(known.FedAvg(), scratch), numbers)
    lock.release()


def test_a_reply_that_comes_twice_counts_once(tmp_path: Path) -> None:
    class Repeating(InProcessGrid):
        def pull_messages(self, message_ids: Any) -> list[Any]:
            return super().pull_messages(message_ids) * 2

    def content(partition: int) -> Any:
        return weighted({"w": np.full(2, partition, "f4")}, 1 + partition)

    strategy = Streaming(known.FedAvg(fraction_evaluate=0.0), tmp_path / "s")
    result = strategy.start(Repeating(client(content), 3), initial_arrays(), 1)
    assert result.arrays["w"].numpy().tolist() == [np.float32(8 / 6)] * 2


def test_replies_without_any_array_are_averaged_as_in_flower(tmp_path: Path) -> None:
    def content(partition: int) -> Any:
        return weighted({}, 1, loss=float(partition))

    ours, flowers = train(Streaming(known.FedAvg(), tmp_path / "s"), content), train(known.FedAvg(), content)
    assert not ours.arrays
    assert not flowers.arrays
    for result in (ours, flowers):  # Flower adds up in the order of the messages, which it draws
        assert dict(result.train_metrics_clientapp[1]) == pytest.approx({"loss": 2.0})


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_makes_no_mean_ends_the_run(tmp_path: Path, weight: float) -> None:
    def content(partition: int) -> Any:
        return weighted({"w": np.ones(2, "f4")}, 1.0 if partition else weight)

    with pytest.raises(ValueRangeError, match=r"reply \d of node \d+.*finite and not negative"):
        train(Streaming(known.FedAvg(), tmp_path / "s"), content)


def test_scratch_in_an_object_store() -> None:
    url = "memory://fedarchive-streaming/scratch"
    ours = train(Streaming(known.FedAvg(), url), numbers, (4, 3, 2, 1, 0))
    assert bits(ours).keys() == {"w", "b"}
    assert np.all(np.isfinite(ours.arrays["w"].numpy()))


def test_two_runs_with_one_scratch_in_an_object_store_never_mix() -> None:
    """No lock keeps the second out: the first fails, here after a full batch of its replies."""
    url = "memory://fedarchive-streaming/shared"

    class Disturbed(known.FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            other = Accumulator(url, nan="allow")
            other.remove()
            other.add({"w": np.full(3, 100, "f4")}, name="reply 0 of another run")
            other.commit()
            return super().aggregate_train(server_round, replies)

    def content(partition: int) -> Any:
        return weighted({"w": np.full(3, partition, "f4")}, 1)

    grid = InProcessGrid(client(content), 65)
    with pytest.raises(ReplacedError):
        Streaming(Disturbed(fraction_evaluate=0.0), url).start(grid, initial_arrays(), 1)


def test_nothing_is_pulled_after_the_timeout_nor_twice() -> None:
    grid = InProcessGrid(client(numbers), 3, arrivals=(2, 0))
    messages = [app.Message(app.RecordDict(), dst_node_id=node, message_type="train") for node in grid.ids]
    ids = grid.push_messages(messages)
    assert [position for position, _ in pull_each(grid, ids, 0.2)] == [2, 0]
    assert list(pull_each(grid, [None], None)) == []
    assert list(pull_each(grid, ids, 0.0)) == []


def test_persisted_states_of_clients_are_heard(tmp_path: Path) -> None:
    strategy = Resumable(Streaming(known.FedAvg(), tmp_path / "s"), tmp_path / "runs")
    grid = InProcessGrid(client_app(mods=(persist_state(tmp_path / "runs"),)), 2)
    strategy.start(grid, initial_arrays(), 1)
    assert sorted(path.name for path in (tmp_path / "runs/default/contexts").iterdir()) == [
        "partition-0",
        "partition-1",
    ]
