"""One resumable run: the rounds that are done, their results, and when a round is saved."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from archive.interop.flower.randomness import random_state, restore_random_state
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.roundstate import Snapshot, describe, require_schema
from archive.interop.flower.runstore import Rounds
from archive.interop.flower.strategystate import OURS, SchemaError, capture, is_plain, restore, strategy_class
from archive.interop.statearrays import JSON, Arrays, NotStateError, copy_of
from archive.interop.statevalues import decode, encode
from archive.records import Array, ArrayRecord

__all__ = ["MISSING", "Resumption", "resumption_of"]

_log = logging.getLogger(LOGGER)

MISSING = object()
"""Returned by `Resumption.recall` where no result was kept."""


class Resumption:
    """Bookkeeping of a wrapped strategy, of either of Flower's two APIs.

    Parameters
    ----------
    rounds : Rounds
        The store of the rounds.
    every : int
        Save each round whose number is a multiple, and the last round.
    """

    def __init__(self, rounds: Rounds, every: int) -> None:
        self.rounds = rounds
        self.every = every
        self._warned: set[str] = set()
        self._fresh: JSON = None
        self._fresh_configs: dict[str, tuple[Any, dict[str, JSON]]] = {}
        self._reset()

    def _reset(self) -> None:
        """Forget a run: a strategy may be started again."""
        self.running: bool = False
        """Whether `load` was called."""
        self.done: int = 0
        """The newest saved round; rounds up to it are recalled and not run."""
        self.current: int = 0
        """The round that runs now."""
        self.total: int | None = None
        """Number of rounds of the run, if known."""
        self.evaluates = False
        """Whether the server evaluates at the end of a round."""
        self.restored: Any = None
        """The global arrays of the loaded round, as Flower's object."""
        self._saved: Snapshot | None = None
        self._started: JSON = None
        self._schema: JSON = None
        self._history: dict[str, dict[str, JSON]] = {}
        self._history_arrays: dict[str, Array] = {}
        self._given: dict[str, JSON] = {}
        self._configs: dict[str, Any] = {}
        self._model: Any = None
        self._written = 0

    @property
    def resumed(self) -> bool:
        """Whether a saved round was loaded."""
        return self._saved is not None

    # Starting

    def load(self, strategy: Any) -> ArrayRecord | None:
        """Find the newest round that verifies; return its model, or None if no round was saved.

        Raises
        ------
        SchemaError
            The round was saved with another class of strategy.
        DamagedError
            Rounds were saved and none verifies.
        """
        self._reset()
        self._started = capture(strategy).tree
        if self._fresh is None:
            self._fresh = self._started  # as the script made the strategy, before any start of it
        found = self.rounds.newest()
        self.running = True
        if found is None:
            _log.info("fedarchive: no round saved yet, starting anew; rounds go to %s", self.rounds.shown)
            return None
        if found.strategy != strategy_class(strategy):
            raise SchemaError(
                f"saved with {found.strategy}, not with {strategy_class(strategy)}",
                path=self.rounds.shown,
                remedy="resume with the saved strategy, or give another url or experiment",
            )
        self._saved = found
        self.done = self.current = self._written = found.round
        self._history = found.history
        self._history_arrays = {k: v for k, v in found.arrays.items() if k.startswith("history/")}
        _log.info("fedarchive: resuming after round %d of %s", found.round, self.rounds.shown)
        return found.model

    def given(self, initial: ArrayRecord) -> None:
        """Set the arrays that the script starts with."""
        self._schema = describe(initial)

    def restore(self, strategy: Any) -> None:
        """Bring a strategy to the state of the loaded round.

        Raises
        ------
        SchemaError
            The script starts with arrays of another model than the run did, or an object in the strategy
            is of another class.
        """
        saved = self._saved
        if saved is None:
            return
        require_schema(saved.schema, self._schema)
        for change in restore(strategy, saved.state, saved.started, saved.arrays, self._fresh):
            _log.warning("fedarchive: %s", change)
        self._started, self._schema = saved.started, saved.schema

    # Rounds

    def begin(self, round: int) -> None:  # noqa: A002 Flower's word
        """Begin a round that really runs; the first one restores the random numbers."""
        if self._saved is not None and self.current == self.done:
            restore_random_state(self._saved.random, self._saved.random_arrays)
        self.current = round

    def send(self, kind: str, arrays: Any, config: Any) -> None:
        """Set the arrays and the config of messages; the first time, restore the config's saved changes."""
        self.model(arrays)
        if kind in self._configs and self._configs[kind] is config:
            return
        self._configs[kind] = config
        known, now = self._fresh_configs.get(kind, (None, {}))
        if known is not config:  # after a second start of the same strategy, the run has changed this config
            now = _plain_items(config)
        self._fresh_configs[kind], self._given[kind] = (config, now), now
        before = (self._saved.configs or {}).get(kind) if self._saved is not None else None
        if before is None:
            return
        given, last = before["given"], before["last"]
        for key in {**given, **last, **now}:
            if now.get(key) != given.get(key):
                continue  # the script changed this value since the last start
            if key in last:
                config[key] = decode(last[key], {}, key=f"configs/{kind}/{key}", path=self.rounds.shown)
            else:
                config.pop(key, None)

    def model(self, arrays: Any) -> None:
        """Set the global arrays."""
        self._model = arrays

    def keep(self, kind: str, round: int, value: Any) -> None:  # noqa: A002 Flower's word
        """Keep a result of a round."""
        arrays = Arrays()
        try:
            tree = encode(value, ("history", kind, str(round)), arrays)
        except NotStateError as error:
            self._warn(f"{kind} results of round {round} are not saved: {error}")
            return
        self._history.setdefault(kind, {})[str(round)] = tree
        self._history_arrays |= {name: copy_of(array) for name, array in arrays.items()}

    def recall(self, kind: str, round: int) -> Any:  # noqa: A002 Flower's word
        """Return a result of a round, or `MISSING`."""
        tree = self._history.get(kind, {}).get(str(round), MISSING)
        if tree is MISSING:
            return tree
        return decode(tree, self._history_arrays, key=f"history/{kind}/{round}", path=self.rounds.shown)

    # Saving

    def end(self, strategy: Any, round: int, to_model: Any) -> None:  # noqa: A002 Flower's word
        """Save a round that is over, if it is to be saved and is not saved yet."""
        if round <= max(self._written, self.done) or self._model is None:
            return
        if round % self.every and round != self.total:
            return
        captured = capture(strategy)
        for name in captured.left_out:
            self._warn(f"{name} of the strategy cannot be saved, and a resumed run starts without it")
        arrays = captured.arrays | self._history_arrays
        random_arrays = Arrays()
        configs = {
            kind: {"given": self._given[kind], "last": _plain_items(config)}
            for kind, config in self._configs.items()
        }
        snapshot = Snapshot(
            round=round,
            strategy=strategy_class(strategy),
            model=to_model(self._model),
            arrays=arrays,
            random_arrays=random_arrays,
            state=captured.tree,
            started=self._started,
            schema=self._schema,
            configs=configs,
            random=random_state(random_arrays),
            history=self._history,
        )
        self.rounds.save(snapshot, self._metrics(round))
        self._written = round

    def _metrics(self, round: int) -> dict[str, dict[str, Any]]:  # noqa: A002 Flower's word
        """Return the numeric results of a round as metric records by kind."""
        records: dict[str, dict[str, Any]] = {}
        for kind in self._history:
            found = self.recall(kind, round)
            parts = found if isinstance(found, tuple) else (found,)
            values: dict[str, Any] = {}
            for part in parts:
                values |= _numbers(part if hasattr(part, "items") else {"loss": part})
            if values:
                records[kind] = values
        return records

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("fedarchive: %s", text)


