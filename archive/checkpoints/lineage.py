"""Attempts of a run and the states that each may go on from; touches no file and no message.

A run is made by attempts: each start of its server is one, with a random token of its own. An attempt resumes
after a round that an earlier attempt saved. Client states are named by the token of the attempt in which they
were made. Therefore a state of a killed attempt, made after the round that the run resumed after, is never
handed out, however many rounds have passed since.
"""

from __future__ import annotations

import re
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from archive.checkpoints.paths import MAX_ROUND

__all__ = [
    "Line",
    "Version",
    "new_token",
    "obsolete_without_server",
    "parse_chain",
    "parse_number",
    "parse_token",
]

_TOKEN = re.compile(r"(?:[0-9a-f]{16})?")
KEPT_WITHOUT_SERVER = 4
"""Rounds of which clients keep states where no server says which it needs."""


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
        """Return whether a state is of this attempt, or of an earlier one and a round taken from it.

        Examples
        --------
        >>> line = Line("b", (("a", 4),))
        >>> line.has(Version(4, 1, 1, "a")), line.has(Version(5, 1, 1, "a")), line.has(Version(5, 1, 1, "b"))
        (True, False, True)
        """
        if version.token == self.token:
            return not self.ancestors or version.round > self.after
        return any(token == version.token and version.round <= last for token, last in self.ancestors)

    def newest(self, versions: Iterable[Version], before: tuple[int, int] | None) -> list[Version]:
        """Return the states that may be handed out for a message of this round and phase, newest first."""
        found = [each for each in versions if self.has(each) and (before is None or each.place < before)]
        return sorted(found, reverse=True)

    def obsolete(self, versions: Iterable[Version], kept: Sequence[int], made: Version) -> list[Version]:
        """Return the states that no kept round and no later message goes on from, once a state was made.

        States of later messages stay: they ended before. So do states of attempts that are not in this line,
        whose servers may still use them. An attempt that this one goes on from cannot save a round any more
        once this one has: what it made after its last round that is taken is of no use then.

        Examples
        --------
        >>> states = [Version(number, 1) for number in (1, 2, 3, 5, 6, 7)]
        >>> [state.round for state in Line("").obsolete(states, kept=[2, 4], made=states[4])]
        [1, 5]
        >>> line = Line("b", (("a", 2),))
        >>> [str(state) for state in line.obsolete([Version(3, 1, 1, "a")], [2, 3], Version(4, 1, 1, "b"))]
        ['training of round 3']
        """
        found = list(versions)
        own = sorted(version for version in found if self.has(version) and version <= made)
        needed = {made}
        for number in kept:
            at = bisect_left(own, (number + 1,))
            needed.update(own[max(at - 1, 0) : at])
        ends = dict(self.ancestors) if any(number > self.after for number in kept) else {}
        lost = [version for version in found if version.round > ends.get(version.token, version.round)]
        return [version for version in own if version not in needed] + lost


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
    return tuple((parse_token(token), parse_number(last)) for token, last in found)


def parse_token(found: object) -> str:
    """Return the token of an attempt, or raise ValueError."""
    if not isinstance(found, str) or not _TOKEN.fullmatch(found):
        raise ValueError("invalid token of an attempt")
    return found


def parse_number(found: object) -> int:
    """Return the number of a round, or raise TypeError."""
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= MAX_ROUND:
        raise TypeError("not a number of a round")
    return found
