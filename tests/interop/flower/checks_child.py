"""What resumable strategies and persisted states must do beside resuming: a program run where flwr is.

Prints one JSON object: the versions, and of every check "ok", "skip: why" or a traceback.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
import pickle
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive.errors import DamagedError
from archive.interop.flower import Resumable, persist_state, to_flower
from archive.interop.flower.records import from_flower
from archive.interop.flower.strategystate import SchemaError

CHECKS: dict[str, Callable[[Path], Any]] = {}
MESSAGE_CHECKS: set[str] = set()


def check(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    CHECKS[function.__name__] = function
    return function


def message_api(function: Callable[[Path], Any]) -> Callable[[Path], Any]:
    MESSAGE_CHECKS.add(function.__name__)
    return check(function)


def raised(kind: type[BaseException], work: Callable[[], Any], *words: str) -> str:
    try:
        work()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"  # noqa: PT017
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


class Logged(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))

    def __enter__(self) -> Logged:
        logger = logging.getLogger("flwr")
        self.before = logger.level
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: Any) -> None:
        logger = logging.getLogger("flwr")
        logger.removeHandler(self)
        logger.setLevel(self.before)

    def warnings(self) -> str:
        return "\n".join(text for level, text in self.lines if level >= logging.WARNING)


# Records


def records() -> archive.RecordDict:
    arrays = {
        "w": np.arange(12, dtype="f4").reshape(3, 4),
        "0-d": np.array(1.5),
        "empty": np.zeros((0, 3), "f4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(4, dtype=">f4"),
        "text": np.array(["a", "bcé"]),
        "large": np.arange(300_000, dtype="f8"),
    }
    made = archive.ArrayRecord({key: archive.Array(array) for key, array in arrays.items()})
    made["bytes"] = archive.Array("float32", (2,), "numpy.ndarray.tobytes", np.ones(2, "f4").tobytes())
    return archive.RecordDict(
        {
            "model": made,
            "fit": archive.MetricRecord({"loss": [0.5, float("inf")], "n": 3}),
            "run": archive.ConfigRecord({"lr": 0.1, "flags": [True], "blob": b"\0", "none": []}),
        }
    )


@check
def records_of_flower_over_a_file(folder: Path) -> None:
    from flwr.common import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

    archive.save(records(), folder / "a.h5")
    saved = archive.open(folder / "a.h5").records
    found = to_flower(saved)
    assert type(found) is RecordDict
    assert [type(record) for record in found.values()] == [ArrayRecord, MetricRecord, ConfigRecord]
    assert found["fit"] == MetricRecord(dict(records()["fit"]))
    assert found["run"] == ConfigRecord(dict(records()["run"]))
    shape = type(Array(np.zeros(2)).shape)
    for key, array in records()["model"].items():
        mine, plain = found["model"][key], Array(array.dtype, shape(array.shape), array.stype, array.data)
        assert isinstance(mine, Array)
        assert type(mine).__qualname__ == "Array"
        assert mine == plain
        assert plain == mine
        assert mine.data == array.data
        if array.stype == "numpy.ndarray":
            assert mine.numpy().tolist() == array.numpy().tolist()
            assert mine.numpy().dtype == array.numpy().dtype
        for clone in (copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
            assert clone == plain
        if hasattr(plain, "object_id"):
            assert mine.object_id == plain.object_id
            assert mine.deflate() == plain.deflate()
            assert list(mine.children) == list(plain.children)
        else:
            assert vars(mine) == vars(plain)
    assert from_flower(found)["model"]["w"].payload is saved["model"]["w"].payload


@check
def writing_to_an_array_leaves_the_file(folder: Path) -> None:
    archive.save(records(), folder / "a.h5")
    array = to_flower(archive.open(folder / "a.h5").records)["model"]["w"]
    array.numpy()[:] = 7
    assert array.numpy()[0, 0] == 0
    array.data = archive.Array(np.ones((3, 4), "f4")).data
    assert array.numpy()[0, 0] == 1
    assert archive.load(folder / "a.h5")["model"]["w"][0, 0] == 0


@check
def sent_and_received(folder: Path) -> None:
    """A message is serialised and taken apart by Flower's own code."""
    archive.save(records(), folder / "a.h5")
    content = to_flower(archive.open(folder / "a.h5").records)
    try:
        from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
        from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

        contents = {key: piece.deflate() for key, piece in get_all_nested_objects(content).items()}
        received = inflate_object_from_contents(content.object_id, contents)
    except ImportError:
        from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

        received = recorddict_from_proto(recorddict_to_proto(content))
    assert received == content
    assert received["model"]["large"].data == records()["model"]["large"].data


