"""Strategies of ``flwr.server.strategy``, which FL4Health uses, made resumable.

The server needs no change, as it asks its strategy for everything. In a round that is done, the strategy
selects one client that answers at once, and recalls the saved results.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from archive.errors import HostileFileError
from archive.interop.flower.letters import give_legacy, hear_legacy
from archive.interop.flower.messagebased import ask_names, identity_of
from archive.interop.flower.parameternames import named_parameters, plain_parameters
from archive.interop.flower.releases import flower
from archive.interop.flower.results import MISSING
from archive.interop.flower.resumption import Resumption, resumption_of
from archive.interop.flower.settings import Settings
from archive.interop.flower.strategystate import subclass
from archive.interop.flower.strategyvalues import parameter_array
from archive.records import Array, ArrayRecord

__all__ = ["resumable_legacy"]

MAX_FRAMES = 8
"""Calls between the server's method that has the number of rounds and the strategy's."""
WAIT_S = 86_400
"""Seconds that a deterministic round waits for clients, as Flower does when it selects some."""


def resumable_legacy(base: Any) -> Any:
    """Return a subclass of a strategy of the old API that saves its rounds and recalls them."""
    return subclass(_Resumed, base)


class _Resumed:
    """First base of our subclass of a strategy's class."""

    def initialize_parameters(self, client_manager: Any) -> Any:
        """Return the parameters of the newest saved round, or the strategy's own."""
        ours = resumption_of(self)
        inner: Any = super()
        with contextlib.ExitStack() as ending:
            ending.callback(ours.rounds.release)
            restored = ours.load(self, _rounds_of_caller(), identity_of(_grid_of(client_manager)))
            initial = inner.initialize_parameters(client_manager)
            if initial is not None:
                ours.given(ArrayRecord.from_checked({str(n): a for n, a in enumerate(_arrays(initial))}))
            if restored is not None:
                ours.restore(self)
                initial = ours.restored = _to_parameters(restored)
            if not ours.complete:
                ending.pop_all()  # `_end` releases the run after its last round
        return initial

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        """Configure a round; a round that is done needs no clients."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return _idle_client("fit", ours, server_round)
        ours.end(
            self, server_round - 1, partial(_to_models, ours.settings)
        )  # the server may have skipped the evaluation
        ours.begin(server_round)
        ours.model(parameters)
        instructions = _addressed(self, inner.configure_fit, server_round, parameters, client_manager)
        ours.identify(identity_of(_grid_of(client_manager)))  # at the start there may have been no node yet
        return instructions

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """Aggregate a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            found = ours.results.recall("fit", server_round)
            if not isinstance(found, Mapping):
                found = _require(found is MISSING or found is None, "fit", server_round, {})
            parameters = ours.restored if server_round == ours.done else None
            return parameters, found
        parameters, metrics = inner.aggregate_fit(server_round, _heard(ours, server_round, results), failures)
        if parameters is not None:
            ours.model(parameters)
        ours.keep("fit", server_round, metrics)
        return parameters, metrics

    def evaluate(self, server_round: int, parameters: Any) -> Any:
        """Evaluate on the server, or recall the results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done and ours.resumed:
            return _recalled_pair(ours, "server", server_round, None)
        result = inner.evaluate(server_round, parameters)
        if result is not None:
            ours.keep("server", server_round, result)
        return result

    def configure_evaluate(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        """Configure the evaluation of a round; a round that is done needs no clients."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return _idle_client("evaluate", ours, server_round)
        ours.model(parameters)
        instructions = _addressed(self, inner.configure_evaluate, server_round, parameters, client_manager)
        if not instructions:  # the server ends the round here
            self._end(server_round)
        return instructions

    def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> Any:
        """Aggregate the evaluation of a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return _recalled_pair(ours, "evaluate", server_round, (None, {}))
        result = inner.aggregate_evaluate(server_round, _heard(ours, server_round, results), failures)
        ours.keep("evaluate", server_round, result)
        self._end(server_round)
        return result

    def _end(self, server_round: int) -> None:
        """Save a round that is over; after the last one another server may write the run."""
        ours = resumption_of(self)
        ours.end(self, server_round, partial(_to_models, ours.settings))
        if server_round == ours.total:
            ours.rounds.release()


def _recalled_pair(ours: Resumption, kind: str, number: int, missing: Any) -> Any:
    """Return a saved loss with metrics, which Flower takes apart."""
    found = ours.results.recall(kind, number)
    if isinstance(found, (tuple, list)) and len(found) == 2:
        return found
    return _require(found is MISSING, kind, number, missing)


def _require(sound: bool, kind: str, number: int, value: Any) -> Any:
    """Return a value, or raise because the saved result that it stands for is no result."""
    if not sound:
        raise HostileFileError("a saved result that no server made", key=f"history/{kind}/{number}")
    return value


def _rounds_of_caller() -> int | None:
    """Return how many rounds the server was asked for; None where that cannot be known.

    A server of the old API never tells its strategy. The number is an argument of the method that asks for
    the initial parameters, ``Server.fit(num_rounds, timeout)``, as FL4Health's servers have it too.
    """
    frame = inspect.currentframe()
    for _ in range(MAX_FRAMES):
        frame = frame.f_back if frame is not None else None
        found = frame.f_locals.get("num_rounds") if frame is not None else None
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    return None


def _grid_of(client_manager: Any) -> Any:
    """Return the grid that the clients of a manager are reached by; None where it has no client."""
    clients = client_manager.all() if client_manager is not None else {}
    return getattr(next(iter(clients.values()), None), "grid", None)


def _addressed(
    strategy: Any, configure: Callable[..., Any], number: int, parameters: Any, client_manager: Any
) -> Any:
    """Return the instructions of a round, each with what the clients are to know."""
    ours = resumption_of(strategy)
    if ours.deterministic:
        wrapped = getattr(strategy, "strategy", strategy)  # by a strategy for privacy
        client_manager.wait_for(getattr(wrapped, "min_available_clients", 1), timeout=WAIT_S)
        _order_clients(ours, number, client_manager)
    with ours.selection.of(number, configure.__name__):
        instructions = list(configure(number, parameters, client_manager) or ())
    if ours.deterministic:
        selected = [str(client.cid) for client, _ in instructions]  # some may have come since
        ours.selection.require_names(selected, ours.participants.names)
    text_for = ours.orders(number)
    return [
        (client, type(given)(given.parameters, give_legacy(given.config, text_for(str(client.cid)))))
        for client, given in instructions
    ]


def _heard(ours: Resumption, number: int, results: Any) -> Any:
    """Return the results of a round without reports; of a deterministic run in the order of the nodes."""
    found = [(str(client.cid), hear_legacy(result.metrics)) for client, result in results if client]
    ours.hear(number, found)
    if not ours.deterministic:
        return results
    return sorted(results, key=lambda pair: ours.participants.order(str(pair[0].cid)))


def _order_clients(ours: Resumption, number: int, client_manager: Any) -> None:
    """Order the clients of a manager by name, in which it draws them; clients that are new are asked."""
    clients, grid = client_manager.all(), _grid_of(client_manager)
    if grid is None:
        ours.selection.require_names(list(clients), ours.participants.names)
    else:
        ask_names(ours, grid, map(int, list(clients)), number)
        dropped = set(clients) - set(map(str, grid.get_node_ids()))
        for cid in dropped:  # as Flower's thread does a little later; else they would be counted and drawn
            clients.pop(cid, None)
        ours.selection.require_names(list(clients), ours.participants.names)
    ours.selection.count_available(len(clients))
    for cid in sorted(clients, key=ours.participants.order):
        if (client := clients.pop(cid, None)) is not None:  # Flower's thread may have removed it
            clients[cid] = client


def _arrays(parameters: Any) -> list[Array]:
    """Return Flower's Parameters as Arrays over the same bytes."""
    return [parameter_array(tensor, parameters.tensor_type) for tensor in parameters.tensors]


