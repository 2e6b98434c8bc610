"""Which failures are tried again, how often and for how long: no server, no waiting."""

from __future__ import annotations

import math
import time

import pytest

from archive.errors import StorageError
from archive.storage.remote.clients.retry import (
    POLICY,
    VARIABLE,
    Contact,
    Fault,
    Kind,
    Policy,
    fault_of_status,
    next_wait,
    retried,
)

OUTAGES = (Kind.TRANSIENT, Kind.UNREACHABLE)


@pytest.fixture
def slept(patience: None, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept; a clock that only they move."""
    monkeypatch.delenv(VARIABLE)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(waits))
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


class Server:
    """A server that fails in one way until a moment, and then answers."""

    def __init__(self, fault: Fault, until: float) -> None:
        self.fault, self.until = fault, until
        self.tried = 0

    def __call__(self, seconds: float) -> str:
        self.tried += 1
        if time.monotonic() < self.until:
            raise self.fault
        return "yes"


@pytest.mark.parametrize("kind", list(Kind))
def test_only_outages_are_tried_again(kind: Kind, slept: list[float]) -> None:
    server = Server(Fault(kind, "no"), math.inf)
    with pytest.raises(Fault):
        retried(server, Contact())
    if kind in OUTAGES:
        assert 45 < sum(slept) <= 60
        assert 12 <= server.tried <= 40
    elif kind is Kind.NO_SUCH_SERVER:
        assert 0 < sum(slept) <= POLICY.reach
    else:
        assert server.tried == 1


@pytest.mark.parametrize("kind", OUTAGES)
@pytest.mark.parametrize("seconds", [0.3, 1, 3, 10, 30, 50])
def test_an_outage_is_survived(kind: Kind, seconds: float, slept: list[float]) -> None:
    assert retried(Server(Fault(kind, "no"), seconds), Contact()) == "yes"
    assert sum(slept) < seconds + 1.5 * POLICY.longest_wait


def test_a_wrong_reply_is_no_outage(slept: list[float]) -> None:
    server = Server(Fault(Kind.TRANSIENT, "too short", status=206), math.inf)
    with pytest.raises(Fault):
        retried(server, Contact())
    assert server.tried == POLICY.tries
    assert sum(slept) < 2


def test_the_minute_begins_with_the_last_answer_to_anybody(slept: list[float]) -> None:
    contact = Contact()

    def attempt(seconds: float) -> str:
        if sum(slept) < 90:  # meanwhile other requests of the same client are answered
            contact.note()
        raise Fault(Kind.TRANSIENT, "no")

    with pytest.raises(Fault):
        retried(attempt, contact)
    assert 140 < sum(slept) <= 155


def test_a_server_that_was_there_comes_back(slept: list[float]) -> None:
    contact = Contact()
    assert retried(Server(Fault(Kind.REFUSED, "no"), 0), contact) == "yes"
    server = Server(Fault(Kind.NO_SUCH_SERVER, "the host name is not known"), 30)
    assert retried(server, contact) == "yes"


def test_an_outage_is_waited_out_once(slept: list[float]) -> None:
    """What tidies up after a failed request gives up soon; whoever comes later waits again."""
    contact = Contact()
    server = Server(Fault(Kind.UNREACHABLE, "no"), math.inf)
    waited = []
    for pause in (0, 0, 60):
        slept.append(pause)
        before = sum(slept)
        with pytest.raises(Fault):
            retried(server, contact)
        waited.append(sum(slept) - before)
    assert waited[0] > 45
    assert waited[1] <= POLICY.reach
    assert waited[2] > 45


def test_the_environment_decides(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "300")
    assert retried(Server(Fault(Kind.UNREACHABLE, "no"), 280), Contact()) == "yes"
    monkeypatch.setenv(VARIABLE, "0")
    with pytest.raises(Fault):
        retried(Server(Fault(Kind.UNREACHABLE, "no"), math.inf), Contact())
    for wrong in ("a minute", "-1", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(StorageError, match=VARIABLE):
            retried(Server(Fault(Kind.UNREACHABLE, "no"), math.inf), Contact())


def test_waits_double_and_are_spread() -> None:
    def wait(tried: int, chance: float = 0.5, asked: float = 0.0) -> float | None:
        return next_wait(Fault(Kind.TRANSIENT, "no", wait=asked), tried, 0, 60, chance)

    assert [wait(tried) for tried in (1, 2, 3, 4, 7, 99)] == [0.1, 0.2, 0.4, 0.8, 5.0, 5.0]
    assert wait(1, chance=0.0) == 0.05
    assert wait(1, asked=3.0) == 3.0
    assert wait(1, asked=300.0) == POLICY.longest_wait
    assert next_wait(Fault(Kind.TRANSIENT, "no"), 1, 59.95, 60, 0.5) is None


def test_the_deadline_holds(slept: list[float]) -> None:
    """However often the server answers others, one request ends."""
    policy = Policy(longest=7.0, slowest=100.0)
    contact = Contact()

    def attempt(seconds: float) -> None:
        contact.note()
        raise Fault(Kind.TRANSIENT, "no")

    for nbytes in (0, 1000):
        slept.clear()
        with pytest.raises(Fault):
            retried(attempt, contact, nbytes=nbytes, policy=policy)
        assert sum(slept) <= policy.seconds(nbytes) == 7.0 + nbytes / 100
