"""A server goes away, and comes back: whatever was under way ends with exact bytes.

For 0.3 to 30 s connections are refused, from any request of an operation on; those that stood are broken.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import archive
from archive.tools.copying import copy
from tests.faults.broken import OPERATIONS, Bench, Case, Outcome, arrays_of, benches, run_all
from tests.servers.s3 import S3Server
from tests.servers.web import web_server

CREATED = "2026-01-01T00:00:00Z"
QUICK = ((0.3,), 1)
WHOLE = ((0.3, 1.0, 3.0, 10.0, 30.0), 12)
SECONDS = 100
"""Of one operation: the outage, the wait after it, and twelve operations side by side on one machine."""
SPEED = pytest.mark.parametrize(
    ("lengths", "workers"), [QUICK, pytest.param(*WHOLE, marks=pytest.mark.slow)], ids=["brief", "long"]
)


def drain(url: str, options: Any) -> Any:
    with archive.open(url, storage_options=options) as handle:
        return {key: array.numpy().tobytes() for (_, key), array in handle.drain()}


def save(bench: Bench) -> object:
    archive.save(arrays_of(1), bench.url, created=CREATED, storage_options=bench.options)
    return None


def create(bench: Bench) -> object:
    with archive.create(bench.url, created=CREATED, storage_options=bench.options) as writer:
        for key, values in arrays_of(1).items():
            writer.add("model", key, values)
    return None


def all_phases(operation: str, lengths: Sequence[float], requests: int) -> list[Case]:
    """Return an outage of each length at every request; one brief outage in the middle otherwise."""
    begins = [requests // 2] if len(lengths) == 1 else range(requests)
    return [Case(operation, f"away {length}", begin, False) for length in lengths for begin in begins]


def judge(outcomes: list[Outcome], figures: Callable[[str], None], what: str) -> None:
    longest = max(outcome.seconds for outcome in outcomes)
    kinds = Counter(type(outcome.error).__name__ if outcome.error else "exact" for outcome in outcomes)
    figures(f"{what}: {len(outcomes)} outages ({dict(kinds)}), {longest:.1f} s at most")
    wrong = [
        f"{outcome.case}: {outcome.defect or outcome.error}"
        for outcome in outcomes
        if outcome.defect or outcome.error
    ]
    assert not wrong, "\n".join(wrong)


@SPEED
@pytest.mark.parametrize("client", ["s3", pytest.param("http", marks=pytest.mark.slow)])
def test_reading(
    server: S3Server, small: None, tmp_path: Path, figures: Any, client: str, lengths: Any, workers: int
) -> None:
    archive.save(arrays_of(0), tmp_path / "a.h5", created=CREATED)
    operations = OPERATIONS | {"drain": drain} if len(lengths) > 1 else {"drain": drain}
    with (
        web_server() as web,
        benches(server, uuid.uuid4().hex, workers, web if client == "http" else None) as made,
    ):
        for bench in made:
            bench.put((tmp_path / "a.h5").read_bytes())
        expected, cases = {}, []
        for name, operation in operations.items():
            expected[name] = operation(made[0].url, made[0].options)
            requests = made[0].count(lambda operation=operation: operation(made[0].url, made[0].options))
            cases += all_phases(name, lengths, requests)

        def run(bench: Bench, case: Case) -> Outcome:
            work = operations[case.operation]
            outcome = bench.run(case, lambda: work(bench.url, bench.options), most=200, seconds=SECONDS)
            if not outcome.error and outcome.value != expected[case.operation]:
                outcome.defect = outcome.defect or "wrong bytes"
            return outcome

        judge(run_all(made, cases, run), figures, f"reading by {client}")


@SPEED
@pytest.mark.parametrize(
    "how", ["save", *(pytest.param(how, marks=pytest.mark.slow) for how in ("create", "cp"))]
)
def test_writing(
    server: S3Server, small: None, tmp_path: Path, figures: Any, how: str, lengths: Any, workers: int
) -> None:
    local = str(tmp_path / "a.h5")
    archive.save(arrays_of(1), local, created=CREATED)
    wanted = Path(local).read_bytes()

    def cp(bench: Bench) -> object:
        return copy(local, bench.url, out_options=bench.options)

    work = {"save": save, "create": create, "cp": cp}[how]
    with benches(server, uuid.uuid4().hex, workers) as made:
        for bench in made:  # connections, and whether the store is exclusive, are not what is counted
            work(bench)
        requests = made[0].count(lambda: work(made[0]))
        cases = all_phases(how, lengths, requests)

        def run(bench: Bench, case: Case) -> Outcome:
            bench.put(b"old")
            outcome = bench.run(case, lambda: work(bench), most=200, seconds=SECONDS)
            if not outcome.error and bench.get() != wanted:
                outcome.defect = outcome.defect or "not the object that was saved"
            if server.uploads(bench.key):
                outcome.defect = outcome.defect or "an upload is left"
            return outcome

        judge(run_all(made, cases, run), figures, how)