def resumption_of(strategy: Any) -> Resumption:
    """Return the bookkeeping of a wrapped strategy."""
    found: Resumption = vars(strategy)[OURS]
    return found


def _plain_items(config: Any) -> dict[str, JSON]:
    """Return the values of a config that JSON holds; long bytes are left to the script."""
    trees = {key: encode(value, (), Arrays()) for key, value in config.items()}
    return {key: tree for key, tree in trees.items() if is_plain(tree)}


def _numbers(found: Any) -> dict[str, Any]:
    """Return the numbers, and lists of numbers, among results as values of a metric record."""
    numbers = {key: _number(value) for key, value in found.items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _number(value: Any) -> Any:
    """Return numbers of Python or numpy, or a list of them, as Python's; None for any other value.

    Examples
    --------
    >>> _number(np.float32(0.5)), _number([np.int64(2), 0.5]), _number("0.5"), _number([[1]])
    (0.5, [2.0, 0.5], None, None)
    """
    if isinstance(value, list):
        items: list[Any] = [None if isinstance(item, list) else _number(item) for item in value]
        if None in items:
            return None
        return items if len(set(map(type, items))) < 2 else list(map(float, items))
    if isinstance(value, (np.integer, np.floating)):
        value = value.item()
    return value if type(value) in (int, float) else None
