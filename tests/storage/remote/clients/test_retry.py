"""Which failures are tried again, how often and for how long: no server, no waiting."""

from __future__ import annotations

import pytest

from archive.storage.remote.clients import retry
from archive.storage.remote.clients.retry import (
    POLICY,
    Fault,
    Kind,
    Policy,
    fault_of_status,
    next_wait,
    retried,
)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept; a clock that only they move."""
    waits: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    monkeypatch.setattr(retry.time, "monotonic", lambda: sum(waits))
    return waits


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Kind.TRANSIENT) for status in (408, 429, 500, 502, 503, 504, 521)),
        *((status, Kind.DENIED) for status in (401, 403)),
        *((status, Kind.CONFLICT) for status in (409, 412)),
        *((status, Kind.REFUSED) for status in (301, 400, 418)),
        (404, Kind.MISSING),
        (416, Kind.RANGE),
        (501, Kind.UNSUPPORTED),
    ],
)
def test_statuses(status: int, kind: Kind) -> None:
    assert fault_of_status(status, "refused").kind is kind


@pytest.mark.parametrize("kind", list(Kind))
def test_tries(kind: Kind, slept: list[float]) -> None:
    tried = []

    def attempt(seconds: float) -> None:
        tried.append(seconds)
        raise Fault(kind, "no")

    with pytest.raises(Fault):
        retried(attempt)
    assert len(tried) == (POLICY.tries if kind in (Kind.TRANSIENT, Kind.UNREACHABLE) else 1)
    assert sum(slept) < 2


def test_the_first_success_is_returned(slept: list[float]) -> None:
    answers = [Fault(Kind.TRANSIENT, "no"), Fault(Kind.TRANSIENT, "no"), "yes"]

    def attempt(seconds: float) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Fault):
            raise answer
        return answer

    assert retried(attempt) == "yes"
    assert len(slept) == 2


def test_waits_double_and_are_spread() -> None:
    fault = Fault(Kind.TRANSIENT, "no")
    assert [next_wait(fault, tried, 0, 0.5) for tried in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, None]
    assert next_wait(fault, 1, 0, 0.0) == 0.05
    assert next_wait(Fault(Kind.TRANSIENT, "no", wait=3.0), 1, 0, 0.5) == 3.0
    assert next_wait(Fault(Kind.TRANSIENT, "no", wait=300.0), 1, 0, 0.5) == POLICY.longest_wait


def test_what_cannot_be_reached_is_given_up_early() -> None:
    assert next_wait(Fault(Kind.UNREACHABLE, "no"), 1, POLICY.reach, 0.5) is None


def test_the_deadline_holds(slept: list[float]) -> None:
    policy = Policy(tries=1000, deadline=7.0, slowest=100.0)

    def attempt(seconds: float) -> None:
        raise Fault(Kind.TRANSIENT, "no")

    for nbytes in (0, 1000):
        slept.clear()
        with pytest.raises(Fault):
            retried(attempt, nbytes=nbytes, policy=policy)
        assert sum(slept) <= policy.seconds(nbytes) == 7.0 + nbytes / 100
