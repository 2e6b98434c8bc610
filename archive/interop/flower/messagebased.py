"""Strategies of ``flwr.serverapp.strategy``, made resumable.

Flower's own ``start`` runs, with its own round numbers. In a round that is done, no messages are sent, and
the saved results are recalled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from archive.errors import HostileFileError
from archive.interop.flower.letters import give, hear
from archive.interop.flower.parameternames import MODEL
from archive.interop.flower.records import from_flower, to_flower
from archive.interop.flower.releases import LOGGER, flower
from archive.interop.flower.results import MISSING
from archive.interop.flower.resumption import Resumption, resumption_of
from archive.interop.flower.startarguments import StartArguments
from archive.interop.flower.strategystate import subclass
from archive.records import ArrayRecord

__all__ = ["ask_names", "identity_of", "resumable_messages"]

_log = logging.getLogger(LOGGER)
ASK_S = 600.0
"""Seconds that nodes have to tell their names: Ray may take minutes to start a first client."""


def resumable_messages(base: Any) -> Any:
    """Return a subclass of a message-based strategy that saves its rounds and recalls them."""
    return subclass(_Resumed, base)


class _Resumed:
    """First base of our subclass of a strategy's class."""

    def start(self, *args: Any, **kwargs: Any) -> Any:
        """Go on after the newest saved round, with the parameters and the result of the strategy's start."""
        ours = resumption_of(self)
        inner: Any = super()
        given = StartArguments(inner.start, args, kwargs)
        try:
            restored = ours.load(self, given["num_rounds"], identity_of(given["grid"]))
            ours.given(from_flower(given["initial_arrays"]))
            if restored is not None:
                ours.restore(self)
                if MODEL not in restored:
                    raise HostileFileError("a saved round without a model", key=MODEL)
                ours.restored = to_flower(restored[MODEL])
                given.replace("initial_arrays", ours.restored)
            if ours.complete:
                for kind in ("train", "evaluate"):
                    ours.compare_config(kind, given[f"{kind}_config"] or {})
            evaluate = given["evaluate_fn"]
            ours.evaluates = evaluate is not None
            if evaluate is not None:
                given.replace("evaluate_fn", _recalled(self, evaluate))
            result = inner.start(*given.args, **given.kwargs)
            ours.end(self, ours.current, _to_models)
        finally:
            ours.rounds.release()
        if ours.complete:
            result.arrays = ours.restored
        return result

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        """Configure a round, unless it is done."""
        ours = resumption_of(self)
        inner: Any = super()
        if not ours.running:
            raise RuntimeError("wrap the outermost strategy in Resumable, and call its start")
        if server_round <= ours.done:
            return []
        ours.end(self, server_round - 1, _to_models)  # an overridden start() may skip the evaluation
        ours.begin(server_round)
        ours.send("train", arrays, config)
        return _addressed(ours, inner.configure_train, server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """Aggregate a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            arrays = ours.restored if server_round == ours.done else None
            return arrays, _or_none(ours.results.recall("train", server_round))
        arrays, metrics = inner.aggregate_train(server_round, _heard(ours, server_round, replies))
        if arrays is not None:
            ours.model(arrays)
        if metrics is not None:
            ours.keep("train", server_round, metrics)
        return arrays, metrics

    def configure_evaluate(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        """Configure the evaluation of a round, unless it is done."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return []
        ours.send("evaluate", arrays, config)
        return _addressed(ours, inner.configure_evaluate, server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
        """Aggregate the evaluation of a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return _or_none(ours.results.recall("evaluate", server_round))
        metrics = inner.aggregate_evaluate(server_round, _heard(ours, server_round, replies))
        if metrics is not None:
            ours.keep("evaluate", server_round, metrics)
        if not ours.evaluates:
            ours.end(self, server_round, _to_models)
        return metrics


def _to_models(arrays: Any) -> dict[str, ArrayRecord]:
    return {MODEL: from_flower(arrays)}


def identity_of(grid: Any) -> dict[str, str]:
    """Return what Flower says of the app whose server has a grid: its name, publisher and federation."""
    run = getattr(grid, "run", None)
    publisher, _, name = str(getattr(run, "fab_id", "") or "").rpartition("/")
    federation = str(getattr(run, "federation_id", "") or getattr(run, "federation", "") or "")
    return {"name": name, "publisher": publisher, "federation": federation}


def _addressed(
    ours: Resumption, configure: Callable[..., Any], number: int, arrays: Any, config: Any, grid: Any
) -> list[Any]:
    """Return the messages of a round, each with what the clients are to know."""
    if ours.deterministic:
        grid = _OrderedGrid(grid, ours, number)
    with ours.selection.of(number, configure.__name__):
        messages = list(configure(number, arrays, config, grid))
    if isinstance(grid, _OrderedGrid) and grid.listed:
        ours.selection.count_available(grid.listed)
    return give(messages, ours.orders(number))


def _heard(ours: Resumption, number: int, replies: Any) -> list[Any]:
    """Return the replies of a round without reports; of a deterministic run in the order of the nodes."""
    found = list(replies)
    nodes = [str(reply.metadata.src_node_id) for reply in found]
    ours.hear(number, zip(nodes, map(hear, found), strict=True))
    if not ours.deterministic:
        return found
    order = ours.participants.order
    return [reply for _, reply in sorted(zip(nodes, found, strict=True), key=lambda pair: order(pair[0]))]


def ask_names(ours: Resumption, grid: Any, nodes: Iterable[int], number: int) -> bool:
    """Ask the nodes that were not heard of and not asked yet for their names; return whether any was.

    In the place of a dead node Flower answers when it drops that node, after a minute. Where a client lacks
    our mod, its own function for training gets the question.
    """
    nodes_of = ours.participants
    known = nodes_of.names.keys() | nodes_of.asked
    new = [node for node in nodes if str(node) not in known]
    if new:
        nodes_of.asked.update(map(str, new))
        _log.info(
            "fedarchive: asking %d nodes for their names; a ClientApp without persist_state fails at that",
            len(new),
        )
        names, question = flower(), ours.question(number)
        empty = names.RecordDict()
        asked = [names.Message(empty, dst_node_id=node, message_type="train") for node in new]
        _heard(ours, number, grid.send_and_receive(give(asked, lambda _: question), timeout=ASK_S))
    return bool(new)


class _OrderedGrid:
    """A grid that lists its nodes by name: their ids, and the order in which they come, are new each run."""

    def __init__(self, grid: Any, ours: Resumption, number: int) -> None:
        self._grid, self._ours, self._number = grid, ours, number
        self.listed: int = 0
        """How many nodes were listed last."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def get_node_ids(self) -> list[int]:
        """Return the ids of all nodes in the order of their names, which nodes that are new are asked for."""
        nodes = list(self._grid.get_node_ids())
        while ask_names(self._ours, self._grid, nodes, self._number):
            nodes = list(self._grid.get_node_ids())  # without those that were dropped meanwhile
        self._ours.selection.require_names(map(str, nodes), self._ours.participants.names)
        self.listed = len(nodes)
        self._ours.selection.begin_again()  # the nodes are drawn at once
        return sorted(nodes, key=lambda node: self._ours.participants.order(str(node)))


def _recalled(strategy: Any, evaluate: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
    """Return the server's evaluation; it is recalled for rounds that are done, and ends all others."""
    ours = resumption_of(strategy)

    def evaluate_fn(server_round: int, arrays: Any) -> Any:
        if server_round <= ours.done and ours.resumed:
            return _or_none(ours.results.recall("server", server_round))
        metrics = evaluate(server_round, arrays)
        if metrics is not None:
            ours.keep("server", server_round, metrics)
        ours.end(strategy, server_round, _to_models)
        return metrics

    return evaluate_fn


def _or_none(found: Any) -> Any:
    """Return a recalled result, which is a record of metrics, or None."""
    if found is not MISSING and not hasattr(found, "items"):
        raise HostileFileError("a saved result that is no record", key="history")
    return None if found is MISSING else found
