"""Resumable: a Flower strategy that saves every round and goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from archive.interop.flower.legacy import resumable_legacy
from archive.interop.flower.messagebased import resumable_messages
from archive.interop.flower.releases import flower
from archive.interop.flower.resumption import Resumption
from archive.interop.flower.runstore import Rounds
from archive.interop.flower.strategystate import OURS
from archive.storage.url import URL

__all__ = ["Resumable"]


class Resumable:
    """Make a strategy save every round, and start where it was stopped.

    ``Resumable(FedAdam(...), url)`` is a FedAdam: an instance of a subclass that shares all attributes
    with the strategy it was given. Run the same script again after a crash, and ``start`` (of the old
    API, the server) goes on after the newest round that verifies. Rounds that are done are not run; their
    results are recalled, so that ``Result`` (``History``) has all rounds under their true numbers.

    What is saved with a round: the global arrays, its metrics, everything the strategy remembers (moments,
    momentum, clipping norms, wrapped strategies, accountants), the configs of its messages, and the
    random number generators of Python, numpy and torch. As named datasets and JSON; never a pickle.

    Parameters
    ----------
    strategy : flwr.serverapp.strategy.Strategy or flwr.server.strategy.Strategy
        Any strategy of Flower's or yours, of either API.
    url : str or path-like
        Folder of the rounds, local or any URL of fsspec. Made absolute and logged.
    experiment : str, default "default"
        Folder in it: one for each run that is to be resumed by itself.
    every : int, default 1
        Save each round whose number this divides (and, but for the old API, the last).
    keep_last : int or None, default 3
        Rounds to keep; None for all.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Raises
    ------
    TypeError
        ``strategy`` is none of Flower's.
    ValueError
        ``every`` or ``keep_last`` is below 1, or ``experiment`` is no name of a folder.

    Notes
    -----
    Wrap the outermost strategy: ``Resumable(DifferentialPrivacy...(FedAvg()))``, whose wrapped strategies
    are saved with it. ``num_rounds`` is the total: 5 rounds stopped in round 3 run rounds 3 to 5 when they
    are started again, and a run that is complete returns its arrays at once. A setting that the script
    changes between two starts (a learning rate) is taken from the script, and logged. Another class of
    strategy, or a model of other arrays, is a SchemaError.

    Examples
    --------
    ::

        strategy = Resumable(FedAdam(eta=0.01), "checkpoints")
        result = strategy.start(grid, initial_arrays, num_rounds=100)
    """

    def __new__(
        cls,
        strategy: Any,
        url: URL,
        *,
        experiment: str = "default",
        every: int = 1,
        keep_last: int | None = 3,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the wrapped strategy."""
        if every < 1:
            raise ValueError(f"every must be 1 or more, not {every}")
        base: Any = type(strategy)
        kind = _resumable_class(base)
        rounds = Rounds(url, experiment, keep_last=keep_last, storage_options=storage_options)
        made = object.__new__(kind)
        made.__dict__ = strategy.__dict__  # one state, whichever of the two is asked
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