@check
def contexts_both_ways(folder: Path) -> None:
    context = archive.Context(2**63 + 1, 7, {"partition-id": 0}, records(), {"lr": 0.1})
    found = to_flower(context)
    assert (found.run_id, found.node_id, found.node_config) == (2**63 + 1, 7, {"partition-id": 0})
    assert from_flower(found) == context
    raised(TypeError, lambda: to_flower({"a": 1}), "dict")
    twice = archive.RecordSet({"a": archive.ArrayRecord()}, {"a": archive.MetricRecord()})
    raised(ValueError, lambda: to_flower(twice), "one name")


# Client states


def mod_and_client(folder: Path, **options: Any) -> tuple[Any, Any]:
    from flwr.common import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

    from tests.interop.flower.grid import identify

    identify(1)
    mod = persist_state(folder, **options)

    def client(
        server_round: int | None,
        app: Callable[[Any], Any],
        context: Any = None,
        node: dict[str, Any] | None = None,
        kind: str = "train",
    ) -> Any:
        values = {} if server_round is None else {"server-round": server_round}
        asked = Message(RecordDict({"config": ConfigRecord(values)}), dst_node_id=1, message_type=kind)
        if context is None:
            context = Context(1, 5, node if node is not None else {"partition-id": 0}, RecordDict(), {})

        def call(message: Any, context: Any) -> Any:
            app(context.state)
            return Message(RecordDict(), reply_to=message)

        mod(asked, context, call)
        return context

    def note(state: Any) -> None:
        state.setdefault("seen", MetricRecord({"n": []}))["n"].append(len(state["seen"]["n"]))
        state["w"] = ArrayRecord({"w": Array(np.full(3, len(state["seen"]["n"])))})

    return client, note


def seen(count: int) -> Callable[[Any], None]:
    def look(state: Any) -> None:
        found = len(state["seen"]["n"]) if "seen" in state else 0
        assert found == count, f"{found} != {count}"

    return look


@check
def states_follow_the_round(folder: Path) -> None:
    client, note = mod_and_client(folder)
    context = client(1, note)
    assert list(context.state) == ["fedarchive"]
    client(2, note, context)
    client(3, note, context)
    client(4, seen(3))  # a new run, a new context
    client(3, seen(2))  # the server goes back to before round 3
    client(1, seen(0))
    client(None, seen(3))  # a message that says no round
    client(9, seen(0), node={"partition-id": 1})
    client(9, seen(0), node={})
    files = sorted(path.name for path in (folder / "default/contexts/partition-0").iterdir())
    assert files == ["00000001-1.h5", "00000002-1.h5", "00000003-1.h5"], files


@check
def states_of_a_stopped_run_are_removed(folder: Path) -> None:
    client, note = mod_and_client(folder, keep_last=2)
    context = None
    for server_round in (1, 2, 3, 4):
        context = client(server_round, note, context)
    place = folder / "default/contexts/partition-0"
    assert sorted(path.name for path in place.iterdir()) == ["00000003-1.h5", "00000004-1.h5"]
    client(4, note)
    client(4, seen(3))
    client(5, seen(4))


