"""One resumable run: the rounds that are done, their results, and when a round is saved."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from archive.checkpoints.lineage import Line, new_token
from archive.interop.flower.clientselection import Selection
from archive.interop.flower.orders import MAX_KEPT, Order, Report
from archive.interop.flower.participants import Participants
from archive.interop.flower.randomness import random_state, restore_random_state
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.results import Results
from archive.interop.flower.roundstate import Snapshot, describe, require_schema
from archive.interop.flower.runstore import Rounds
from archive.interop.flower.settings import Settings, require_app, require_strategy, require_wanted
from archive.interop.flower.strategycapture import capture
from archive.interop.flower.strategystate import OURS, is_plain, restore, strategy_class
from archive.interop.flower.strategytrees import Bulk, Captured, bulk, differences, unchanged
from archive.interop.statearrays import JSON, Arrays, NotStateError
from archive.interop.statevalues import decode, encode
from archive.records import ArrayRecord

__all__ = ["Resumption", "resumption_of"]

_log = logging.getLogger(LOGGER)


class Resumption:
    """Bookkeeping of a wrapped strategy, of either of Flower's two APIs.

    Parameters
    ----------
    rounds : Rounds
        The store of the rounds.
    settings : Settings
    """

    def __init__(self, rounds: Rounds, settings: Settings) -> None:
        self.rounds = rounds
        self.settings = settings
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
        self.evaluates: bool = False
        """Whether the server evaluates at the end of a round."""
        self.restored: Any = None
        """The global arrays of the loaded round, as Flower's object."""
        self.participants: Participants = Participants()
        """The nodes of this attempt."""
        self._line = Line(new_token())
        self._identity: dict[str, str] = {}
        self._kept: tuple[int, ...] | None = ()
        self._saved: Snapshot | None = None
        self._started: JSON = None
        self._schema: JSON = None
        self.results: Results = Results(self.rounds.shown)
        """Metrics of all rounds."""
        self._given: dict[str, JSON] = {}
        self._configs: dict[str, Any] = {}
        self._model: Any = None
        self.selection: Selection = Selection(self.settings.seed, self._warn)
        """Which clients a deterministic run selects."""
        self._written = 0
        self._bulk: dict[str, Bulk] = {}
        self._compared = 0

    @property
    def resumed(self) -> bool:
        """Whether a saved round was loaded."""
        return self._saved is not None

    @property
    def complete(self) -> bool:
        """Whether all rounds were done before this start."""
        return self.resumed and self.done == self.total

    # Starting

    def load(
        self, strategy: Any, total: int | None, identity: dict[str, str]
    ) -> Mapping[str, ArrayRecord] | None:
        """Become the writer of the run and find its newest round that verifies.

        Parameters
        ----------
        strategy : object
            As the script makes it.
        total : int or None
            Number of rounds that the script asks for, if known.
        identity : dict of str to str
            Of the app: ``name``, ``publisher`` and ``federation``, as far as Flower gives them.

        Returns
        -------
        mapping of str to ArrayRecord, or None
            The models of that round; None if no round was saved.

        Raises
        ------
        LockedError
            Another server runs this run.
        SchemaError
            The round was saved with another class of strategy, or by another app.
        ExistsError, MissingError
            There are rounds, and ``resume`` is "never"; or none, and ``resume`` is "must".
        ValueRangeError
            More rounds are done than the script asks for.
        DamagedError
            Rounds were saved and none verifies.
        """
        self._reset()
        self.total = total
        self.rounds.claim(strategy_class(strategy))
        self._started = capture(strategy, self.settings.exclude).tree
        if self._fresh is None:
            self._fresh = self._started  # as the script made the strategy, before any start of it
        found, damaged = self.rounds.newest()
        require_wanted(found, self.settings, total, self.rounds.shown)
        self._saved = found
        self.identify(identity)
        if found is not None:
            require_strategy(found, strategy, self.rounds.shown)
        self.rounds.discard(damaged)
        self.running = True
        self._kept = self.rounds.kept()
        if found is None:
            _log.info("fedarchive: no round saved yet, starting anew; rounds go to %s", self.rounds.shown)
            return None
        self._line = found.line.follow(found.round)
        self.participants = Participants(found.nodes)
        self.done = self.current = self._written = found.round
        self.results = Results(self.rounds.shown, found.history, found.arrays)
        if self.complete:
            _log.info(
                "fedarchive: complete, nothing to do: all %d rounds are done in %s", total, self.rounds.shown
            )
        else:
            _log.info("fedarchive: resuming after round %d of %s", found.round, self.rounds.shown)
        if found.round:
            _log.info("fedarchive: rounds 1 to %d are recalled below, and not run again", found.round)
        return found.models

    def identify(self, identity: Mapping[str, str]) -> None:
        """Set what Flower says of the app, which may be more than before.

        Raises
        ------
        SchemaError
            Another app saved the run.
        """
        saved = self._identity or (self._saved.identity if self._saved is not None else {})
        require_app(saved, identity, self.rounds.shown)
        self._identity = {**identity, **{key: now for key, now in [*saved.items(), *identity.items()] if now}}

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
        if self.complete:
            for difference in differences(saved.started, self._fresh):
                self._tell_change(*difference)
        exclude = self.settings.exclude
        for change in restore(strategy, saved.state, saved.started, saved.arrays, self._fresh, exclude):
            if not self.complete:
                _log.warning("fedarchive: %s", change)
        self._started, self._schema = saved.started, saved.schema

    def compare_config(self, kind: str, config: Any) -> None:
        """Warn of values of a config of a complete run that are not what the script gave before."""
        saved = ((self._saved.configs if self._saved is not None else None) or {}).get(kind)
        now = _plain_items(config)
        given = saved["given"] if saved is not None else now
        for key in {**given, **now}:
            self._compare(kind, key, given, now)

    def _compare(self, kind: str, key: str, given: dict[str, JSON], now: dict[str, JSON]) -> bool:
        """Return whether the script changed a value of a config, and warn if it did."""
        if now.get(key) == given.get(key):
            return False
        self._tell_change(f"{kind}_config[{key!r}]", given.get(key), now.get(key))
        return True

    def _tell_change(self, name: str, was: Any, now: Any) -> None:
        """Warn of a setting that the script changed."""
        effect = "from here on"
        if self.complete:
            effect = "here, which changes nothing in a complete run: give another experiment to run with it"
        _log.warning("fedarchive: %s was %r and is %r %s", name, was, now, effect)

    # Messages

    def orders(self, number: int) -> Callable[[str], str]:
        """Return a function from a node id to what a message of a round tells that client."""
        kept, saved = self._kept, self._saved
        order = Order(
            self.rounds.experiment,
            self._line,
            number,
            kept if kept is not None and len(kept) <= MAX_KEPT else None,
            digest=saved.digest if saved is not None else "",
        )
        return self.participants.texts(order)

    def question(self, number: int) -> str:
        """Return what a message tells a client that it only asks for the name of its node."""
        return Order(self.rounds.experiment, self._line, number, ask=True).to_text()

    def hear(self, number: int, found: Iterable[tuple[str, Report | None]]) -> None:
        """Note what the replies of a round report, by node id."""
        self.participants.hear(found, number)

    @property
    def deterministic(self) -> bool:
        """Whether clients are selected, and replies aggregated, in an order that every run has."""
        return self.settings.seed is not None

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
            if self._compare(kind, key, given, now):
                continue  # the script changed this value since the last start
            if key in last:
                config[key] = decode(last[key], {}, key=f"configs/{kind}/{key}", path=self.rounds.shown)
            else:
                config.pop(key, None)

    def keep(self, kind: str, round: int, value: Any) -> None:  # noqa: A002 Flower's word
        """Keep a result of a round."""
        try:
            self.results.keep(kind, round, value)
        except NotStateError as error:
            self._warn(f"{kind} results of round {round} are not saved: {error}")

    def model(self, arrays: Any) -> None:
        """Set the global arrays."""
        self._model = arrays

    # Saving

    def end(
        self,
        strategy: Any,
        round: int,  # noqa: A002 Flower's word
        to_models: Callable[[Any], Mapping[str, ArrayRecord]],
    ) -> None:
        """Save a round that is over, if it is to be saved and is not saved yet."""
        if round <= max(self._written, self.done) or self._model is None:
            return
        if round % self.settings.every and round != self.total:
            return
        captured = capture(strategy, self.settings.exclude, self._fresh)
        self._tell_left_out(captured)
        arrays = captured.arrays | self.results.arrays
        random_arrays = Arrays()
        configs = {
            kind: {"given": self._given[kind], "last": _plain_items(config)}
            for kind, config in self._configs.items()
        }
        snapshot = Snapshot(
            round=round,
            strategy=strategy_class(strategy),
            models=to_models(self._model),
            arrays=arrays,
            random_arrays=random_arrays,
            state=captured.tree,
            started=self._started,
            schema=self._schema,
            configs=configs,
            random=random_state(random_arrays),
            history=self.results.trees,
            token=self._line.token,
            ancestors=self._line.ancestors,
            nodes=sorted(self.participants.stateful),
            identity=self._identity,
        )
        metrics = self.results.metrics(round)
        if self.participants.without:
            metrics["clients"] = {"without-state": self.participants.without}
            self.participants.without = 0
        self.rounds.save(snapshot, metrics)
        self._written = round
        self._kept = self.rounds.kept()

    def _tell_left_out(self, captured: Captured) -> None:
        """Warn once of what of the strategy is not saved, and of what is saved and never changes."""
        for name in captured.left_out:
            self._warn(f"{name} of the strategy cannot be saved, and a resumed run starts without it")
        for name in captured.data:
            self._warn(
                f"{name} of the strategy is a data set or a loader: the script loads it anew, no round has "
                f"it; exclude=({name!r},) ends this warning"
            )
        if self._compared < 2:  # digests of two rounds tell
            now = bulk(captured)
            for name, nbytes in unchanged(self._bulk, now):
                self._warn(
                    f"{name} of the strategy has {nbytes / 1e6:.0f} MB that did not change, and is saved "
                    f"with every round; exclude=({name!r},) leaves it to the script"
                )
            self._bulk, self._compared = now, self._compared + 1

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
