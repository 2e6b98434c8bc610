"""Attempts of a run and the states that each may go on from; touches no file and no message.

A run is made by attempts: each start of its server is one, with a random token of its own. An attempt resumes
after a round that an earlier attempt saved. Client states are named by the token of the attempt in which they
were made. Therefore a state of a killed attempt, made after the round that the run resumed after, is never
handed out, however many rounds have passed since.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from archive.errors import ValueRangeError

__all__ = [
    "Line",
    "Order",
    "Report",
    "Version",
    "hash_name",
    "new_token",
    "obsolete_without_server",
    "parse_chain",
]

_TOKEN = re.compile(r"(?:[0-9a-f]{16})?")
_HASH_BYTES = 4
KEPT_WITHOUT_SERVER = 4
MAX_KEPT = 64
"""Rounds that a message lists. Where a store keeps more, clients remove nothing."""


def new_token() -> str:
    """Return the token of a new attempt: 16 random hex digits."""
    return secrets.token_hex(8)


class Version(NamedTuple):
    """The message that made a state. Of one attempt later messages are greater."""

    round: int
    """Round of the message."""
    phase: int
    """1 for train, 2 for evaluate, 0 for any other."""
    turn: int = 1
    """1, and more for further messages of the same round and phase to the same node."""
    token: str = ""
    """Token of the attempt; empty where the server is not resumable."""

    @property
    def file(self) -> str:
        """Name of its file.

        Examples
        --------
        >>> Version(7, 1).file, Version(7, 2, 2, "0123456789abcdef").file
        ('00000007-1.h5', '00000007-2-0123456789abcdef-2.h5')
        """
        parts = [f"{self.round:08d}-{self.phase}", self.token, str(self.turn) if self.turn > 1 else ""]
        return "-".join(filter(None, parts)) + ".h5"

    @classmethod
    def parse(cls, file: str) -> Version | None:
        """Return the version that a file is named by; None for any other file.

        Examples
        --------
        >>> Version.parse("00000007-1-0123456789abcdef.h5").round, Version.parse("notes.h5")
        (7, None)
        """
        match = _FILE.fullmatch(file)
        if match is None:
            return None
        number, phase, token, turn = match.groups()
        return cls(int(number), int(phase), int(turn or 1), token or "")

    @property
    def place(self) -> tuple[int, int]:
        """Round and phase, which order the messages of a run whatever attempt sent them."""
        return self.round, self.phase

    def __str__(self) -> str:
        kind = {1: "training of ", 2: "evaluation of "}.get(self.phase, "")
        return f"{kind}round {self.round}"


_FILE = re.compile(r"(\d{8,})-(\d)(?:-([0-9a-f]{16}))?(?:-(\d+))?\.h5")


@dataclass(frozen=True, slots=True)
class Line:
    """One attempt and those that it goes on from."""

    token: str
    """Token of the attempt."""
    ancestors: tuple[tuple[str, int], ...] = ()
    """Token of each earlier attempt, and the last round that is taken from it, oldest first."""

    @property
    def after(self) -> int:
        """Round that the attempt resumed after; 0 where it began the run."""
        return self.ancestors[-1][1] if self.ancestors else 0

    def follow(self, number: int) -> Line:
        """Return a new attempt that resumes after a round of this one.

        Examples
        --------
        >>> Line("a").follow(3).follow(5).ancestors[0]
        ('a', 3)
        """
        return Line(new_token(), (*self.ancestors, (self.token, number)))

    def has(self, version: Version) -> bool:
        """Return whether a state belongs to this attempt, or to an earlier one in rounds that are taken from it.

        Examples
        --------
        >>> line = Line("b", (("a", 4),))
        >>> line.has(Version(4, 1, 1, "a")), line.has(Version(5, 1, 1, "a")), line.has(Version(5, 1, 1, "b"))
        (True, False, True)
        """
        if version.token == self.token:
            return version.round > self.after
        return any(token == version.token and version.round <= last for token, last in self.ancestors)

    def newest(self, versions: Iterable[Version], before: tuple[int, int] | None) -> list[Version]:
        """Return the states that may be handed out for a message of this round and phase, newest first."""
        found = [each for each in versions if self.has(each) and (before is None or each.place < before)]
        return sorted(found, reverse=True)

    def obsolete(self, versions: Iterable[Version], kept: Sequence[int]) -> list[Version]:
        """Return the states of this line that no kept round and no later message goes on from.

        States of other lines stay: the server of another attempt may still use them.

        Examples
        --------
        >>> states = [Version(number, 1) for number in (1, 2, 3, 5, 6)]
        >>> [state.round for state in Line("").obsolete(states, kept=[2, 4])]
        [1, 5]
        """
        own = sorted(version for version in versions if self.has(version))
        needed = set(own[-1:])
        for number in kept:
            needed.update([version for version in own if version.round <= number][-1:])
        return [version for version in own if version not in needed]


def obsolete_without_server(versions: Iterable[Version], made: Version) -> list[Version]:
    """Return the states that are not kept where the server is not resumable and says nothing.

    These are states of all but the newest four rounds, and later ones of a run that was stopped: a run that
    starts again begins with round 1.

    Examples
    --------
    >>> states = [Version(number, 1) for number in (1, 2, 3, 4, 5, 9)]
    >>> [state.round for state in obsolete_without_server(states, made=states[4])]
    [1, 9]
    """
    own = sorted(version for version in versions if not version.token)
    rounds = sorted({version.round for version in own if version <= made})[-KEPT_WITHOUT_SERVER:]
    return [version for version in own if version > made or version.round not in rounds]


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
    nodes: frozenset[bytes] = frozenset()
    """`hash_name` of each node that has saved a state in this line."""
    ask: bool = False
    """The message only asks for the name of the node."""

    def to_text(self) -> str:
        """Return the order as JSON, the one form that messages of both APIs carry."""
        return json.dumps(
            {
                "version": 1,
                "experiment": self.experiment,
                "token": self.line.token,
                "ancestors": self.line.ancestors,
                "round": self.round,
                "kept": self.kept,
                "digest": self.digest,
                "nodes": b"".join(sorted(self.nodes)).hex(),
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
            hashes = bytes.fromhex(found["nodes"])
            kept = found["kept"]
            return cls(
                experiment=_str(found["experiment"]),
                line=Line(_token(found["token"]), parse_chain(found["ancestors"])),
                round=_int(found["round"]),
                kept=None if kept is None else tuple(map(_int, kept)),
                digest=_str(found["digest"]),
                nodes=frozenset(hashes[at : at + _HASH_BYTES] for at in range(0, len(hashes), _HASH_BYTES)),
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
        """Return the report of a reply; None where it is none.

        Examples
        --------
        >>> Report.from_text(Report("Berlin", True).to_text()).node, Report.from_text("[]")
        ('Berlin', None)
        """
        try:
            found = json.loads(text if isinstance(text, str) else "")
            return cls(_str(found["node"]), found["stateful"] is True, _str(found["problem"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def hash_name(name: str) -> bytes:
    """Return four bytes that stand for the name of a node: a message may name a thousand nodes.

    One pair of names in four billion has the same bytes. A needless warning is the worst that follows.
    """
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def parse_chain(found: Any) -> tuple[tuple[str, int], ...]:
    """Return tokens and last rounds of attempts as JSON holds them.

    Raises
    ------
    TypeError, ValueError
        They are not such a list.

    Examples
    --------
    >>> parse_chain([["0123456789abcdef", 4]])
    (('0123456789abcdef', 4),)
    """
    return tuple((_token(token), _int(last)) for token, last in found)


def _token(found: object) -> str:
    if not isinstance(found, str) or not _TOKEN.fullmatch(found):
        raise ValueError("invalid token of an attempt")
    return found


def _str(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError(f"a {type(found).__name__} instead of a str")
    return found


def _int(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError("not a number of a round")
    return found