@check
def evaluation_comes_after_training(folder: Path) -> None:
    client, note = mod_and_client(folder)
    context = client(1, note)
    client(1, note, context, kind="evaluate")
    client(2, seen(2))
    client(1, seen(1), kind="evaluate")
    client(1, seen(0))


@check
def a_state_that_did_not_change_is_not_written(folder: Path) -> None:
    client, note = mod_and_client(folder)
    context = client(1, note)
    client(1, seen(1), context, kind="evaluate")
    client(2, lambda state: state["w"]["w"].numpy(), context)
    assert [path.name for path in (folder / "default/contexts/partition-0").iterdir()] == ["00000001-1.h5"]
    client(2, lambda state: setattr(state["w"]["w"], "data", archive.Array(np.zeros(2)).data), context)
    assert len(list((folder / "default/contexts/partition-0").iterdir())) == 2


@check
def an_app_that_fails_keeps_its_state(folder: Path) -> None:
    client, note = mod_and_client(folder)
    context = client(1, note)

    def fails(state: Any) -> None:
        note(state)
        raise RuntimeError("out of memory")

    raised(RuntimeError, lambda: client(2, fails, context), "out of memory")
    assert list(context.state) == ["fedarchive"]
    client(2, seen(1), context)


@check
def a_damaged_state_is_an_error(folder: Path) -> None:
    client, note = mod_and_client(folder)
    client(1, note)
    (path,) = (folder / "default/contexts/partition-0").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    raised(archive.ArchiveError, lambda: client(2, note), str(path))


# Strategies


def run(folder: Path, make: Callable[..., Any], rounds: int, *, weights: Any = None, **options: Any) -> Any:
    from flwr.app import Array, ArrayRecord

    from tests.interop.flower.grid import InProcessGrid
    from tests.interop.flower.messageruns import client_app
    from tests.interop.flower.models import SHAPES, initial_weights

    given = dict(zip(SHAPES, initial_weights(), strict=True)) if weights is None else weights
    strategy = Resumable(make(), folder, **options)
    grid = InProcessGrid(client_app("", []), 2)
    return strategy.start(grid, ArrayRecord({k: Array(w) for k, w in given.items()}), num_rounds=rounds)


def rounds_in(folder: Path, experiment: str = "default") -> list[int]:
    return sorted(int(path.stem) for path in (folder / experiment / "rounds").iterdir())


