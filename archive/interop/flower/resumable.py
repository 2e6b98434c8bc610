"""Resumable: a Flower strategy that saves every round and resumes after the newest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from archive.checkpoints.finitefiles import Check
from archive.checkpoints.retention import BestBy
from archive.interop.flower.legacy import resumable_legacy
from archive.interop.flower.messagebased import resumable_messages
from archive.interop.flower.parameternames import Names, parameter_names
from archive.interop.flower.releases import flower
from archive.interop.flower.resumption import Resumption
from archive.interop.flower.runstore import Rounds
from archive.interop.flower.settings import Settings
from archive.interop.flower.strategystate import OURS, require_attributes
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
    best_by: BestBy | None = None,
    check: Check = "warn",
    names: Names = None,
    packer: Any = None,
    exclude: Iterable[str] = (),
    resume: Literal["auto", "never", "must"] = "auto",
    deterministic: bool | int = False,
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
        Folder in ``url``: one for each run that is resumed by itself. Clients need not name it.
    every : int, default 1
        Save each round whose number is a multiple, and the last round.
    keep_last : int or None, default 3
        Rounds to keep; None for all.
    best_by : str or (str, "min" or "max"), optional
        As for `CheckpointStore`: the round with the best value of this metric is kept as well.
    check : {"warn", "error", "off"}, default "warn"
        As for `CheckpointStore`: what NaN and infinities in the arrays of a round do. ``"error"`` ends the
        run before that round is saved.
    names : list of str, state dict or ArrayRecord, optional
        For the old API, whose arrays have no names: names of the weights, in order; else they are 0, 1, 2.
    packer : a packer of `archive.packers`, optional
        For the old API: by which the strategy packs more than weights into its arrays, as FL4Health's do.
        Each part becomes a record of the round.
    exclude : iterable of str, optional
        Attributes of the strategy that are not saved, such as a test set; those of an object that the
        strategy holds are named ``object/attribute``. A resumed run has them as the script makes them.
    resume : {"auto", "never", "must"}, default "auto"
        ``"never"``: an error where rounds are there. ``"must"``: an error where none are.
    deterministic : bool or int, default False
        Whether every uninterrupted run ends with the same bits, provided that its clients do: replies are
        aggregated in the order of the names of their nodes, and clients are selected by a generator with this
        seed (True is seed 0), by the round alone. Clients need `persist_state`, which tells the names.
        Without it Flower sums replies in the order in which they arrive, and selects among node ids that are
        new in each run. Noise for privacy is never seeded.
    storage_options : mapping, optional
        Keyword arguments of the remote file system. A pickle holds no secrets of these and of the URL.

    Raises
    ------
    TypeError
        ``strategy`` is of no strategy class of Flower, or was given to `Resumable` before.
    ValueRangeError
        ``exclude`` names an attribute that the strategy lacks.
    ValueError
        ``every`` or ``keep_last`` is below 1, ``experiment`` is not the name of a folder, ``resume`` is not
        one of the three, or ``url`` is a relative path in an app that Flower started.

    Notes
    -----
    Wrap the outermost strategy: ``Resumable(DifferentialPrivacy...(FedAvg()))`` saves the strategies inside
    with it. ``num_rounds`` is the total: a run of 5 rounds that was stopped in round 3 runs rounds 3 to 5
    when it is started again, and a complete run returns its arrays at once. A setting that the script changes
    between two starts (a learning rate) is taken from the script, and a warning says so. Another class of
    strategy, a model of other arrays, or an app of another name is a SchemaError. Fewer rounds than are done
    are an error: `CheckpointStore.rewind` goes back.

    One process at a time writes a run: where another one does, the start is a LockedError. In an object
    store, where nothing can be locked, a round is created only if nobody else has created it, and the server
    that comes second gets ExistsError.

    A ``start`` of your own may have parameters of its own or take ``*args, **kwargs``. Call that
    method with the grid, ``initial_arrays`` and ``num_rounds``: the saved run depends on them, and without
    one of them the method raises TypeError.

    Every message tells the clients which attempt of the run sends it and what that attempt goes on from, so
    that `persist_state` hands out no state of an attempt that was killed later.

    Examples
    --------
    ::

        strategy = Resumable(FedAdam(eta=0.01), "/data/checkpoints")
        result = strategy.start(grid, initial_arrays, num_rounds=100)
    """
    if every < 1:
        raise ValueError(f"every must be 1 or more, not {every}")
    if resume not in ("auto", "never", "must"):
        raise ValueError(f'resume must be "auto", "never" or "must", not {resume!r}')
    base: Any = type(strategy)
    kind = _resumable_class(base)
    if OURS in vars(strategy):  # both would have one state, and save into one run
        raise TypeError("the strategy was made resumable before: make another strategy for this run")
    rounds = Rounds(
        url, experiment, keep_last=keep_last, best_by=best_by, check=check, storage_options=storage_options
    )
    if not (names is None and packer is None) and not issubclass(base, flower().LegacyStrategy):
        raise TypeError("names and packer are for strategies of flwr.server.strategy: yours has names")
    excluded = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    require_attributes(strategy, excluded)
    seed = None if deterministic is False else 0 if deterministic is True else deterministic
    made: S = object.__new__(kind)
    made.__dict__ = strategy.__dict__  # both objects have one state
    setattr(
        made,
        OURS,
        Resumption(rounds, Settings(every, resume, seed, excluded, parameter_names(names), packer)),
    )
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
