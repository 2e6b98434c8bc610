"""What a resumable server tells its clients with every message, and what they tell it with every reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b

from archive.checkpoints.lineage import Line, parse_chain, parse_number, parse_token
from archive.checkpoints.paths import require_experiment
from archive.errors import ValueRangeError

__all__ = ["MAX_KEPT", "Order", "Report", "hash_name"]

_HASH_BYTES = 4
MAX_KEPT = 1000
"""Rounds that a message lists, in at most 10 KB. Where a store keeps more, clients remove nothing."""
MAX_NAME = 1000
"""Characters of the name of a node: a hostile client may send megabytes, and every round file has them."""
MAX_PROBLEM = 1000
"""Characters of a problem that a client reports."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the server tells a client with every message."""

    experiment: str
    """Folder of the run in the URL."""
    line: Line
    """The attempt that sends the message."""
    round: int
    """Round of the message."""
    kept: tuple[int, ...] | None = None
    """Rounds that the run may resume after; None where clients are to remove nothing."""
    digest: str = ""
    """Digest of the round file that the attempt resumed after; empty where it began the run."""
    nodes: frozenset[bytes] | None = frozenset()
    """`hash_name` of each node that has saved a state in this line; None where the receiver has."""
    ask: bool = False
    """The message only asks for the name of the node."""

    def expects(self, name: str) -> bool:
        """Return whether the node of this name, which gets the message, has saved a state in this line.

        Examples
        --------
        >>> order = Order("default", Line("0123456789abcdef"), 3, nodes=frozenset([hash_name("Berlin")]))
        >>> order.expects("Berlin"), order.expects("Paris")
        (True, False)
        """
        return self.nodes is None or hash_name(name) in self.nodes

    def to_text(self) -> str:
        """Return the order as JSON, the one form that messages of both APIs carry."""
        return json.dumps(
            {
                "experiment": self.experiment,
                "token": self.line.token,
                "ancestors": self.line.ancestors,
                "round": self.round,
                "kept": self.kept,
                "digest": self.digest,
                "nodes": None if self.nodes is None else b"".join(sorted(self.nodes)).hex(),
                "ask": self.ask,
            }
        )

    @classmethod
    def from_text(cls, text: object) -> Order:
        """Return the order of a message.

        Raises
        ------
        ValueRangeError
            No server of this package made it.

        Examples
        --------
        >>> order = Order("default", Line("0123456789abcdef"), 3, kept=(1, 2))
        >>> Order.from_text(order.to_text()) == order
        True
        """
        try:
            found = json.loads(text if isinstance(text, str) else "")
            kept, nodes = found["kept"], found["nodes"]
            return cls(
                experiment=require_experiment(found["experiment"]),
                line=Line(parse_token(found["token"]), parse_chain(found["ancestors"])),
                round=parse_number(found["round"]),
                kept=None if kept is None else tuple(map(parse_number, kept)),
                digest=_str(found["digest"]),
                nodes=None if nodes is None else _hashes(bytes.fromhex(nodes)),
                ask=found["ask"] is True,
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueRangeError(
                f"a message with an order that no fedarchive server made: {error}",
                key="fedarchive",
                remedy="use the same release of fedarchive in the server and in its clients",
            ) from error


@dataclass(frozen=True, slots=True)
class Report:
    """What a client tells the server with its reply."""

    node: str
    """Name of the node."""
    stateful: bool = False
    """Whether the node has a saved state."""
    problem: str = ""
    """What is wrong with the state that it should have had; usually empty."""

    def to_text(self) -> str:
        """Return the report as JSON."""
        return json.dumps({"node": self.node, "stateful": self.stateful, "problem": self.problem})

    @classmethod
    def from_text(cls, text: object) -> Report | None:
        """Return the report of a reply; None where it is none, or names the node by more than `MAX_NAME`.

        Examples
        --------
        >>> Report.from_text(Report("Berlin", True).to_text()).node, Report.from_text("[]")
        ('Berlin', None)
        """
        try:
            found = json.loads(text if isinstance(text, str) else "")
            node, problem = _str(found["node"]), _str(found["problem"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        if len(node) > MAX_NAME:
            return None
        return cls(node, found["stateful"] is True, problem[:MAX_PROBLEM])


def hash_name(name: str) -> bytes:
    """Return four bytes that stand for the name of a node: a message may name thousands of nodes.

    One pair of names in four billion has the same bytes. A needless warning is the worst that follows.
    """
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def _hashes(joined: bytes) -> frozenset[bytes]:
    return frozenset(joined[at : at + _HASH_BYTES] for at in range(0, len(joined), _HASH_BYTES))


def _str(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(f"a {type(found).__name__} instead of a str")
    return found