@message_api
def another_strategy_is_an_error(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    run(folder, known.FedAdam, 1)
    raised(
        SchemaError, lambda: run(folder, known.FedAvg, 2), "FedAdam", "FedAvg", "another url or experiment"
    )
    run(folder, known.FedAvg, 1, experiment="other")
    dp = known.DifferentialPrivacyServerSideFixedClipping
    run(folder, lambda: dp(known.FedAvg(), 0.1, 1.0, 2), 1, experiment="dp")
    raised(
        SchemaError,
        lambda: run(folder, lambda: dp(known.FedAvgM(), 0.1, 1.0, 2), 2, experiment="dp"),
        "strategy",
        "FedAvgM",
    )
    assert rounds_in(folder) == [1]


@message_api
def another_model_is_an_error(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    run(folder, known.FedAvg, 1)
    from tests.interop.flower.models import SHAPES, initial_weights

    weights = dict(zip(SHAPES, initial_weights(), strict=True))
    for other in (
        {**weights, "fc.bias": np.zeros(2, "f4")},
        {**weights, "fc.bias": np.zeros(1, "f8")},
        dict(list(weights.items())[:-1]),
        {**weights, "more": np.zeros(1, "f4")},
        dict(reversed(list(weights.items()))),
    ):
        raised(SchemaError, lambda other=other: run(folder, known.FedAvg, 2, weights=other), "the model")


@message_api
def the_newest_round_that_verifies_is_taken(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    whole = run(folder / "whole", known.FedAdam, 4)
    run(folder, known.FedAdam, 3)
    path = folder / "default/rounds/00000003.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with Logged() as log:
        result = run(folder, known.FedAdam, 4)
    assert "round 3 is not taken" in log.warnings(), log.lines
    assert "round 2 is the newest that verifies" in log.warnings()
    assert list(result.train_metrics_clientapp) == [1, 2, 3, 4]
    assert list(result.arrays) == list(whole.arrays)
    for path in (folder / "default/rounds").iterdir():
        path.write_bytes(path.read_bytes()[:-50])
    raised(DamagedError, lambda: run(folder, known.FedAdam, 5), "none of 3 rounds verifies")


@message_api
def a_round_of_something_else_is_no_round(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    (folder / "default/rounds").mkdir(parents=True)
    archive.save({"w": np.zeros(2)}, folder / "default/rounds/00000001.h5")
    raised(SchemaError, lambda: run(folder, known.FedAvg, 2), "no round of a resumable strategy")
    run(folder / "mixed", known.FedAvg, 2)
    archive.save({"w": np.zeros(2)}, folder / "mixed/default/rounds/00000007.h5")
    raised(SchemaError, lambda: run(folder / "mixed", known.FedAvg, 3), "00000007.h5", "move it away")
    assert rounds_in(folder / "mixed") == [1, 2, 7], "it was removed"


@message_api
def a_round_of_a_newer_release_is_left_alone(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    run(folder, known.FedAvg, 2)
    path = folder / "default/rounds/00000002.h5"
    newer = archive.load(path)
    newer["resume"]["version"] += 1
    archive.save(newer, path)
    raised(archive.errors.VersionError, lambda: run(folder, known.FedAvg, 3), "newer", "upgrade")
    assert rounds_in(folder) == [1, 2]


@message_api
def settings_of_the_script_win(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    run(folder, lambda: known.FedAdam(eta=0.1), 1)
    made = []

    def make() -> Any:
        made.append(known.FedAdam(eta=0.2))
        return made[0]

    with Logged() as log:
        run(folder, make, 2)
    assert made[0].eta == 0.2
    assert "eta was 0.1 and is 0.2" in log.warnings(), log.lines
    assert made[0].m_t is not None
    third = known.FedAdam(eta=0.3)
    run(folder, lambda: third, 3)
    assert third.eta == 0.3


@message_api
def what_cannot_be_saved_is_said(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    def make() -> Any:
        strategy = known.FedAvg()
        strategy.stream = iter([1, 2])
        strategy.callback = lambda: None
        return strategy

    with Logged() as log:
        run(folder, make, 1)
    assert "stream of the strategy cannot be saved" in log.warnings()
    assert "callback" not in log.warnings()


@message_api
def rounds_that_are_kept(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    run(folder, known.FedAvg, 7)
    assert rounds_in(folder) == [5, 6, 7]
    run(folder, known.FedAvg, 7, experiment="every", every=3, keep_last=None)
    assert rounds_in(folder, "every") == [3, 6, 7]
    history = archive.CheckpointStore(str(folder / "default")).history()
    assert any("train_loss" in column for column in history), list(history)


@check
def numbers_of_numpy_are_metrics(folder: Path) -> None:
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
    from flwr.server.strategy import FedAvg

    initial = ndarrays_to_parameters([np.zeros(3, "f4")])
    found = {"accuracy": np.float64(0.9), "count": np.int64(3), "rates": [1, np.float32(0.5)], "name": "x"}
    strategy = Resumable(
        FedAvg(
            fraction_evaluate=0.0,
            initial_parameters=initial,
            fit_metrics_aggregation_fn=lambda _: found,
            evaluate_fn=lambda *_: (np.float32(0.5), {"central": np.float64(0.75)}),
        ),
        folder,
    )
    strategy.initialize_parameters(None)
    strategy._fedarchive.begin(1)
    strategy.aggregate_fit(1, [(None, FitRes(Status(Code.OK, ""), initial, 1, {}))], [])
    strategy.evaluate(1, initial)
    strategy.configure_evaluate(1, initial, None)
    saved = archive.load(folder / "default/rounds/00000001.h5")
    assert dict(saved["fit"]) == {"accuracy": 0.9, "count": 3, "rates": [1.0, 0.5]}, saved["fit"]
    assert dict(saved["server"]) == {"loss": 0.5, "central": 0.75}, saved["server"]


@message_api
def started_again_in_the_same_process(folder: Path) -> None:
    """After an exception in round 3 of 4, ``start`` of the same object goes on."""
    import random

    import flwr.serverapp.strategy as known
    from flwr.app import Array, ArrayRecord, ConfigRecord

    from tests.interop.flower.grid import InProcessGrid
    from tests.interop.flower.messageruns import client_app
    from tests.interop.flower.models import SHAPES, initial_weights

    rates: dict[int, list[float]] = {}

    class Counting(known.FedAdam):
        def __init__(self) -> None:
            super().__init__(fraction_train=0.5, min_train_nodes=2)
            self.calls = 0

        def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            self.calls += 1
            config["lr"] *= 0.5
            rates.setdefault(server_round, []).append(config["lr"])
            return super().configure_train(server_round, arrays, config, grid)

    def trap(partition: int, message: Any) -> None:
        if message.content["config"]["server-round"] == 3:
            raise RuntimeError("stopped")

    given = {k: Array(w) for k, w in zip(SHAPES, initial_weights(), strict=True)}
    results = []
    for fails in (False, True):
        random.seed(5)
        app = client_app(str(folder / f"states {fails}"), [])
        config = ConfigRecord({"lr": 1.0})
        strategy = Resumable(Counting(), folder / f"run {fails}")
        if fails:
            stopped = InProcessGrid(app, 4, 1, trap)
            start = functools.partial(strategy.start, stopped, ArrayRecord(given), 4, train_config=config)
            raised(RuntimeError, start, "stopped")
            random.seed(77)
        grid = InProcessGrid(app, 4, 2)
        result = strategy.start(grid, ArrayRecord(given), 4, train_config=config)
        assert strategy.calls == 4
        assert list(result.train_metrics_clientapp) == [1, 2, 3, 4]
        results.append({key: array.data for key, array in result.arrays.items()})
    assert results[0] == results[1]
    assert {number: set(found) for number, found in rates.items()} == {n: {0.5**n} for n in (1, 2, 3, 4)}


@message_api
def a_config_may_be_changed_at_every_start(folder: Path) -> None:
    """A value that the run changes goes on from where it was, also of a start after one that gave another."""
    import flwr.serverapp.strategy as known
    from flwr.app import Array, ArrayRecord, ConfigRecord

    from tests.interop.flower.grid import InProcessGrid
    from tests.interop.flower.messageruns import client_app

    used = []

    class Decaying(known.FedAvg):
        def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
            config["lr"] *= 0.5
            used.append(config["lr"])
            return super().configure_train(server_round, arrays, config, grid)

    from tests.interop.flower.models import SHAPES, initial_weights

    given = {k: Array(w) for k, w in zip(SHAPES, initial_weights(), strict=True)}
    for rounds, lr in ((1, 1.0), (2, 8.0), (3, 8.0), (4, 8.0), (5, 2.0)):
        strategy = Resumable(Decaying(), folder)
        grid = InProcessGrid(client_app("", []), 2)
        strategy.start(grid, ArrayRecord(given), rounds, train_config=ConfigRecord({"lr": lr}))
    assert used == [0.5, 4.0, 2.0, 1.0, 1.0]


@message_api
def nothing_left_to_do(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    first = run(folder, known.FedAvg, 3)
    for rounds in (3, 2, 1):
        again = run(folder, known.FedAvg, rounds)
        assert {k: a.data for k, a in again.arrays.items()} == {k: a.data for k, a in first.arrays.items()}
        assert list(again.train_metrics_clientapp) == list(range(1, rounds + 1))
    assert rounds_in(folder) == [1, 2, 3]


@message_api
def paths_are_absolute_and_logged(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    before = Path.cwd()
    os.chdir(folder)
    try:
        with Logged() as log:
            strategy = Resumable(known.FedAvg(), "relative")
            persist_state("relative")
        os.chdir(before)
        assert isinstance(strategy, known.FedAvg)
        assert strategy.__dict__["_fedarchive"].rounds.shown == str(folder.resolve() / "relative/default")
        assert sum(str(folder.resolve() / "relative/default") in text for _, text in log.lines) == 2, (
            log.lines
        )
    finally:
        os.chdir(before)


@message_api
def arguments_are_checked(folder: Path) -> None:
    import flwr.serverapp.strategy as known

    raised(TypeError, lambda: Resumable(object(), folder), "object")
    raised(TypeError, lambda: Resumable(Resumable(known.FedAvg(), folder), folder), "already")
    raised(ValueError, lambda: Resumable(known.FedAvg(), folder, every=0), "every")
    raised(ValueError, lambda: Resumable(known.FedAvg(), folder, keep_last=0))
    inside = known.DifferentialPrivacyServerSideFixedClipping(Resumable(known.FedAvg(), folder), 0.1, 1.0, 2)
    raised(RuntimeError, lambda: inside.configure_train(1, None, None, None), "outermost")
    for experiment in ("", "..", "a/b"):
        raised(ValueError, lambda e=experiment: Resumable(known.FedAvg(), folder, experiment=e), "experiment")


@message_api
def a_start_of_your_own(folder: Path) -> None:
    """A strategy that overrides start, and keeps the best metric it has seen."""
    import flwr.serverapp.strategy as known

    class Mine(known.FedAvg):
        best = 0.0

        def start(self, grid: Any, initial_arrays: Any, num_rounds: int = 3, note: str = "") -> Any:
            assert note == "yes"
            result = super().start(grid, initial_arrays, num_rounds)
            self.best = 1.0
            return result

    from flwr.app import Array, ArrayRecord

    from tests.interop.flower.grid import InProcessGrid
    from tests.interop.flower.messageruns import client_app
    from tests.interop.flower.models import SHAPES, initial_weights

    given = {k: Array(w) for k, w in zip(SHAPES, initial_weights(), strict=True)}
    strategy = Resumable(Mine(), folder)
    result = strategy.start(InProcessGrid(client_app("", []), 2), ArrayRecord(given), 2, note="yes")
    assert list(result.train_metrics_clientapp) == [1, 2]
    assert strategy.best == 1.0


@message_api
def accountants_go_on(folder: Path) -> None:
    """An object with state_dict and load_state_dict is saved by these, as Flower's accountants are."""
    import flwr.serverapp.strategy as known

    class Accountant:
        def __init__(self) -> None:
            self.handle, self.spent = iter([]), []

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

    made = []

    def make() -> Any:
        made.append(Accounted())
        return made[-1]

    run(folder, make, 2)
    run(folder, make, 4)
    assert made[1].accountant.spent == [1, 2, 3, 4]


def main() -> None:
    warnings.simplefilter("ignore")
    from importlib.metadata import version

    import flwr.common

    logging.getLogger("flwr").setLevel(logging.ERROR)
    try:
        import flwr.serverapp.strategy

        message = True
    except ModuleNotFoundError:
        message = False
    results = {}
    for name, function in CHECKS.items():
        if name in MESSAGE_CHECKS and not message:
            results[name] = "skip: this flwr has no message-based strategies"
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                function(Path(folder))
                results[name] = "ok"
            except Exception:  # noqa: BLE001 every check is run and told of
                results[name] = traceback.format_exc()
    versions = {"flwr": version("flwr"), "numpy": np.__version__}
    assert flwr.common
    sys.stdout.write(json.dumps({"versions": versions, "results": results}) + "\n")


if __name__ == "__main__":
    main()
