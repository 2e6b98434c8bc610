"""persist_state: a ClientApp's mod that keeps ``Context.state`` through crashes, and out of messages.

Each state is saved under the round, the phase and the attempt whose message made it. A resumable server says
with every message which attempt it is and what it goes on from (`archive.interop.flower.orders`); the mod
hands out the newest state of that line, and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from archive.checkpoints.lineage import Line, Version, obsolete_without_server
from archive.checkpoints.roundfile import DAMAGE, GONE
from archive.errors import ArchiveError, MissingError
from archive.interop.flower.appfolder import require_app_url
from archive.interop.flower.contexts import NodeContexts
from archive.interop.flower.letters import KEY, answer, answer_name, take
from archive.interop.flower.orders import Order, Report
from archive.interop.flower.records import copy_values, from_flower, to_flower
from archive.interop.flower.releases import LOGGER, flower
from archive.interop.flower.runstore import DEFAULT
from archive.storage.url import URL, Location

__all__ = ["persist_state"]

_log = logging.getLogger(LOGGER)

REFERENCE = KEY
"""Name of the ConfigRecord that Flower carries instead of the state."""

_ROUND_KEYS = ("server-round", "server_round", "current_server_round", "current_round")
"""Names of the round in the config of a message, which depend on the strategy."""
_MAX_DIGITS = 18
"""Digits of a round in the group id of a message; an id of more is no round."""
_PHASES = {"train": 1, "evaluate": 2}
"""Order of messages in a round; all other messages come first."""


class persist_state:  # noqa: N801 a mod, which Flower's users spell like a function
    """Return a mod that keeps ``Context.state`` in archives.

    The client finds its state as it left it; the arrays are mapped, and read on demand. Flower itself carries
    a reference of a few bytes.

    Parameters
    ----------
    url : str or path-like
        Folder of the states, local or any URL of fsspec; the folder of the server's rounds can be shared.
        Which experiment in it, and which states are kept, the server says with its messages.
    node_key : str, default "partition-id"
        Key of ``node_config`` that names the node. Two live nodes of one name are an error.
    on_missing : {"warn", "error"}, default "warn"
        What to do where the node has saved states in this run, but the one that it should go on from is
        missing or damaged: warn, tell the server, and go on from an earlier state or none; or raise.
    storage_options : mapping, optional
        Keyword arguments of the remote file system. A pickle holds no secrets of these and of the URL.

    Raises
    ------
    ValueError
        ``on_missing`` is neither, or the URL is a relative path in an app that Flower started: its working
        directory is that of Flower's own process.

    Notes
    -----
    Where ``node_config`` lacks the key, the node's id is its name, and a warning lists the keys that there
    are: ids are new in every simulation, and may be new after a restart of the SuperLink or SuperNode.

    A state that the app did not change is not written again. A server that is not `Resumable` says nothing:
    then the states of the newest four rounds are kept, in the experiment ``default``, and a message of round
    5 gets the newest state of an earlier message. A message without a round (``server-round`` in a config, or
    the group id of the old API) gets the newest state.

    A message that the script sends itself, and no strategy, says nothing either: it goes on from the state of
    the message before. What it changes before the first round of a resumed run is dropped in that round, for
    the state of the run.

    Examples
    --------
    ::

        app = ClientApp(mods=[persist_state("/data/checkpoints")])
    """

    def __init__(
        self,
        url: URL,
        *,
        node_key: str = "partition-id",
        on_missing: Literal["warn", "error"] = "warn",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if on_missing not in ("warn", "error"):
            raise ValueError(f'on_missing must be "warn" or "error", not {on_missing!r}')
        self._location: Location = require_app_url(url, storage_options)
        self._node_key = node_key
        self._on_missing = on_missing
        self._contexts: dict[str, NodeContexts] = {}
        self._warned: set[str] = set()
        _log.info("fedarchive: client states are kept in %s", self._location.display)

    def __call__(self, message: Any, context: Any, call_next: Callable[[Any, Any], Any]) -> Any:
        """Restore the state, call the app, and save the state."""
        order, where = take(message)
        node, is_named = self._name(context)
        if order is not None and order.ask:
            return answer_name(message, Report(node))
        carried = _reference(context, node)
        turn = _Turn(self._stores(order, carried), node, order, carried, message_place(message, order))
        version, problem = self._find(turn, is_named)
        try:
            before = _restore(context, turn.state)
            reply = call_next(message, context)
            if _changed(before, context.state):
                version = turn.save(from_flower(context), version, context.node_id)
        finally:
            # after an exception too: the saved state has not changed
            _refer(context, turn, version)
        answer(reply, where, Report(node, version is not None, problem))
        return reply

    def _find(self, turn: _Turn, is_named: bool) -> tuple[Version | None, str]:
        """Read the state that the app goes on from; return its version, and what is wrong with it."""
        problem = ""
        for version in turn.candidates():
            try:
                turn.read(version)
            except (*DAMAGE, *GONE) as error:
                problem = problem or str(error)
                if self._on_missing == "error":
                    raise
                continue
            if version != turn.carried:
                _log.info("fedarchive: state of %s resumed after %s", turn.node, version)
            if problem:
                problem = f"went on from {version}: {problem}"
            break
        else:
            version = None
            problem = problem or turn.lack(is_named)
        if problem:
            self._complain(turn, problem)
        return version, problem

    def _complain(self, turn: _Turn, problem: str) -> None:
        """Raise or warn of a state that the node should have had."""
        text = f"{turn.node}: {problem}"
        if self._on_missing == "error":
            raise MissingError(
                text,
                path=turn.contexts.shown,
                remedy="restore the file, or go on without it by on_missing='warn'",
            )
        _log.warning("fedarchive: %s", text)

    def _name(self, context: Any) -> tuple[str, bool]:
        """Return the name of a node, and whether it is a name and not only its id."""
        value = context.node_config.get(self._node_key)
        if value is None:
            keys = ", ".join(map(repr, context.node_config)) or "none"
            self._warn(
                f"node_config has no {self._node_key!r}, so the state of this node is kept by its id, which "
                f"may be new after a restart; set it, or name one of its keys by node_key=; its keys: {keys}"
            )
            return f"node-{context.node_id}", False
        if isinstance(value, str):
            return value, True
        return f"{self._node_key.removesuffix('-id')}-{value}", True

    def _stores(self, order: Order | None, carried: _Carried | None) -> tuple[NodeContexts, NodeContexts]:
        """Return the states of the experiment of a message, and those of the state that Flower carries."""
        before = carried.experiment if carried is not None else DEFAULT
        names = before if order is None else order.experiment, before
        for name in names:
            if name not in self._contexts:
                self._contexts[name] = NodeContexts(self._location, name)
        return self._contexts[names[0]], self._contexts[names[1]]

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("fedarchive: %s", text)


class _Carried(NamedTuple):
    """The state that Flower carries from message to message of one run, by its reference."""

    experiment: str
    version: Version
    anew: bool
    """Whether no state of an earlier run of Flower is in it."""


class _Turn:
    """One message to one node.

    A message without an order, such as one that the script sends itself, belongs to the attempt whose state
    Flower carries.
    """

    def __init__(
        self,
        stores: tuple[NodeContexts, NodeContexts],
        node: str,
        order: Order | None,
        carried: _Carried | None,
        asked: tuple[int, int] | None,
    ) -> None:
        self.contexts, self._before = stores
        self.node, self.order, self.asked = node, order, asked
        self.carried: Version | None = None if carried is None else carried.version
        """The state that Flower carries."""
        self.line: Line = Line("" if self.carried is None else self.carried.token)
        """The attempt that the message belongs to."""
        if order is not None:
            self.line = order.line
        self._was_anew = carried is not None and carried.anew
        self.state: Any = None
        """The records that the app goes on from; None where it starts without any."""
        self.anew: bool = True
        """Whether no state of an earlier run of Flower is in it."""

    def read(self, version: Version) -> None:
        """Read the state that the app goes on from."""
        self.state = self.store_of(version).open(self.node, version).state
        self.anew = self._was_anew and version == self.carried

    def store_of(self, version: Version) -> NodeContexts:
        """Return where a state is: what Flower carries may be of the experiment of those who name none."""
        return self._before if version == self.carried else self.contexts

    def candidates(self) -> list[Version]:
        """Return the states that the app may go on from, the best first.

        Within an attempt that is what Flower carries, in whatever order messages come.
        """
        carried = self.carried
        if carried is None:
            return self._listed(self.asked)
        again = self.asked is not None and carried.place > self.asked
        if self.line.has(carried) and (carried.token or not again):
            return [carried, *self._listed(carried.place)]
        found = self._listed(self.asked)
        if self.order is not None and self._was_anew and not carried.token:
            found.append(carried)  # this run began with messages without an order
        return found

    def _listed(self, before: tuple[int, int] | None) -> list[Version]:
        return self.line.newest(self.contexts.versions(self.node), before)

    def lack(self, is_named: bool) -> str:
        """Return what is wrong where there is no state; empty where the node may never have had one."""
        order = self.order
        if order is None:
            return ""
        if order.expects(self.node):
            return f"no state is left, though this node saved one in this run before round {order.round}"
        if order.nodes and not is_named and order.line.after:
            return (
                f"no state: its id is not among those that took part up to round {order.line.after}, and "
                "it has no name besides"
            )
        return ""

    def save(self, context: Any, known: Version | None, node_id: object) -> Version:
        """Save what the app made of the state, remove what nothing goes on from, and return its version."""
        asked = self.asked or ((0, 0) if known is None else (known.round + 1, 0))
        made = Version(*asked, token=self.line.token)
        if known is not None and known.token == made.token and known.place >= made.place:
            made = known._replace(turn=known.turn + 1)
        digest = "" if self.order is None else self.order.digest
        made = self.contexts.save(self.node, made, context, {"node_id": str(node_id), "digest": digest})
        versions = self.contexts.versions(self.node)
        if self.order is not None and self.order.kept is not None:
            self.contexts.remove(self.node, self.line.obsolete(versions, self.order.kept, made))
        elif not made.token:
            self.contexts.remove(self.node, obsolete_without_server(versions, made))
        return made


def message_place(message: Any, order: Order | None) -> tuple[int, int] | None:
    """Return round and phase of a message; None if it names no round."""
    found = None if order is None else order.round
    group = message.metadata.group_id
    if found is None and group and group.isdecimal() and len(group) <= _MAX_DIGITS:
        found = int(group)
    if found is None and message.has_content():
        for record in message.content.config_records.values():
            values = [record[key] for key in _ROUND_KEYS if isinstance(record.get(key), int)]
            if values and values[0] >= 0:
                found = values[0]
                break
    if found is None:
        return None
    return found, _PHASES.get(message.metadata.message_type.partition(".")[0], 0)


def _reference(context: Any, node: str) -> _Carried | None:
    """Take Flower's reference out of the context."""
    record = context.state.config_records.get(REFERENCE)
    if record is None:
        return None
    if record["node"] != node:
        raise ArchiveError(
            f"a reference to the state of {record['node']} in the context of {node}",
            key=REFERENCE,
            remedy="give every node its own Context",
        )
    del context.state[REFERENCE]
    version = Version(record["round"], record["phase"], record["turn"], record["token"])
    return _Carried(record["experiment"], version, record["anew"])


