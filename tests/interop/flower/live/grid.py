"""A Grid without a network: it calls the ClientApp, node by node, in the order of the partitions.

Contexts live as long as the grid, as a SuperNode keeps them, and hold what Flower would carry. Messages go
through the app exactly as Flower hands them over, only faster.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from archive.interop.flower.releases import flower

Trap = Callable[[int, Any], None]
"""Called with partition and message before a client gets the message."""


class InProcessGrid:
    """Nodes with ids that are new in every run, as a simulation's are.

    Replies that are pulled come in the order of the partitions in ``arrivals``, or of the messages without
    it; those of partitions that it lacks never come.
    """

    pull_interval = 0.001

    def __init__(
        self,
        app: Callable[[Any, Any], Any],
        nodes: int,
        run_id: int = 1,
        trap: Trap | None = None,
        arrivals: Sequence[int] | None = None,
    ) -> None:
        self.run = SimpleNamespace(run_id=run_id)
        identify(run_id)
        self._app = app
        self._trap = trap
        self._arrivals = arrivals
        self._coming: list[int] = []
        self._sent: dict[str, Any] = {}
        self.collected = 0
        """Rounds whose replies were not pulled one by one."""
        numbers = random.Random(run_id)
        self.ids = sorted(numbers.getrandbits(62) for _ in range(nodes))
        make = flower().Context
        self.contexts = {
            node: make(
                run_id=run_id,
                node_id=node,
                node_config={"partition-id": partition, "num-partitions": nodes},
                state=flower().RecordDict(),
                run_config={},
            )
            for partition, node in enumerate(self.ids)
        }

    def set_run(self, run: Any) -> None:
        self.run = run

    def get_node_ids(self) -> list[int]:
        return list(self.ids)

    def get_nodes(self) -> list[Any]:
        return [SimpleNamespace(node_id=node) for node in self.ids]

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        self.collected += 1
        ordered = sorted(messages, key=lambda message: self.ids.index(message.metadata.dst_node_id))
        return [self._reply(message) for message in ordered]

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = made = f"{len(self._sent)}"
            self._sent[made] = message
            ids.append(made)
        partitions = [self._partition(self._sent[made]) for made in ids]
        self._coming = [one for one in self._arrivals or partitions if one in partitions]
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        found = []
        for one in message_ids:
            if self._coming and self._partition(self._sent[one]) == self._coming[0]:
                del self._coming[0]
                found.append(self._reply(self._sent[one]))
        return found

    def _partition(self, message: Any) -> int:
        return self.ids.index(message.metadata.dst_node_id)

    def _reply(self, message: Any) -> Any:
        if self._trap is not None:
            self._trap(self._partition(message), message)
        return self._app(message, self.contexts[message.metadata.dst_node_id])


def identify(run_id: int) -> None:
    """Set the maker of messages where Flower asks for it: newer releases run every app as a task."""
    try:
        task = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    except ModuleNotFoundError:
        return
    task.task_id, task.run_id, task.node_id = 1, run_id, 1
