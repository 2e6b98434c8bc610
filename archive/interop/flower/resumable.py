"""Resumable: a Flower strategy that saves every round and resumes after the newest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from archive.interop.flower.legacy import resumable_legacy
from archive.interop.flower.messagebased import resumable_messages
from archive.interop.flower.releases import flower
from archive.interop.flower.resumption import Resumption
from archive.interop.flower.runstore import Rounds
from archive.interop.flower.strategystate import OURS
from archive.storage.url import URL

__all__ = ["Resumable"]

S = TypeVar("S")


def Resumable(  # noqa: N802 its users spell it as the strategy, which it is
    strategy: S,
    url: URL,
    *,
    experiment: str = "default",
    every: int = 1,
    keep_last: int | None = 3,
    storage_options: Mapping[str, Any] | None = None,
) -> S:
    """Make a strategy save every round, and resume after a crash.

    ``Resumable(FedAdam(...), url)`` is a FedAdam: an instance of a subclass that shares all attributes
    with the given strategy. Run the same script again after a crash, and ``start`` (in the old API, the
    server) goes on after the newest round that verifies. Rounds that are done are not run again; their
    results are recalled, so that ``Result`` (``History``) has all rounds under their true numbers.

    A saved round holds the global arrays, its metrics, all attributes of the strategy (moments, momentum,
    clipping norms, wrapped strategies, accountants), the configs of its messages, and the random number
    generators of Python, numpy and torch: as named datasets and JSON, never as a pickle.

    Parameters
    ----------
    strategy : flwr.serverapp.strategy.Strategy or flwr.server.strategy.Strategy
        Any strategy of Flower's or your own, of either API.
    url : str or path-like
        Folder of the rounds, local or any URL of fsspec. It is made absolute and logged.
    experiment : str, default "default"
        Folder in ``url``: one for each run that is resumed by itself.
    every : int, default 1
        Save each round whose number is a multiple, and (except in the old API) the last round.
    keep_last : int or None, default 3
        Rounds to keep; None for all.
    storage_options : mapping, optional
        Keyword arguments of the remote file system. A pickle holds no secrets of these and of the URL.

    Raises
    ------
    TypeError
        ``strategy`` is of no strategy class of Flower.
    ValueError
        ``every`` or ``keep_last`` is below 1, or ``experiment`` is not the name of a folder.

    Notes
    -----
    Wrap the outermost strategy: ``Resumable(DifferentialPrivacy...(FedAvg()))`` saves the strategies inside
    with it. ``num_rounds`` is the total: a run of 5 rounds that was stopped in round 3 runs rounds 3 to 5
    when it is started again, and a complete run returns its arrays at once. A setting that the script
    changes between two starts (a learning rate) is taken from the script, and logged. Another class of
    strategy, or a model of other arrays, is a SchemaError.

    Examples
    --------
    ::

        strategy = Resumable(FedAdam(eta=0.01), "checkpoints")
        result = strategy.start(grid, initial_arrays, num_rounds=100)
    """
    if every < 1:
        raise ValueError(f"every must be 1 or more, not {every}")
    base: Any = type(strategy)
    kind = _resumable_class(base)
    rounds = Rounds(url, experiment, keep_last=keep_last, storage_options=storage_options)
    made: S = object.__new__(kind)
    made.__dict__ = strategy.__dict__  # both objects have one state
    setattr(made, OURS, Resumption(rounds, every))
    return made


@cache
def _resumable_class(base: Any) -> Any:
    names = flower()
    if hasattr(base, OURS + "_base"):
        raise TypeError("the strategy is resumable already")
    if names.Strategy is not None and issubclass(base, names.Strategy):
        return resumable_messages(base)
    if issubclass(base, names.LegacyStrategy):
        return resumable_legacy(base)
    raise TypeError(f"a strategy of flwr.serverapp.strategy or flwr.server.strategy, not {base.__name__}")