def _restore(context: Any, saved: Any) -> dict[str, Any]:
    """Put the saved state into the context; return its contents, to find out what the app changes."""
    if saved is not None:
        for name, record in to_flower(saved).items():
            context.state[name] = record
    elif context.state:
        return {}  # a state that another program made, and that is not saved yet
    return _contents(context.state)


def _refer(context: Any, turn: _Turn, version: Version | None) -> None:
    """Replace the state in the context by a reference, so that Flower carries nothing else."""
    if version is None:
        return
    context.state.clear()
    place = {"node": turn.node, "experiment": turn.store_of(version).experiment}
    context.state[REFERENCE] = flower().ConfigRecord({**place, **version._asdict(), "anew": turn.anew})


def _contents(state: Any) -> dict[str, Any]:
    """Return the contents of a state: its arrays, and copies of its values, which may change in place."""
    arrays = {name: dict(record.items()) for name, record in state.array_records.items()}
    values = {
        name: copy_values(record)
        for records in (state.metric_records, state.config_records)
        for name, record in records.items()
    }
    return {"order": list(state), "arrays": arrays, "values": values}


def _changed(before: dict[str, Any], state: Any) -> bool:
    """Tell whether an app changed its state: its values, its arrays, or the data of an array."""
    now = _contents(state)
    if not before or (before["order"], before["values"]) != (now["order"], now["values"]):
        return bool(now["order"]) or bool(before)
    for name, record in now["arrays"].items():
        known = before["arrays"].get(name, {})
        if list(known) != list(record) or any(known[key] is not array for key, array in record.items()):
            return True
        if any(getattr(array, "payload", None) is None for array in record.values()):
            return True
    return False
