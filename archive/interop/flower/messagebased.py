"""Strategies of ``flwr.serverapp.strategy``, made resumable.

Flower's own ``start`` runs, with its own round numbers. In a round that is done, no messages are sent, and
the saved results are recalled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from archive.interop.flower.records import from_flower, to_flower
from archive.interop.flower.resumption import MISSING, resumption_of
from archive.interop.flower.strategystate import subclass

__all__ = ["resumable_messages"]


def resumable_messages(base: Any) -> Any:
    """Return a subclass of a message-based strategy that saves its rounds and recalls them."""
    return subclass(_Resumed, base)


class _Resumed:
    """First base of our subclass of a strategy's class."""

    def start(self, *args: Any, **kwargs: Any) -> Any:
        """Go on after the newest saved round, with the parameters and the result of the strategy's start."""
        ours = resumption_of(self)
        inner: Any = super()
        given = inspect.signature(inner.start).bind(*args, **kwargs)
        given.apply_defaults()
        restored = ours.load(self)
        ours.given(from_flower(given.arguments["initial_arrays"]))
        if restored is not None:
            ours.restore(self)
            given.arguments["initial_arrays"] = ours.restored = to_flower(restored)
        ours.total = max(given.arguments["num_rounds"], ours.done)
        evaluate = given.arguments.get("evaluate_fn")
        ours.evaluates = evaluate is not None
        if evaluate is not None:
            given.arguments["evaluate_fn"] = _recalled(self, evaluate)
        result = inner.start(*given.args, **given.kwargs)
        ours.end(self, ours.current, from_flower)
        if restored is not None and ours.done >= given.arguments["num_rounds"]:
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
        ours.end(self, server_round - 1, from_flower)  # an overridden start() may skip the evaluation
        ours.begin(server_round)
        ours.send("train", arrays, config)
        return inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """Aggregate a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            arrays = ours.restored if server_round == ours.done else None
            return arrays, _or_none(ours.recall("train", server_round))
        arrays, metrics = inner.aggregate_train(server_round, replies)
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
        return inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Any) -> Any:
        """Aggregate the evaluation of a round, or recall its results."""
        ours = resumption_of(self)
        inner: Any = super()
        if server_round <= ours.done:
            return _or_none(ours.recall("evaluate", server_round))
        metrics = inner.aggregate_evaluate(server_round, replies)
        if metrics is not None:
            ours.keep("evaluate", server_round, metrics)
        if not ours.evaluates:
            ours.end(self, server_round, from_flower)
        return metrics


def _recalled(strategy: Any, evaluate: Callable[[int, Any], Any]) -> Callable[[int, Any], Any]:
    """Return the server's evaluation; it is recalled for rounds that are done, and ends all others."""
    ours = resumption_of(strategy)

    def evaluate_fn(server_round: int, arrays: Any) -> Any:
        if server_round <= ours.done and ours.resumed:
            return _or_none(ours.recall("server", server_round))
        metrics = evaluate(server_round, arrays)
        if metrics is not None:
            ours.keep("server", server_round, metrics)
        ours.end(strategy, server_round, from_flower)
        return metrics

    return evaluate_fn


def _or_none(found: Any) -> Any:
    return None if found is MISSING else found
