"""Streaming: a FedAvg of Flower's that adds up replies as they come, and holds one of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, wraps
from typing import Any, TypeVar

from archive.interop.flower.gridpulls import PullingGrid
from archive.interop.flower.releases import flower
from archive.interop.flower.replysums import ReplySums
from archive.interop.flower.startarguments import StartArguments
from archive.interop.flower.strategyobjects import STREAMED
from archive.interop.flower.strategystate import OURS, strategy_class
from archive.storage.url import URL

__all__ = ["Streaming"]

S = TypeVar("S")
SUMS = OURS + "_sums"
"""Our attribute of such a strategy."""


def Streaming(  # noqa: N802 its users spell it as the strategy, which it is
    strategy: S, scratch: URL, *, storage_options: Mapping[str, Any] | None = None
) -> S:
    """Make a strategy add up the replies of a round as they come, so that memory does not grow with clients.

    ``Streaming(FedAvg(...), scratch)`` is a FedAvg: an instance of a subclass that shares all attributes with
    the given strategy. Flower's ``Grid`` returns all replies of a round at once, with their arrays. This one
    pulls each by itself, adds it to a sum in float64, and lets go of it. The server holds the one reply; the
    sum lies in a mapped file of the scratch folder (in memory where that is remote: two models of float32).

    Parameters
    ----------
    strategy : flwr.serverapp.strategy.FedAvg
        Or of a class that derives from it and leaves the mean of the arrays to it: FedProx, FedAvgM,
        FedAdagrad, FedAdam, FedYogi, and yours whose ``aggregate_train`` calls ``super().aggregate_train``.
    scratch : str or path-like
        Folder of this run alone, local or any URL of fsspec; made if it is not there. A lock keeps other runs
        out of a local one; of two that share a remote one, one fails with ReplacedError or MissingError. It
        has the sum while it is turned into the mean, and replies that come before those to messages sent
        before them: at worst all of a round.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Raises
    ------
    TypeError
        The strategy does not derive from FedAvg, needs the arrays of all replies at once (FedMedian, Krum),
        or is of Flower's old API, where a thread for each client pulls and holds its reply.
    ImportError
        flwr 1.21 or newer is not installed.
    ValueError
        ``scratch`` is a relative path in an app that Flower started.

    Notes
    -----
    Sampling, timeouts, failed clients, weights and metrics are Flower's own. Replies are added in the order
    of the messages, however they arrive: equal replies make equal bits. The mean is the sum in float64,
    divided once and rounded once to the type of the arrays, where FedAvg rounds each step to that type.
    Means of whole numbers and booleans are float64, as FedAvg's.

    ``train_metrics_aggr_fn`` gets the replies with arrays of no elements. A reply whose arrays have other
    shapes or types than those before it ends the run, and so does one whose weight is negative, NaN or
    infinite, where FedAvg makes NaN of the model. So does a strategy that leaves a reply out, or changes its
    weight, before it calls FedAvg's ``aggregate_train``.

    A round in which the server was killed is trained again: a SuperLink deletes all messages of a run that
    has ended, and what `persist_state` saved in that round belongs to no later attempt. `Resumable` goes on
    after the last round, and has to be outermost.

    Examples
    --------
    ::

        strategy = Streaming(FedAdam(eta=0.01), "/data/scratch")
        strategy = Resumable(strategy, "/data/checkpoints", deterministic=True)
        result = strategy.start(grid, initial_arrays, num_rounds=100)
    """
    base: Any = type(strategy)
    kind = _streaming_class(base)
    if SUMS in vars(strategy):  # both would have one state, and one folder
        raise TypeError("the strategy was given to Streaming before: make another strategy for this run")
    made: S = object.__new__(kind)
    made.__dict__ = strategy.__dict__  # both objects have one state
    setattr(made, SUMS, ReplySums(scratch, storage_options))
    return made


@cache
def _streaming_class(base: Any) -> Any:
    names = flower()
    if issubclass(base, names.LegacyStrategy):
        raise TypeError(
            "a strategy of flwr.server.strategy, where a thread for each client holds its reply: "
            "take one of flwr.serverapp.strategy"
        )
    if names.FedAvg is None:
        raise ImportError("flwr 1.21 or newer is needed: pip install -U flwr")
    if hasattr(base, STREAMED):
        raise TypeError("the strategy is given to Streaming already")
    if hasattr(base, OURS + "_base"):
        raise TypeError("the strategy is resumable already: Resumable(Streaming(strategy, scratch), url)")
    if not issubclass(base, names.FedAvg):
        raise TypeError(f"a strategy that derives from flwr.serverapp.strategy.FedAvg, not {base.__name__}")
    for kind in base.__mro__[: base.__mro__.index(names.FedAvg)]:
        code = getattr(vars(kind).get("aggregate_train"), "__code__", None)
        if code is not None and "__class__" not in code.co_freevars:  # super() has this cell
            raise TypeError(
                f"{kind.__name__} does not leave the mean to FedAvg: it needs all replies at once"
            )
    mean = _mean_class()
    bases = (_Streamed, mean) if base is names.FedAvg else (_Streamed, base, mean)
    own = {STREAMED: base, "__module__": __name__, "start": _streamed_start(base)}
    return type(base)(f"Streaming[{base.__name__}]", bases, own)


@cache
def _mean_class() -> Any:
    """Return a subclass of FedAvg that comes between FedAvg and all that derive from it."""
    return type("StreamedMean", (_StreamedMean, flower().FedAvg), {"__module__": __name__})


def _streamed_start(base: Any) -> Any:
    """Return a strategy's ``start``, of the same signature, with a grid that pulls replies one by one."""

    @wraps(base.start)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = base.start.__get__(self)
        given = StartArguments(inner, args, kwargs)
        sums = _sums_of(self)
        given.replace("grid", PullingGrid(given["grid"], sums))
        with sums.running(strategy_class(self)):
            return inner(*given.args, **given.kwargs)

    return start


class _Streamed:
    """First base of our subclass of a strategy's class."""

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Any:
        """Configure a round."""
        inner: Any = super()
        messages = list(inner.configure_train(server_round, arrays, config, grid))
        strategy: Any = self
        _sums_of(self).expect(messages, strategy.weighted_by_key)
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Any]) -> Any:
        """Aggregate a round."""
        inner: Any = super()
        made = inner.aggregate_train(server_round, replies)
        _sums_of(self).require_used(strategy_class(self))
        return made


class _StreamedMean:
    """First base of our subclass of FedAvg, which has the mean already."""

    def aggregate_train(self, server_round: int, replies: Iterable[Any]) -> Any:
        """Return the mean of the replies and their metrics."""
        inner: Any = super()
        return _sums_of(self).mean(list(replies), lambda found: inner.aggregate_train(server_round, found))


def _sums_of(strategy: Any) -> ReplySums:
    found: ReplySums = vars(strategy)[SUMS]
    return found
