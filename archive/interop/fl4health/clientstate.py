"""ClientStateCheckpointer, ResumableClient: a client's state after every message, as an archive."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from archive.checkpoints.lineage import Line, Version, new_token
from archive.checkpoints.roundfile import DAMAGE, GONE
from archive.errors import MissingError
from archive.interop.fl4health.instructions import ROUND, order_of
from archive.interop.fl4health.objectstate import plain
from archive.interop.fl4health.snapshots import Snapshots, recall_random_numbers, take_random_numbers
from archive.interop.fl4health.statefiles import ClientFiles
from archive.interop.flower.appfolder import require_app_url
from archive.interop.flower.letters import KEY
from archive.interop.flower.orders import Order, Report
from archive.interop.flower.releases import LOGGER
from archive.storage.url import URL, Location

__all__ = ["ClientStateCheckpointer", "ResumableClient"]

_log = logging.getLogger(LOGGER)

_SCRIPT = (
    *("checkpoint_and_state_module", "train_loader", "val_loader", "test_loader"),
    *("train_iterator", "val_iterator", "model"),
)
_TRAIN, _EVALUATE = 1, 2
"""Phases of a round, as in the names of files."""


class ClientStateCheckpointer:
    """Saves all that a client of FL4Health goes on from, in the place of FL4Health's class of that name.

    The client must be a `ResumableClient`, since FL4Health does not say to a checkpointer which round it
    is. Saved after every training and every evaluation: the model, optimizers, schedulers, control
    variates, penalty weights, meters, metrics, reporters, all other attributes, and the random numbers of
    Python, numpy and torch. Nothing is pickled.

    Parameters
    ----------
    checkpoint_dir : str or path-like
        Folder of the run, local or any URL of fsspec. Server and clients may share it. Which experiment
        in it, the server says with its messages.
    checkpoint_name : str, optional
        Name of the client in the run; by default ``client_name`` of the client. It must be the same at
        every start.
    snapshot_attrs : mapping, optional
        Attributes that need a snapshotter of FL4Health's or yours, with it and their class. All other
        attributes are saved too, without one.
    exclude : collection of str, default ()
        Attributes of the client that are not saved.
    on_missing : {"warn", "error"}, default "warn"
        What to do where the run was resumed and the client has no state in it, or a damaged one: warn and
        go on from an earlier state or none, or raise.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Notes
    -----
    A client goes on from the newest state that belongs to the run as its server resumed it. States of a
    killed attempt after that round are never taken, and a client that still runs goes back too.

    Examples
    --------
    ::

        class MyClient(ResumableClient, ScaffoldClient): ...


        state = ClientStateCheckpointer("/data/runs")
        module = ClientCheckpointAndStateModule(state_checkpointer=state)
        client = MyClient(..., client_name="hospital-a", checkpoint_and_state_module=module)
    """

    def __init__(
        self,
        checkpoint_dir: URL,
        checkpoint_name: str | None = None,
        snapshot_attrs: Mapping[str, tuple[Any, Any]] | None = None,
        *,
        exclude: Collection[str] = (),
        on_missing: Literal["warn", "error"] = "warn",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if on_missing not in ("warn", "error"):
            raise ValueError(f'on_missing must be "warn" or "error", not {on_missing!r}')
        self._folder: Location = require_app_url(checkpoint_dir, storage_options)
        self.checkpoint_name = checkpoint_name
        self._snapshots = Snapshots(snapshot_attrs, (*exclude, *_SCRIPT))
        self._on_missing = on_missing
        self._process = new_token()
        self._at: Version | None = None
        self._begun = self._loaded = False
        self._before_set_up: tuple[dict[str, Any], Any] = ({}, None)
        self._turn: _Turn | None = None

    @property
    def snapshot_attrs(self) -> dict[str, tuple[Any, Any]]:
        """Attributes that are saved by a snapshotter."""
        return self._snapshots.snapshot_attrs

    def add_to_snapshot_attr(self, name: str, snapshotter: Any, input_type: Any) -> None:
        """Have an attribute saved by a snapshotter."""
        self.snapshot_attrs[name] = (snapshotter, input_type)

    def delete_from_snapshot_attr(self, name: str) -> None:
        """Have an attribute saved without its snapshotter again."""
        del self.snapshot_attrs[name]

    def load_checkpoint(self, experiment: str = "default") -> dict[str, Any]:
        """Return the newest saved state as plain values: ``model``, ``attributes``, ``snapshots``.

        Raises
        ------
        FileNotFoundError
            No state was saved, or the checkpointer has no name of a client.
        """
        files = ClientFiles(self._folder, experiment, self.checkpoint_name or "")
        versions = sorted(files.versions())
        if not versions:
            raise FileNotFoundError(f"no state of {self.checkpoint_name!r} was saved in {files.shown}")
        state = files.load(versions[-1])
        shown = {
            part: {name: plain(saved) for name, saved in state[part].items()}
            for part in ("attributes", "snapshots")
        }
        return {"round": versions[-1].round, "model": state["model"], **shown}

    def save_client_state(self, client: Any) -> None:
        """Save the state of a client in the round that it is in."""
        _require_resumable(client)
        self.end(client)

    def maybe_load_client_state(self, client: Any, attributes: Iterable[str] | None = None) -> bool:
        """Return whether the client goes on from a saved state, which `begin` has loaded."""
        _require_resumable(client)
        return self._at is not None

    # What a ResumableClient calls

    def before_set_up(self, client: Any) -> None:
        """Take what a client is before it is set up, to begin anew from."""
        if not self._begun:
            self._before_set_up = dict(vars(client)), take_random_numbers()

    def set_up(self, client: Any) -> None:
        """Take the attributes of a client that was set up."""
        if not self._begun:
            self._snapshots.begin(client, client.model)
            self._begun = True

    def begin(self, client: Any, config: Mapping[str, Any], phase: int) -> None:
        """Bring a client to the state from which it answers a message of this config."""
        order, rest = order_of(config)
        turn = self._turn = _Turn(self._folder, self.name_of(client), order, rest, phase)
        found = turn.line.newest(turn.files.versions(), turn.version.place)
        if self._is_current(turn, found):
            return
        problem = self._load(client, turn, found)
        if self._loaded:
            _log.info("fedarchive: client %s goes on from %s", turn.client, self._at)
            if "local_steps" in rest:
                _log.warning(
                    "fedarchive: client %s trains by steps, and begins a new pass of its data", turn.client
                )
        elif self._at is not None:
            self._start_anew(client, rest)
        if turn.line.after and not self._loaded and not problem:
            problem = f"no state in this run, which was resumed after round {turn.line.after}: it begins anew"
        if problem:
            self._complain(turn, problem)

    def _load(self, client: Any, turn: _Turn, found: list[Version]) -> str:
        """Load the newest state that can be read; return what is wrong with those that cannot."""
        problem, self._loaded = "", False
        for version in found:
            try:
                state = turn.files.load(version)
            except (*DAMAGE, *GONE) as error:
                if self._on_missing == "error":
                    raise
                problem = problem or str(error)
                continue
            self._snapshots.restore(client, client.model, state)
            self._at, self._loaded = version, True
            break
        return problem

    def end(self, client: Any) -> None:
        """Save the state in which a client has answered a message."""
        turn, at = self._turn, self._at
        if turn is None:
            raise TypeError("a state is saved while the client answers a message, not before")
        version = turn.version
        if at is not None and at.token == version.token and at.place == version.place:
            version = version._replace(turn=at.turn + 1)
        self._at = turn.files.save(version, self._process, self._snapshots.take(client, client.model))
        turn.files.prune(turn.line, turn.kept, self._at)

    def name_of(self, client: Any) -> str:
        """Return the name of a client in the run."""
        return self.checkpoint_name or str(client.client_name)

    def _is_current(self, turn: _Turn, found: list[Version]) -> bool:
        """Tell whether the client in memory is in the state from which it is to answer."""
        at = self._at
        if at is None or not turn.line.has(at) or at.place >= turn.version.place:
            return False
        return not found or found[0] <= at

    def _start_anew(self, client: Any, config: Mapping[str, Any]) -> None:
        """Bring a client back to where it was before its first message."""
        attributes, numbers = self._before_set_up
        self._at = None
        vars(client).clear()
        vars(client).update(attributes)
        recall_random_numbers(numbers)
        client.setup_client(config)
        self._snapshots.restart(client)
        _log.info("fedarchive: client %s begins anew, as the run does", client.client_name)

    def _complain(self, turn: _Turn, problem: str) -> None:
        if self._on_missing == "error":
            raise MissingError(
                f"client {turn.client}: {problem}",
                path=turn.files.shown,
                remedy="restore the file, or go on without it by on_missing='warn'",
            )
        _log.warning("fedarchive: client %s: %s", turn.client, problem)


class _Turn:
    """One message to one client."""

    def __init__(
        self, folder: Location, client: str, order: Order | None, config: Mapping[str, Any], phase: int
    ) -> None:
        experiment = "default" if order is None else order.experiment
        self.client = client
        self.line = Line("") if order is None else order.line
        self.kept = None if order is None else order.kept
        number = config.get(ROUND, 0 if order is None else order.round)
        self.version = Version(number, phase, 1, self.line.token)
        self.files = ClientFiles(folder, experiment, client)


class ResumableClient:
    """First base of a client class: brings the client to its state before a message, and saves it after.

    Works with a `ClientStateCheckpointer` of this package; without one, the client is FL4Health's.

    Notes
    -----
    Training by steps (``local_steps``) goes through the data loader across rounds. Where it stands is not
    saved: a resumed client begins a new pass, and says so.

    Examples
    --------
    ::

        class MyClient(ResumableClient, ScaffoldClient):
            def get_model(self, config): ...
    """

    def setup_client(self, config: dict[str, Any]) -> None:
        """Set up the client."""
        inner: Any = super()
        keeper = _keeper(self)
        if keeper is not None:
            keeper.before_set_up(self)
        inner.setup_client(config)
        if keeper is not None:
            keeper.set_up(self)

    def get_properties(self, config: dict[str, Any]) -> Any:
        """Return the client's properties; its name, where the server asks for that only."""
        inner: Any = super()
        order, rest = order_of(config)
        keeper = _keeper(self)
        if keeper is not None and order is not None and order.ask:
            return {KEY: Report(keeper.name_of(self)).to_text()}
        return inner.get_properties(rest)

    def fit(self, parameters: Any, config: dict[str, Any]) -> Any:
        """Train from the state that the message's round follows, and save the state after."""
        inner: Any = super()
        return self._answer(inner.fit, parameters, config, _TRAIN)

    def evaluate(self, parameters: Any, config: dict[str, Any]) -> Any:
        """Evaluate from the state that the message's round follows, and save the state after."""
        inner: Any = super()
        return self._answer(inner.evaluate, parameters, config, _EVALUATE)

    def _answer(self, inner: Any, parameters: Any, config: dict[str, Any], phase: int) -> Any:
        keeper = _keeper(self)
        _, rest = order_of(config)
        if keeper is None:
            return inner(parameters, rest)
        client: Any = self
        if not client.initialized:
            client.setup_client(rest)
        keeper.begin(client, config, phase)
        reply = inner(parameters, rest)
        keeper.end(client)
        if KEY in config:  # only Resumable takes the report out again
            # the client reports its own dict too
            report = Report(keeper.name_of(client), stateful=True).to_text()
            return *reply[:2], {**reply[2], KEY: report}
        return reply

    def _save_client_state(self) -> None:
        """Save nothing: FL4Health saves before the reply is complete, and not after an evaluation."""
        inner: Any = super()
        if _keeper(self) is None:
            inner._save_client_state()

    def _load_client_state(self) -> bool:
        """Load nothing: the state was loaded before the message was given to FL4Health."""
        inner: Any = super()
        return True if _keeper(self) is not None else inner._load_client_state()


def _keeper(client: Any) -> ClientStateCheckpointer | None:
    found = client.checkpoint_and_state_module.state_checkpointer
    return found if isinstance(found, ClientStateCheckpointer) else None


def _require_resumable(client: Any) -> None:
    if not isinstance(client, ResumableClient):
        name = type(client).__name__
        raise TypeError(
            f"{name} does not say which round it is in: class {name}(ResumableClient, ...) does, "
            "from archive.interop.fl4health"
        )
