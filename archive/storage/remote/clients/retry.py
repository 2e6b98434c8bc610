"""Which failed requests are sent again, and for how long: one rule for every client.

An outage is survived: a server that refuses connections, breaks them, is silent, or answers that it is busy
is asked again until a minute after it last did what it was asked. Nothing else is worth waiting for: an
unknown host is reported within 5 s, a refusal at once.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from archive.errors import StorageError

__all__ = [
    "POLICY",
    "VARIABLE",
    "Contact",
    "Fault",
    "Kind",
    "Policy",
    "fault_of_status",
    "next_wait",
    "retried",
]

VARIABLE = "FEDARCHIVE_RETRY_SECONDS"
"""Environment variable: seconds of an outage that are waited for, instead of 60."""

T = TypeVar("T")


class Kind(Enum):
    """What a failed request says about the next one."""

    TRANSIENT = "transient"
    """The server is busy, the connection broke, or the reply was wrong: the same request may succeed."""
    UNREACHABLE = "unreachable"
    """No connection came about: nothing was sent, and the same request may succeed."""
    NO_SUCH_SERVER = "no such server"
    """The host name is not known, or the server cannot prove who it is: seldom better a moment later."""
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


class Contact:
    """When a server last did what it was asked: one object for all requests of a client."""

    def __init__(self) -> None:
        self.reached: bool = False
        """Whether it ever answered."""
        self.heard: float = -math.inf
        """Time of the last answer, on the clock `time.monotonic`."""
        self.given_up: float = -math.inf
        """Time at which an outage had lasted too long."""

    def note(self) -> None:
        """Note an answer that shows no fault of the server."""
        self.reached, self.heard, self.given_up = True, time.monotonic(), -math.inf

    def patience(self, policy: Policy) -> float:
        """Return how many seconds of an outage are waited for: few where one was just given up.

        What tidies up after a failed save is not to wait once more for a server that is away.
        """
        outage = policy.outage()
        tidying = time.monotonic() - self.given_up < policy.reach
        return min(policy.reach, outage) if tidying else outage

    def give_up(self, fault: Fault) -> None:
        """Note that a request failed for good; of an outage, that nobody waits for its end any more."""
        if fault.kind in (Kind.TRANSIENT, Kind.UNREACHABLE):
            self.given_up = time.monotonic()

    def sort(self, fault: Fault) -> Fault:
        """Return a fault after noting what it says about the server: one that was there comes back."""
        if fault.status and fault.kind is not Kind.TRANSIENT:
            self.note()
        self.reached = self.reached or fault.status > 0
        if self.reached and fault.kind is Kind.NO_SUCH_SERVER:
            fault.kind = Kind.UNREACHABLE
        return fault


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a failed request is tried again."""

    patience: float | None = None
    """Seconds after the last request that the server completed; if not given, those of `VARIABLE`, or 60."""
    longest: float = 600.0
    """Seconds that any request may take, with all its tries, for a reply of a few bytes."""
    slowest: float = 1e6
    """Bytes a second: what a large reply may take longer than a small one."""
    reach: float = 2.0
    """Seconds during which an unknown host is tried again, and a server that was just given up."""
    tries: int = 4
    """Wrong replies at most: neither busy nor broken, a server that is at fault stays so."""
    first_wait: float = 0.1
    """Seconds before the second request; doubled for each further one, give or take a half."""
    longest_wait: float = 5.0
    """Seconds between two requests at most, whatever the server asks for."""

    def seconds(self, nbytes: int) -> float:
        """Return the deadline of a request that moves ``nbytes``."""
        return self.longest + nbytes / self.slowest

    def outage(self) -> float:
        """Return how many seconds of an outage are waited for.

        Raises
        ------
        StorageError
            The environment has no number there.
        """
        if self.patience is not None:
            return self.patience
        given = os.environ.get(VARIABLE, "60")
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise StorageError(
                f"{VARIABLE} is {given!r}", remedy="set it to a number of seconds, such as 60"
            ) from None
        return seconds


POLICY = Policy()
"""What every client follows."""

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
    fault: Fault, tried: int, silent: float, patience: float, chance: float, policy: Policy = POLICY
) -> float | None:
    """Return the seconds until a request is sent again; None where that is of no use.

    Parameters
    ----------
    fault : Fault
    tried : int
        Requests that were sent.
    silent : float
        Seconds since the server completed any request, or since the first of these was sent.
    patience : float
        Seconds of an outage that are waited for.
    chance : float
        0 to 1: clients that failed together do not come back together.
    policy : Policy
    """
    wait = max(policy.first_wait * 2 ** min(tried - 1, 30) * (0.5 + chance), fault.wait)
    wait = float(min(wait, policy.longest_wait))
    if fault.kind is Kind.NO_SUCH_SERVER:
        patience = min(policy.reach, patience)
    elif fault.kind not in (Kind.TRANSIENT, Kind.UNREACHABLE):
        return None
    if 200 <= fault.status < 300 and tried >= policy.tries:
        return None
    return wait if silent + wait < patience else None


def retried(
    attempt: Callable[[float], T], contact: Contact, *, nbytes: int = 0, policy: Policy = POLICY
) -> T:
    """Return what ``attempt`` returns, called with the seconds it may take until it raises no `Fault`.

    Raises
    ------
    Fault
        The last one.
    """
    begin = time.monotonic()
    end = begin + policy.seconds(nbytes)
    tried = 0
    while True:
        try:
            answer = attempt(max(end - time.monotonic(), 0.01))
        except Fault as fault:
            contact.sort(fault)
            tried += 1
            now = time.monotonic()
            silent = now - max(begin, contact.heard)
            chance = random.random()  # noqa: S311 - spread, not secrecy
            wait = next_wait(fault, tried, silent, contact.patience(policy), chance, policy)
            if wait is None or now + wait >= end:
                contact.give_up(fault)
                raise
        else:
            contact.note()
            return answer
        time.sleep(wait)
