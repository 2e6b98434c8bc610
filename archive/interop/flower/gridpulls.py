"""Replies pulled from a Flower Grid one at a time.

``Grid.send_and_receive`` returns all replies of a round at once, each with its arrays.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

__all__ = ["Collector", "PullingGrid", "pull_each"]

_PAUSE_S = 3.0
"""Seconds between two looks for replies, as Flower's grids wait; that in memory has a ``pull_interval``."""


class Collector(Protocol):
    """What takes the replies of a round."""

    def expects(self, messages: list[Any]) -> bool:
        """Return whether it wants the replies to these messages."""
        ...

    def collect(self, grid: Any, messages: list[Any], timeout: float | None) -> list[Any]:
        """Send the messages, which it removes from the list, and return what is left of the replies."""
        ...


class PullingGrid:
    """A grid that lets a collector pull the replies that it expects; in all else it is the grid inside."""

    def __init__(self, grid: Any, collector: Collector) -> None:
        self._grid, self._collector = grid, collector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> Iterable[Any]:
        """Send messages and return their replies."""
        sent = list(messages)
        if not self._collector.expects(sent):
            found: Iterable[Any] = self._grid.send_and_receive(sent, timeout=timeout)
            return found
        return self._collector.collect(self._grid, sent, timeout)


def pull_each(grid: Any, ids: Iterable[str | None], timeout: float | None) -> Iterator[tuple[int, Any]]:
    """Yield the replies to messages as they come, each with the position of its message.

    A SuperLink deletes a reply when it has handed it out. Several ids in one request would bring all of their
    replies that are there.

    Parameters
    ----------
    grid : flwr.serverapp.Grid
    ids : iterable of str or None
        Of the messages, in order; None where one could not be sent.
    timeout : float or None
        Seconds after which no more replies are looked for; None waits for all.
    """
    waiting = {position: message for position, message in enumerate(ids) if message is not None}
    end = None if timeout is None else time.monotonic() + timeout
    while waiting and (end is None or time.monotonic() < end):
        before = len(waiting)
        for position, message in list(waiting.items()):
            pulled = list(grid.pull_messages([message]))
            while pulled:  # no name of ours holds a reply while the next is pulled
                if position in waiting and pulled[0].metadata.reply_to_message_id == message:
                    del waiting[position]
                    yield position, pulled.pop(0)
                else:
                    del pulled[0]  # of another message, or the same once more
        if len(waiting) == before:
            time.sleep(getattr(grid, "pull_interval", _PAUSE_S))
