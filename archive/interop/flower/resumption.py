"""One resumable run: what it has done, what it recalls of it, and when a round is saved."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from archive.interop.flower.randomness import random_state, restore_random_state
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.roundstate import Snapshot, describe, require_schema
from archive.interop.flower.runstore import Rounds
from archive.interop.flower.strategystate import SchemaError, capture, class_name, is_plain, restore
from archive.interop.statearrays import JSON, Arrays, NotStateError, copy_of
from archive.interop.statevalues import decode, encode
from archive.records import ArrayRecord

__all__ = ["MISSING", "Resumption"]

_log = logging.getLogger(LOGGER)

MISSING = object()
"""What `Resumption.recall` returns where nothing was noted."""


class Resumption:
    """Bookkeeping of a wrapped strategy, whichever of Flower's two APIs it is of.

    Parameters
    ----------
    rounds : Rounds
        Where rounds are saved.
    every : int
        Save each round whose number this divides, and the last.
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
        self.running = False
        """Whether it was looked for saved rounds."""
        self.done = 0
        """Rounds that were saved before this process; they are recalled and not run."""
        self.current = 0
        """The round that was begun last."""
        self.total: int | None = None
        """Rounds in all, where that is known."""
        self.evaluates = False
        """Whether the server evaluates at the end of a round."""
        self.restored: Any = None
        """The global arrays of the round that was loaded, as Flower has them."""
        self._saved: Snapshot | None = None
        self._started: JSON = None
        self._schema: JSON = None
        self._history: dict[str, dict[str, JSON]] = {}
        self._history_arrays: Arrays = {}
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
        """Find the newest round that verifies; return its model, or None where nothing was saved.

        Raises
        ------
        SchemaError
            It was saved with another class of strategy.
        DamagedError
            Rounds were saved and none verifies.
        """
        self._reset()
        self._started = capture(strategy).tree
        if self._fresh is None:
            self._fresh = self._started  # as the script made it, also when it is started again
        found = self.rounds.newest()
        self.running = True
        if found is None:
            _log.info("fedarchive: no round saved yet, starting anew; rounds go to %s", self.rounds.shown)
            return None
        if found.strategy != class_name(strategy):
            raise SchemaError(
                f"{self.rounds.shown} was saved with {found.strategy}, not with {class_name(strategy)}",
                remedy="resume with the strategy it was saved with, or give another url or experiment",
            )
        self._saved = found
        self.done = self.current = self._written = found.round
        self._history = found.history
        self._history_arrays = {k: v for k, v in found.arrays.items() if k.startswith("history/")}
        _log.info("fedarchive: resuming after round %d of %s", found.round, self.rounds.shown)
        return found.model

    def given(self, initial: ArrayRecord) -> None:
        """Note the arrays that the script starts with."""
        self._schema = describe(initial)

    def restore(self, strategy: Any) -> None:
        """Bring a strategy to the state of the round that was loaded.

        Raises
        ------
        SchemaError
            The script starts with arrays of another model than the run did; or an object in the strategy
            is of another class.
        """
        saved = self._saved
        if saved is None:
            return
        require_schema(saved.schema, self._schema)
        for note in restore(strategy, saved.state, saved.started, saved.arrays, self._fresh):
            _log.warning("fedarchive: %s", note)
        self._started, self._schema = saved.started, saved.schema

    # Rounds

    def begin(self, round: int) -> None:  # noqa: A002 Flower's word
        """Say that a round begins that is really run; the first restores the random numbers."""
        if self._saved is not None and self.current == self.done:
            restore_random_state(self._saved.random, self._saved.random_arrays)
        self.current = round

    def send(self, kind: str, arrays: Any, config: Any) -> None:
        """Note what messages are made of; the first time, bring their config to where it was."""
        self.model(arrays)
        if kind in self._configs and self._configs[kind] is config:
            return
        self._configs[kind] = config
        known, now = self._fresh_configs.get(kind, (None, {}))
        if known is not config:  # else it is started again, and a run has changed it
            now = _plain_items(config)
        self._fresh_configs[kind], self._given[kind] = (config, now), now
        before = (self._saved.configs or {}).get(kind) if self._saved is not None else None
        if before is None:
            return
        given, last = before["given"], before["last"]
        for key in {**given, **last, **now}:
            if now.get(key) != given.get(key):
                continue  # the script changed it: it stays as the script says
            if key in last:
                config[key] = decode(last[key], {}, key=f"configs/{kind}/{key}", path=self.rounds.shown)
            else:
                config.pop(key, None)

    def model(self, arrays: Any) -> None:
        """Note the global arrays as they are now."""
        self._model = arrays

    def note(self, kind: str, round: int, value: Any) -> None:  # noqa: A002 Flower's word
        """Keep a result of a round."""
        arrays: Arrays = {}
        try:
            tree = encode(value, f"history/{kind}/{round}", arrays)
        except NotStateError as error:
            self._warn(f"{kind} results of round {round} are not saved: {error}")
            return
        self._history.setdefault(kind, {})[str(round)] = tree
        self._history_arrays |= {name: copy_of(array) for name, array in arrays.items()}

    def recall(self, kind: str, round: int) -> Any:  # noqa: A002 Flower's word
        """Return a result of a round, `MISSING` where there was none."""
        tree = self._history.get(kind, {}).get(str(round), MISSING)
        if tree is MISSING:
            return tree
        return decode(tree, self._history_arrays, key=f"history/{kind}/{round}", path=self.rounds.shown)

    # Saving

    def end(self, strategy: Any, round: int, to_model: Any) -> None:  # noqa: A002 Flower's word
        """Save a round that is over, unless it is none of those to be saved or saved already."""
        if round <= max(self._written, self.done) or self._model is None:
            return
        if round % self.every and round != self.total:
            return
        captured = capture(strategy)
        for name in captured.left_out:
            self._warn(f"{name} of the strategy cannot be saved and starts anew when the run is resumed")
        arrays = captured.arrays | self._history_arrays
        random_arrays: Arrays = {}
        configs = {
            kind: {
                "given": self._given[kind],
                "last": _plain_items(config),
            }
            for kind, config in self._configs.items()
        }
        snapshot = Snapshot(
            round=round,
            strategy=class_name(strategy),
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
        """Return the numbers of a round as metric records by kind."""
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


def _plain_items(config: Any) -> dict[str, JSON]:
    """Return the values of a config that JSON holds; long bytes stay what the script gives."""
    trees = {key: encode(value, "", {}) for key, value in config.items()}
    return {key: tree for key, tree in trees.items() if is_plain(tree)}


def _numbers(found: Any) -> dict[str, Any]:
    """Return the numbers among results, and lists of one type of them, as a metric record has them."""
    numbers = {key: _number(value) for key, value in found.items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _number(value: Any) -> Any:
    """Return a number of Python's or numpy's, or a list of them, as Python's; None of anything else.

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
