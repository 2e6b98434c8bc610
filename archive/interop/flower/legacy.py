"""Strategies of ``flwr.server.strategy``, which FL4Health uses, made resumable.

The server needs no change, as it asks its strategy for everything. In a round that is done, the strategy
selects one client that answers at once, and recalls the saved results.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from archive.interop.flower.releases import flower
from archive.interop.flower.resumption import MISSING, Resumption, resumption_of
from archive.interop.flower.strategystate import subclass
from archive.interop.flower.strategyvalues import parameter_array
from archive.records import ArrayRecord

__all__ = ["resumable_legacy"]


def resumable_legacy(base: Any) -> Any:
    """Return a subclass of a strategy of the old API that saves its rounds and recalls them."""
    return subclass(_Resumed, base)


class _Resumed:
    """First base of our subclass of a strategy's class."""

    def initialize_parameters(self, client_manager: Any) -> Any:
        """Return the parameters of the newest saved round, or the strategy's own."""
        ours = resumption_of(self)
        inner: Any = super()
        restored = ours.load(self)
        initial = inner.initialize_parameters(client_manager)
        if initial is not None:
            ours.given(_to_model(initial))
        if restored is None:
            return initial
        ours.restore(self)
        ours.restored = _to_parameters(restored)
        return ours.restored

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:
        """Configure a round; a round that is done needs no clients."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return _idle_client("fit", ours, server_round)
        ours.end(self, server_round - 1, _to_model)  # the server may have skipped the evaluation
        ours.begin(server_round)
        ours.model(parameters)
        return inner.configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """Aggregate a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            found = ours.recall("fit", server_round)
            parameters = ours.restored if server_round == ours.done else None
            return parameters, {} if found is MISSING else found
        parameters, metrics = inner.aggregate_fit(server_round, results, failures)
        if parameters is not None:
            ours.model(parameters)
        ours.keep("fit", server_round, metrics)
        return parameters, metrics

    def evaluate(self, server_round: int, parameters: Any) -> Any:
        """Evaluate on the server, or recall the results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done and ours.resumed:
            found = ours.recall("server", server_round)
            return None if found is MISSING else found
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
        instructions = inner.configure_evaluate(server_round, parameters, client_manager)
        if not instructions:  # the server ends the round here
            ours.end(self, server_round, _to_model)
        return instructions

    def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> Any:
        """Aggregate the evaluation of a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            found = ours.recall("evaluate", server_round)
            return (None, {}) if found is MISSING else found
        result = inner.aggregate_evaluate(server_round, results, failures)
        ours.keep("evaluate", server_round, result)
        ours.end(self, server_round, _to_model)
        return result


def _to_model(parameters: Any) -> ArrayRecord:
    """Return Flower's Parameters as a record over the same bytes, with the keys that Flower uses."""
    kind = parameters.tensor_type
    arrays = {str(place): parameter_array(tensor, kind) for place, tensor in enumerate(parameters.tensors)}
    record = ArrayRecord.from_checked(arrays)
    record.attributes["tensor_type"] = kind
    return record


def _to_parameters(record: ArrayRecord) -> Any:
    tensors = [array.data for array in record.values()]
    return flower().Parameters(tensors=tensors, tensor_type=record.attributes["tensor_type"])


def _idle_client(kind: str, ours: Resumption, server_round: int) -> list[Any]:
    """Return one client that trains nothing, which makes the server ask for the results, if any are saved."""
    if ours.recall(kind, server_round) is MISSING:
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
