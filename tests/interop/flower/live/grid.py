"""A Grid without a network: it calls the ClientApp, node by node, in the order of the partitions.

Contexts live as long as the grid, as a SuperNode keeps them, and hold what Flower would carry. Messages go
through the app exactly as Flower hands them over, only faster.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from archive.interop.flower.releases import flower

Trap = Callable[[int, Any], None]
"""Called with partition and message before a client gets the message."""


class InProcessGrid:
    """Nodes with ids that are new in every run, as a simulation's are."""

    def __init__(
        self,
        app: Callable[[Any, Any], Any],
        nodes: int,
        run_id: int = 1,
        trap: Trap | None = None,
    ) -> None:
        self.run = SimpleNamespace(run_id=run_id)
        identify(run_id)
        self._app = app
        self._trap = trap
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
        ordered = sorted(messages, key=lambda message: self.ids.index(message.metadata.dst_node_id))
        replies = []
        for message in ordered:
            partition = self.ids.index(message.metadata.dst_node_id)
            if self._trap is not None:
                self._trap(partition, message)
            replies.append(self._app(message, self.contexts[message.metadata.dst_node_id]))
        return replies


def identify(run_id: int) -> None:
    """Set the maker of messages where Flower asks for it: newer releases run every app as a task."""
    try:
        task = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    except ModuleNotFoundError:
        return
    task.task_id, task.run_id, task.node_id = 1, run_id, 1