def _to_models(settings: Settings, parameters: Any) -> dict[str, ArrayRecord]:
    """Return Flower's Parameters as records, with the names of the settings."""
    found: Any = named_parameters(_arrays(parameters), settings.names, settings.packer)
    records: dict[str, ArrayRecord] = dict(found.items())
    for record in records.values():
        record.attributes["tensor_type"] = parameters.tensor_type
    return records


def _to_parameters(models: Mapping[str, ArrayRecord]) -> Any:
    tensors = [array.data for array in plain_parameters(models)]
    first = next(iter(models.values()))
    return flower().Parameters(tensors=tensors, tensor_type=first.attributes["tensor_type"])


def _idle_client(kind: str, ours: Resumption, server_round: int) -> list[Any]:
    """Return one client that trains nothing, which makes the server ask for the results, if any are saved."""
    if ours.results.recall(kind, server_round) is MISSING:
        return []
    common = importlib.import_module("flwr.common")
    empty = flower().Parameters(tensors=[], tensor_type="numpy.ndarray")
    instructions = common.FitIns if kind == "fit" else common.EvaluateIns
    return [(_replay_class()("recalled"), instructions(empty, {}))]


@cache
def _replay_class() -> type[Any]:
    common = importlib.import_module("flwr.common")
    base: Any = importlib.import_module("flwr.server.client_proxy").ClientProxy
    done = common.Status(code=common.Code.OK, message="")
    empty = flower().Parameters(tensors=[], tensor_type="numpy.ndarray")

    class RecalledClient(base):  # type: ignore[misc] # as above
        """Answers at once, with nothing."""

        def get_properties(self, ins: Any, timeout: Any, group_id: Any) -> Any:
            return common.GetPropertiesRes(done, {})

        def get_parameters(self, ins: Any, timeout: Any, group_id: Any) -> Any:
            return common.GetParametersRes(done, empty)

        def fit(self, ins: Any, timeout: Any, group_id: Any) -> Any:
            return common.FitRes(done, empty, 0, {})

        def evaluate(self, ins: Any, timeout: Any, group_id: Any) -> Any:
            return common.EvaluateRes(done, 0.0, 0, {})

        def reconnect(self, ins: Any, timeout: Any, group_id: Any) -> Any:
            return common.DisconnectRes("")

    return RecalledClient
