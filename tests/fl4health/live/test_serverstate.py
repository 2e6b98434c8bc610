"""A server's rounds: what they hold, which is taken, and who may write them."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fl4health")

import torch
from fl4health.parameter_exchange.full_exchanger import FullParameterExchanger
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays

from archive import CheckpointStore
from archive.errors import DamagedError, LockedError
from archive.interop.fl4health import ClientStateCheckpointer, PartialExchanger, ServerStateCheckpointer
from archive.interop.fl4health.instructions import KEY
from archive.interop.fl4health.objectstate import StateMismatchError
from archive.interop.flower import Resumable
from archive.interop.flower.orders import Order
from tests.fl4health.live.algorithms import make_client, make_server, plain_net
from tests.fl4health.live.strategies import TrainingProxy, layers, run, sparse, with_variates


def server(folder: Path, name: str = "scaffold", **more: Any) -> Any:
    made = make_server(name, ServerStateCheckpointer(folder / "run", **more), folder)
    made.set_max_workers(1)
    for number in range(2):
        made.client_manager().register(TrainingProxy(number, with_variates))
    return made


def test_a_server_goes_on_with_parameters_strategy_history_and_reports(tmp_path: Path) -> None:
    random.seed(1)
    whole = server(tmp_path / "whole")
    whole.fit(4, None)
    server(tmp_path / "run").fit(2, None)
    again = server(tmp_path / "run")
    again.fit(4, None)
    assert again.parameters.tensors == whole.parameters.tensors
    assert vars(again.history) == vars(whole.history)
    rounds = again.reports_manager.reporters[0].metrics["rounds"]
    assert list(rounds) == [1, 2, 3, 4]
    variates = zip(
        again.strategy.server_control_variates, whole.strategy.server_control_variates, strict=True
    )
    assert all((one == other).all() for one, other in variates)


def test_a_complete_run_returns_what_it_had(tmp_path: Path) -> None:
    first = server(tmp_path)
    history, _ = first.fit(2, None)
    again = server(tmp_path)
    found, _ = again.fit(2, None)
    assert vars(found) == vars(history)
    assert again.parameters.tensors == first.parameters.tensors


def test_a_round_is_one_of_a_store(tmp_path: Path) -> None:
    made = server(tmp_path, checkpoint_name="scaffold", keep_last=2)
    made.fit(3, None)
    store = CheckpointStore(tmp_path / "run/scaffold")
    assert store.rounds() == [2, 3]
    with store.open("latest") as handle:
        record: Any = handle.records["model"]
        assert list(record) == list(plain_net().state_dict())
    losses = [loss for _, loss in made.history.losses_distributed]
    assert store.history()["evaluate_loss"].tolist() == losses
    seen = ServerStateCheckpointer(tmp_path / "run", "scaffold").load_checkpoint()
    assert seen["round"] == 3
    assert seen["attributes"]["current_round"] == 4
    assert len(seen["attributes"]["strategy"]["server_control_variates"]) == 4


def test_every_message_says_which_attempt_it_is_of(tmp_path: Path) -> None:
    first = server(tmp_path)
    first.fit(2, None)
    again = server(tmp_path)
    again.fit(2, None)
    pairs = again.strategy.configure_fit(3, again.parameters, again.client_manager())
    orders = [Order.from_text(ins.config[KEY]) for _, ins in pairs]
    assert [order.line.after for order in orders] == [2, 2]
    assert orders[0].kept == (1, 2)
    assert again.strategy.configure_evaluate(3, again.parameters, again.client_manager())[0][1].config[KEY]


def test_a_run_of_resumable_strategies_is_not_that_of_a_server(tmp_path: Path) -> None:
    made = server(tmp_path)
    run(Resumable(made.strategy, tmp_path / "run"), with_variates, 2)
    with pytest.raises(StateMismatchError, match="not the state of an FL4Health server or client"):
        server(tmp_path).fit(3, None)
    assert CheckpointStore(tmp_path / "run/default").rounds() == [1, 2]


def test_the_store_of_a_run_has_the_states_of_its_clients(tmp_path: Path) -> None:
    made = server(tmp_path)
    made.fit(2, None)
    pairs = made.strategy.configure_fit(3, made.parameters, made.client_manager())
    north = make_client("scaffold", "north", ClientStateCheckpointer(tmp_path / "run"), tmp_path)
    north.fit(parameters_to_ndarrays(made.parameters), pairs[0][1].config)
    made.current_round = 4
    made._save_server_state()
    store = CheckpointStore(tmp_path / "run/default")
    state: Any = store.context("north").state
    assert list(state["model"]) == list(plain_net().state_dict())


def test_a_damaged_round_is_said_and_the_one_before_is_taken(tmp_path: Path) -> None:
    server(tmp_path).fit(3, None)
    path = tmp_path / "run/default/rounds/00000003.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateMismatchError, match="does not fit"):
        server(tmp_path, "fedavg").fit(2, None)
    assert CheckpointStore(tmp_path / "run/default").rounds() == [1, 2, 3]  # a refused start removes none
    again = server(tmp_path)
    again.fit(2, None)
    assert again.current_round == 3
    assert CheckpointStore(tmp_path / "run/default").rounds() == [1, 2]
    for path in (tmp_path / "run/default/rounds").iterdir():
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2000))
    with pytest.raises(DamagedError, match="none of 2 rounds verifies"):
        server(tmp_path).fit(3, None)


def test_one_server_at_a_time_writes_a_run(tmp_path: Path) -> None:
    server(tmp_path).fit(1, None)
    child = os.fork()
    if not child:
        code = 1
        try:
            server(tmp_path).fit(2, None)
        except LockedError:
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_run_of_another_strategy_is_an_error_that_names_what_differs(tmp_path: Path) -> None:
    server(tmp_path).fit(1, None)
    with pytest.raises(StateMismatchError, match="'model': the saved state does not fit"):
        server(tmp_path, "fedavg").fit(2, None)


def test_parameters_that_an_exchanger_does_not_make_again_are_an_error(tmp_path: Path) -> None:
    class Rounding(FullParameterExchanger):
        def push_parameters(self, *given: Any, **more: Any) -> Any:
            return [found.round(1) for found in super().push_parameters(*given, **more)]

    server(tmp_path).fit(1, None)
    again = server(tmp_path)
    again.checkpoint_and_state_module.parameter_exchanger = Rounding()
    with pytest.raises(StateMismatchError, match="Rounding does not make the saved parameters again"):
        again.fit(2, None)


def test_a_setting_of_the_strategy_is_the_script_s(tmp_path: Path) -> None:
    server(tmp_path).fit(1, None)
    again = server(tmp_path)
    again.strategy.learning_rate = 0.25
    again.fit(2, None)
    assert again.strategy.learning_rate == 0.25


def test_without_rounds_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    state = ServerStateCheckpointer(tmp_path)
    assert not state.checkpoint_exists()
    with pytest.raises(FileNotFoundError, match="no round was saved in"):
        state.load_checkpoint()


def test_a_partial_exchanger_fills_layers_and_sparse_tensors() -> None:
    for make in (layers, sparse):
        net, before = plain_net(), plain_net().state_dict()
        packed = parameters_to_ndarrays(ndarrays_to_parameters(make([], 4)))
        PartialExchanger().pull_parameters(packed, net)
        names = packed[-1].tolist()
        changed = [name for name, found in net.state_dict().items() if not torch.equal(found, before[name])]
        assert changed == [name for name in before if name in names]
    unknown = [before["0.bias"].numpy(), np.array(["other"])]
    with pytest.raises(ValueError, match="parameters named other, which the model lacks"):
        PartialExchanger().pull_parameters(unknown, net)
