"""Random operations under random faults: none outlives its deadline, none ends but as it must.

Every request of every operation has a chance of each fault that `tests.servers.proxy` knows, an outage among
them; seeds make a run repeatable. What hangs is stopped by pytest's own limit, which prints all threads.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import archive
from archive.errors import ArchiveError
from archive.storage.remote.clients.retry import POLICY, retried
from archive.tools.collection import collect_garbage
from archive.tools.copying import copy
from tests.faults.broken import OPERATIONS, Bench, Case, Outcome, arrays_of, benches, run_all
from tests.servers.proxy import READ_FAULTS, WRITE_FAULTS, Request
from tests.servers.s3 import BUCKET, S3Server

CREATED = "2026-01-01T00:00:00Z"
PATIENT = replace(POLICY, patience=4.0, reach=0.2)
SECONDS = 90.0
"""Of one operation: about 20 requests, of which each may see a silence of 0.6 s and an outage of 4 s."""
REQUESTS = 2_000
"""More than any operation makes: what asks for ever ends here."""
CHANCES = (0.02, 0.1, 0.4)


@dataclass
class Shaken(Case):
    """A case whose every request has a chance of a fault."""

    chance: float = 0.0

    def plan(self, before: Callable[[], object] | None = None) -> Callable[[Request], Any]:
        """Return a plan that the seed decides, and the order of requests."""
        chosen = random.Random(self.index)

        def plan(request: Request) -> str | None:
            if chosen.random() >= self.chance:
                return None
            if chosen.random() < 0.03:
                return "away 0.3"
            faults = READ_FAULTS if request.method in ("GET", "HEAD") else WRITE_FAULTS
            fault = chosen.choice(faults)
            # an answer without a body cannot name a code
            return None if request.method == "HEAD" and " " in fault else fault

        return plan


@dataclass
class Work:
    """One operation, and what its object may hold afterwards."""

    run: Callable[[Bench], object]
    after: tuple[bytes, ...]
    exact: object = None
    """What it returns; not looked at if None."""


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages are waited for, but not a minute."""
    assert retried.__kwdefaults__ is not None
    monkeypatch.setitem(retried.__kwdefaults__, "policy", PATIENT)


def make_works(made: list[Bench], folder: Path) -> dict[str, Work]:
    """Return every operation that asks a server for something."""
    local = [str(folder / f"{version}.h5") for version in (0, 1)]
    for version in (0, 1):
        archive.save(arrays_of(version), local[version], created=CREATED)
    old, new = (Path(path).read_bytes() for path in local)

    def read(operation: Callable[[str, Any], Any]) -> Work:
        made[0].put(old)
        return Work(
            lambda bench: operation(bench.url, bench.options),
            (old,),
            operation(made[0].url, made[0].options),
        )

    def save(bench: Bench) -> None:
        archive.save(arrays_of(1), bench.url, created=CREATED, storage_options=bench.options)

    def create(bench: Bench) -> None:
        with archive.create(bench.url, created=CREATED, storage_options=bench.options) as writer:
            for key, values in arrays_of(1).items():
                writer.add("model", key, values)

    def cached(bench: Bench) -> object:
        place = folder / f"cache-{bench.proxy.port}"
        with archive.open(bench.url, storage_options=bench.options, cache=place) as handle:
            return handle["a1"].numpy().tobytes()

    def mean(bench: Bench) -> None:
        archive.mean(
            [bench.url, bench.url],
            out=bench.url,
            overwrite=True,
            created=CREATED,
            storage_options=bench.options,
        )

    def download(bench: Bench) -> bytes:
        place = folder / f"copy-{bench.proxy.port}.h5"
        copy(bench.url, str(place), storage_options=bench.options)
        return place.read_bytes()

    def sweep(bench: Bench) -> None:
        folder = f"s3://{BUCKET}/{bench.key.rpartition('/')[0]}"
        collect_garbage(folder, older_than=0, dry_run=True, storage_options=bench.options)

    works = {name: read(operation) for name, operation in OPERATIONS.items()}
    works |= {
        "cached": Work(cached, (old,), arrays_of(0)["a1"].tobytes()),
        "download": Work(download, (old,), old),
        "save": Work(save, (old, new)),
        "create": Work(create, (old, new)),
        "upload": Work(lambda bench: copy(local[1], bench.url, out_options=bench.options), (old, new)),
        "gc": Work(sweep, (old,)),
    }
    made[0].put(old)
    mean(made[0])
    averaged = made[0].get()
    assert averaged is not None
    return works | {"mean": Work(mean, (old, averaged))}


@pytest.mark.parametrize(
    ("count", "workers"),
    [(7, 2), pytest.param(5_000, 8, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
    ids=["some", "all"],
)
def test_no_operation_outlives_its_deadline(
    server: S3Server, small: None, tmp_path: Path, figures: Any, count: int, workers: int
) -> None:
    with benches(server, uuid.uuid4().hex, workers) as made:
        works = make_works(made, tmp_path)
        names = sorted(works)
        cases = [
            Shaken(names[seed % len(names)], "shaken", seed, True, CHANCES[seed % len(CHANCES)])
            for seed in range(count)
        ]
        old = works["open"].after[0]

        def run(bench: Bench, case: Case) -> Outcome:
            work = works[case.operation]
            bench.put(old)
            outcome = bench.run(case, lambda: work.run(bench), most=REQUESTS, seconds=SECONDS)
            done = outcome.error is None and not outcome.defect
            found = bench.get()
            if found not in work.after:
                outcome.defect = outcome.defect or "neither the old object nor the new one"
            elif done and found != work.after[-1]:
                outcome.defect = "it returned, and the object is not the new one"
            elif done and work.exact is not None and outcome.value != work.exact:
                # what is damaged on the way twice is what `verify` reports
                damage = case.operation == "verify" and outcome.value is False
                outcome.defect = "" if damage else "wrong bytes"
            return outcome

        outcomes = run_all(made, cases, run)
    kinds = Counter(type(outcome.error).__name__ if outcome.error else "done" for outcome in outcomes)
    longest = max(outcomes, key=lambda outcome: outcome.seconds)
    figures(
        f"{len(outcomes)} operations ({dict(kinds)}); {longest.case.operation} took longest, "
        f"{longest.seconds:.1f} s; at most {max(outcome.requests for outcome in outcomes)} requests"
    )
    assert all(isinstance(outcome.error, ArchiveError | None) for outcome in outcomes)
    wrong = [f"{outcome.case}: {outcome.defect}" for outcome in outcomes if outcome.defect]
    assert not wrong, f"{len(wrong)} of {len(outcomes)}:\n" + "\n".join(wrong[:10])
    assert kinds["done"] > count // 3, "hardly any operation went through: nothing was shown"
