"""Which failed requests are sent again, how often, and for how long: one rule for every client."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

__all__ = ["POLICY", "Fault", "Kind", "Policy", "fault_of_status", "next_wait", "retried"]

T = TypeVar("T")


class Kind(Enum):
    """What a failed request says about the next one."""

    TRANSIENT = "transient"
    """The server is busy, or the connection broke: the same request may succeed."""
    UNREACHABLE = "unreachable"
    """No connection came about, to a server that never answered yet: seldom better a moment later."""
    MISSING = "missing"
    """There is no such object."""
    CONFLICT = "conflict"
    """A precondition failed: another version is there."""
    RANGE = "range"
    """The object has no such bytes."""
    DENIED = "denied"
    """The server does not know us, or does not let us."""
    UNSUPPORTED = "unsupported"
    """The server cannot do that."""
    UNPROVEN = "unproven"
    """The server said that it was done, and its reply does not show it."""
    REFUSED = "refused"
    """Anything else that stays as it is."""


class Fault(Exception):  # noqa: N818 - it is caught within this package, never by a caller
    """One request that failed, in words that all clients share; never shown without an object's name.

    Parameters
    ----------
    kind : Kind
    problem : str
        What happened, without credentials.
    status : int
        HTTP status; 0 where no reply came.
    wait : float
        Seconds that the server asks to wait.
    remedy : str
        What the caller can do.
    """

    def __init__(
        self, kind: Kind, problem: str, *, status: int = 0, wait: float = 0.0, remedy: str = ""
    ) -> None:
        super().__init__(problem)
        self.kind = kind
        self.problem = problem
        self.status = status
        self.wait = wait
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long one request is tried."""

    tries: int = 4
    """Requests at most."""
    first_wait: float = 0.1
    """Seconds before the second; doubled for each further one, give or take a half."""
    longest_wait: float = 5.0
    """Seconds between two requests at most, whatever the server asks for."""
    deadline: float = 60.0
    """Seconds from the first request to the last, waits included, for a reply of a few bytes."""
    slowest: float = float(256 << 10)
    """Bytes a second: what a large reply may take longer than a small one."""
    reach: float = 2.0
    """Seconds during which a server that cannot be reached is tried again."""

    def seconds(self, nbytes: int) -> float:
        """Return the deadline of a request that moves ``nbytes``."""
        return self.deadline + nbytes / self.slowest


POLICY = Policy()
"""What every client follows: 4 requests within a minute."""

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504, 509})


def fault_of_status(status: int, problem: str, *, wait: float = 0.0, remedy: str = "") -> Fault:
    """Return the fault that an HTTP status stands for."""
    if status in _BUSY or status >= 520:
        kind = Kind.TRANSIENT
    elif status in (404, 410):
        kind = Kind.MISSING
    elif status in (409, 412):
        kind = Kind.CONFLICT
    elif status == 416:
        kind = Kind.RANGE
    elif status in (401, 403, 407):
        kind = Kind.DENIED
    elif status in (405, 501):
        kind = Kind.UNSUPPORTED
    else:
        kind = Kind.REFUSED
    return Fault(kind, problem, status=status, wait=wait, remedy=remedy)


def next_wait(
    fault: Fault, tried: int, elapsed: float, chance: float, policy: Policy = POLICY
) -> float | None:
    """Return the seconds until a request is sent again; None where that is of no use.

    Parameters
    ----------
    fault : Fault
    tried : int
        Requests that were sent.
    elapsed : float
        Seconds since the first was sent.
    chance : float
        0 to 1: clients that failed together do not come back together.
    policy : Policy
    """
    if tried >= policy.tries:
        return None
    if fault.kind is Kind.UNREACHABLE:
        if elapsed >= policy.reach:
            return None
    elif fault.kind is not Kind.TRANSIENT:
        return None
    wait = max(policy.first_wait * 2 ** (tried - 1) * (0.5 + chance), fault.wait)
    return float(min(wait, policy.longest_wait))


def retried(attempt: Callable[[float], T], *, nbytes: int = 0, policy: Policy = POLICY) -> T:
    """Return what ``attempt`` returns, called with the seconds it may take until it raises no `Fault`.

    Raises
    ------
    Fault
        The last one.
    """
    begin = time.monotonic()
    limit = policy.seconds(nbytes)
    tried = 0
    while True:
        try:
            return attempt(max(limit - (time.monotonic() - begin), 0.01))
        except Fault as fault:
            tried += 1
            elapsed = time.monotonic() - begin
            wait = next_wait(fault, tried, elapsed, random.random(), policy)  # noqa: S311 - spread, not secrecy
            if wait is None or elapsed + wait >= limit:
                raise
        time.sleep(wait)
