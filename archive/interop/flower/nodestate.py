"""persist_state: a ClientApp's mod that keeps ``Context.state`` through crashes, and out of messages.

Each state is saved under the round whose message made it. A run that is started again goes on from an earlier
round than some clients had reached; these clients get the state that they had before that round.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from archive.errors import ArchiveError
from archive.interop.flower.contexts import NodeContexts, Version
from archive.interop.flower.records import copy_values, from_flower, to_flower
from archive.interop.flower.releases import LOGGER, flower
from archive.storage.url import URL

__all__ = ["persist_state"]

_log = logging.getLogger(LOGGER)

REFERENCE = "fedarchive"
"""Name of the ConfigRecord that Flower carries instead of the state."""

_ROUND_KEYS = ("server-round", "server_round", "current_server_round", "current_round")
"""Names of the round in the config of a message, which depend on the strategy."""
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
        It is made absolute and logged.
    experiment : str, default "default"
        Folder in it, as for `Resumable`.
    keep_last : int, default 4
        Number of rounds to keep states of, for each client: one more than the server keeps, times the
        server's ``every``.
    storage_options : mapping, optional
        Keyword arguments of the remote file system. A pickle holds no secrets of these and of the URL.

    Notes
    -----
    States are kept by partition if the node has one (``node_config["partition-id"]``), because a
    simulation's node ids change with every run; otherwise by node id. A state that the app did not change is
    not written again. A message without a round (``server-round`` in a config, or the group id of the old
    API) gets the newest state.

    Examples
    --------
    ::

        app = ClientApp(mods=[persist_state("checkpoints")])
    """

    def __init__(
        self,
        url: URL,
        *,
        experiment: str = "default",
        keep_last: int = 4,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._contexts = NodeContexts(url, experiment, keep_last=keep_last, storage_options=storage_options)
        _log.info("fedarchive: client states are kept in %s", self._contexts.shown)

    def __call__(self, message: Any, context: Any, call_next: Callable[[Any, Any], Any]) -> Any:
        """Restore the state, call the app, and save the state."""
        node = node_name(context)
        reference = self._reference(context, node)
        asked = message_version(message)
        if reference is None:
            reference = self._contexts.newest(node, before=asked)
            if reference is not None:
                _log.info("fedarchive: state of %s resumed after %s", node, reference)
        try:
            before = self._restore(context, node, reference)
            reply = call_next(message, context)
            made = asked if asked is not None else Version(0 if reference is None else reference.round + 1, 0)
            if _changed(before, context.state):
                self._contexts.save(node, made, from_flower(context))
                reference = made
        finally:
            # after an exception too: the saved state has not changed
            _refer(context, node, reference)
        return reply

    def _reference(self, context: Any, node: str) -> Version | None:
        """Return the version that Flower's reference names."""
        record = context.state.config_records.get(REFERENCE)
        if record is None:
            return None
        if record["node"] != node:
            raise ArchiveError(
                f"a reference to the state of {record['node']} in the context of {node}",
                path=self._contexts.shown,
                key=REFERENCE,
                remedy="give every node its own Context",
            )
        return Version(record["round"], record["phase"])

    def _restore(self, context: Any, node: str, reference: Version | None) -> dict[str, Any]:
        """Put the saved state into the context; return its contents, to find out what the app changes."""
        if REFERENCE in context.state:
            del context.state[REFERENCE]
        if reference is not None:
            saved = to_flower(self._contexts.open(node, reference).state)
            for name, record in saved.items():
                context.state[name] = record
        elif context.state:
            return {}  # a state that another program made, and that is not saved yet
        return _contents(context.state)


def node_name(context: Any) -> str:
    """Return the name of a node's states: its partition, or its id."""
    partition = context.node_config.get("partition-id")
    return f"node-{context.node_id}" if partition is None else f"partition-{partition}"


def message_version(message: Any) -> Version | None:
    """Return round and phase of a message; None if it names no round."""
    found = None
    group = message.metadata.group_id
    if group and group.isdecimal():
        found = int(group)
    if found is None and message.has_content():
        for record in message.content.config_records.values():
            values = [record[key] for key in _ROUND_KEYS if isinstance(record.get(key), int)]
            if values:
                found = values[0]
                break
    if found is None:
        return None
    return Version(found, _PHASES.get(message.metadata.message_type.partition(".")[0], 0))


def _refer(context: Any, node: str, version: Version | None) -> None:
    """Replace the state in the context by a reference, so that Flower carries nothing else."""
    if version is None:
        return
    context.state.clear()
    record = {"node": node, "round": version.round, "phase": version.phase}
    context.state[REFERENCE] = flower().ConfigRecord(record)


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
