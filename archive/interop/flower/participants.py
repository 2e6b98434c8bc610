"""Who takes part in a run: names of nodes by their ids, which of them have saved states, and their order."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from archive.errors import ValueRangeError
from archive.interop.flower.orders import Order, Report, hash_name
from archive.interop.flower.releases import LOGGER

__all__ = ["Participants"]

_log = logging.getLogger(LOGGER)
_DIGITS = re.compile(r"(\d{1,300})")
"""A number in a name; Python reads no more than 640 digits in every setting."""


class Participants:
    """Nodes of one attempt.

    Parameters
    ----------
    stateful : iterable of str
        Names of nodes that have saved states in the rounds that the attempt goes on from.

    Examples
    --------
    >>> nodes = Participants(["partition-0"])
    >>> nodes.hear([("71", Report("partition-1", stateful=True)), ("72", None)], 3)
    >>> sorted(nodes.stateful), sorted(["72", "71"], key=nodes.order)
    (['partition-0', 'partition-1'], ['71', '72'])
    """

    def __init__(self, stateful: Iterable[str] = ()) -> None:
        self.names: dict[str, str] = {}
        """Names by node id, of the nodes that were heard of."""
        self.stateful: set[str] = set(stateful)
        """Names of nodes that have saved states."""
        self.asked: set[str] = set()
        """Ids of the nodes that were asked for their names."""
        self.without: int = 0
        """How many nodes lacked the state that they should have had, since it was last set to 0."""

    def hear(self, found: Iterable[tuple[str, Report | None]], number: int) -> None:
        """Note the reports of the replies of a round, by node id.

        Raises
        ------
        ValueRangeError
            Two nodes have one name.
        """
        heard: dict[str, str] = {}
        silent = 0
        for node, report in found:
            if report is None:
                silent += 1
                continue
            other = heard.setdefault(report.node, node)
            if other != node:
                raise ValueRangeError(
                    f"two nodes are called {report.node!r}, and would share a state: {other} and {node}",
                    key=report.node,
                    remedy="give every node a name of its own under the node_key of persist_state",
                )
            self.names[node] = report.node
            if report.stateful:
                self.stateful.add(report.node)
            if report.problem:
                self.without += 1
                node_name, problem = _shown(report.node), _shown(report.problem)
                _log.warning("fedarchive: round %d: client %s: %s", number, node_name, problem)

        if silent and self.stateful and not self.names:
            _log.warning(
                "fedarchive: round %d: none of %d clients tells its name, though %d nodes had saved states "
                "in this run, which are lost to it: is persist_state among the mods of the ClientApp?",
                number,
                silent,
                len(self.stateful),
            )

    def texts(self, order: Order) -> Callable[[str], str]:
        """Return a function from a node id to the text of an order for that node.

        The nodes with states are listed only for ids whose names are not known yet: in all of n messages the
        lists would have n * n names.

        Examples
        --------
        >>> from archive.checkpoints.lineage import Line
        >>> nodes = Participants(["Berlin"])
        >>> nodes.hear([("71", Report("Paris"))], 3)
        >>> text_for = nodes.texts(Order("default", Line("0123456789abcdef"), 4))
        >>> [Order.from_text(text_for(node)).expects("Berlin") for node in ("71", "72")]
        [False, True]
        """
        listed = frozenset(map(hash_name, self.stateful))
        unknown, stateful, stateless = (
            replace(order, nodes=nodes).to_text() for nodes in (listed, None, frozenset[bytes]())
        )

        def text_for(node: str) -> str:
            name = self.names.get(node)
            return unknown if name is None else stateful if name in self.stateful else stateless

        return text_for

    def order(self, node: str) -> tuple[bool, tuple[tuple[bool, int, str], ...], str]:
        """Return what sorts node ids by name, numbers in names by value; nodes without a name come last.

        Examples
        --------
        >>> nodes = Participants()
        >>> nodes.names = {"1": "partition-10", "2": "partition-9"}
        >>> sorted(["1", "2", "0"], key=nodes.order)
        ['2', '1', '0']
        """
        name = self.names.get(node, "")
        return not name, _natural(name), node


def _shown(text: str) -> str:
    """Return a text of a client for the log, where it begins no line of its own."""
    return text if text.isprintable() else ascii(text)


def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a name in parts, so that its numbers are compared as numbers."""
    parts = _DIGITS.split(name)  # texts and numbers in turn
    return tuple((place % 2 > 0, int(part) if place % 2 else 0, part) for place, part in enumerate(parts))
