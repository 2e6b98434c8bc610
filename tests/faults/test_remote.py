"""S1 to S10 of the fault plan: a real server behind a proxy that breaks things, at every request.

A sample runs in `poe check` on moto's server; `poe s3` runs everything on Ceph.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, ExistsError, MissingError, StorageError
from archive.storage.location import locate_store
from archive.storage.remote.clients.retry import POLICY, retried
from archive.storage.url import parse_url
from tests.faults.broken import (
    OPERATIONS,
    Bench,
    Case,
    Outcome,
    all_cases,
    arrays_of,
    benches,
    run_all,
)
from tests.servers.proxy import READ_FAULTS, WRITE_FAULTS
from tests.servers.s3 import BUCKET, S3Server, free_port
from tests.servers.web import web_server

WHOLE = "FEDARCHIVE_S3" in os.environ
"""Whether every case runs, or a sample."""
WORKERS = 6 if WHOLE else 2
QUICK = replace(POLICY, patience=1.6, reach=0.4)
"""Replies are waited for 0.6 s: a second silence is too many. After an outage that was given up, which the
case before may have been, one fault is still survived."""
TRIES = 8
"""Times that a request is sent at most: the waits between them grow from 0.05 to 3 s."""
Figures = Callable[[str], None]


@pytest.fixture
def made(server: S3Server, small: None) -> Iterator[list[Bench]]:
    with benches(server, uuid.uuid4().hex, WORKERS) as made:
        yield made


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    """No outage is waited out."""
    assert retried.__kwdefaults__ is not None
    monkeypatch.setitem(retried.__kwdefaults__, "policy", QUICK)


@pytest.fixture(params=["s3", pytest.param("http", marks=pytest.mark.slow)])
def readers(
    request: pytest.FixtureRequest,
    server: S3Server,
    small: None,
    client: None,
) -> Iterator[list[Bench]]:
    """Benches of each client that reads."""
    with (
        web_server() as web,
        benches(server, uuid.uuid4().hex, WORKERS, web if request.param == "http" else None) as made,
    ):
        yield made


@pytest.fixture
def versions(tmp_path: Any) -> list[bytes]:
    """Two archives of the same size."""
    found = []
    for version in (0, 1):
        path = tmp_path / f"{version}.h5"
        archive.save(arrays_of(version), path, created="2026-01-01T00:00:00Z")
        found.append(path.read_bytes())
    assert len(found[0]) == len(found[1])
    return found


def sample(cases: list[Case], every: int) -> list[Case]:
    """Return all cases; or some, the same each time, and none that waits long."""
    return cases if WHOLE else [case for case in cases if not case.fault.startswith("stall")][::every]


def count(bench: Bench, operation: Callable[[str, Any], Any]) -> int:
    """Return the requests of an operation that nothing disturbs."""
    return bench.count(lambda: operation(bench.url, bench.options))


def judge(outcomes: list[Outcome], figures: Figures, what: str) -> None:
    """Print the figures, and fail where anything was wrong."""
    kinds = Counter(type(outcome.error).__name__ if outcome.error else "exact" for outcome in outcomes)
    most = max(outcome.requests for outcome in outcomes)
    longest = max(outcome.seconds for outcome in outcomes)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    figures(f"{what}: {len(outcomes)} cases ({counted}); at most {most} requests, {longest:.1f} s")
    wrong = [f"{outcome.case}: {outcome.defect}" for outcome in outcomes if outcome.defect]
    assert not wrong, f"{len(wrong)} of {len(outcomes)}:\n" + "\n".join(wrong[:10])


def test_reading(readers: list[Bench], versions: list[bytes], figures: Figures) -> None:
    """S1 to S3: exact bytes or a typed error, in bounded requests and time."""
    expected: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for bench in readers:
        bench.put(versions[0])
    cases = []
    for name, operation in OPERATIONS.items():
        bench = readers[0]
        expected[name] = operation(bench.url, bench.options)
        counts[name] = count(bench, operation)
        cases += all_cases(name, READ_FAULTS, counts[name])

    def run(bench: Bench, case: Case) -> Outcome:
        work = OPERATIONS[case.operation]
        clean = counts[case.operation]
        # what a digest refuses is fetched once more, and aiohttp itself repeats a request, once, on a kept
        # connection that turns out to be closed: 8 are kept
        most = TRIES * clean + 16 if case.always else clean + 6
        outcome = bench.run(case, lambda: work(bench.url, bench.options), most=most)
        if outcome.defect or outcome.error:
            return outcome
        if outcome.value != expected[case.operation]:
            damage = case.operation == "verify" and case.always and outcome.value is False
            outcome.defect = "" if damage else "wrong bytes"
        return outcome

    outcomes = run_all(readers, sample(cases, 100), run)
    lasting = [outcome for outcome in outcomes if outcome.error and not outcome.case.always]
    for outcome in lasting:
        outcome.defect = outcome.defect or f"one fault was not survived: {outcome.error}"
    judge(outcomes, figures, f"reading {bench.url.partition(':')[0]}, {counts} requests")


def test_replaced_at_every_request(readers: list[Bench], versions: list[bytes], figures: Figures) -> None:
    """S4: of one version, or a typed error."""
    bench = readers[0]
    bench.put(versions[0])
    allowed: dict[str, list[Any]] = {}
    cases = []
    for name, operation in OPERATIONS.items():
        allowed[name] = []
        for data in versions:
            bench.put(data)
            allowed[name].append(operation(bench.url, bench.options))
        requests = count(bench, operation)
        cases += [
            Case(name, how, index, False) for how in ("same", "short", "gone") for index in range(requests)
        ]

    def run(bench: Bench, case: Case) -> Outcome:
        bench.put(versions[0])
        change = {
            "same": lambda: bench.put(versions[1]),
            "short": lambda: bench.put(versions[1][:100_000]),
            "gone": bench.remove,
        }[case.fault]
        quiet = Case(case.operation, "", case.index, False)
        work = OPERATIONS[case.operation]
        outcome = bench.run(quiet, lambda: work(bench.url, bench.options), most=40, before=change)
        outcome.case = case
        if not outcome.error and not outcome.defect and outcome.value not in allowed[case.operation]:
            outcome.defect = f"a mixture of versions: {str(outcome.value)[:80]}"
        return outcome

    judge(run_all(readers, sample(cases, 50), run), figures, "replaced, cut or removed")


def save(bench: Bench, how: str = "parts", overwrite: bool = True) -> None:
    """Save an archive: of one request, of many, or array by array."""
    arrays = arrays_of(1)
    settings: dict[str, Any] = {
        "overwrite": overwrite,
        "created": "2026-01-01T00:00:00Z",
        "storage_options": bench.options,
    }
    if how == "stream":
        with archive.create(bench.url, **settings) as writer:
            for key, values in arrays.items():
                writer.add("model", key, values)
        return
    archive.save({"a": arrays["a1"][:100]} if how == "one object" else arrays, bench.url, **settings)


@pytest.mark.parametrize(
    ("how", "overwrite"),
    [
        ("one object", False),
        pytest.param("parts", True, marks=pytest.mark.slow),
        pytest.param("parts", False, marks=pytest.mark.slow),
        pytest.param("one object", True, marks=pytest.mark.slow),
        pytest.param("stream", True, marks=pytest.mark.slow),
        pytest.param("stream", False, marks=pytest.mark.slow),
    ],
)
def test_writing(made: list[Bench], figures: Figures, server: S3Server, how: str, overwrite: bool) -> None:
    """S6 to S8: the old object or the new one; nothing left behind; no conflict with ourselves."""
    if not overwrite and how != "one object" and not server.conditional_multipart:
        pytest.skip("this server ignores preconditions on uploads in parts, so that such a save is refused")
    bench = made[0]
    for other in made:
        save(
            other, how, overwrite
        )  # connections, and whether the store is exclusive, are not what is counted
    new = bench.get()
    assert new is not None

    def prepare(bench: Bench) -> None:
        bench.put(b"old") if overwrite else bench.remove()

    prepare(bench)
    requests = bench.count(lambda: save(bench, how, overwrite))
    cases = all_cases("save", WRITE_FAULTS, requests)

    def run(bench: Bench, case: Case) -> Outcome:
        prepare(bench)
        # after the last try it is asked whether the object is there, before each abort likewise
        most = 2 * TRIES * requests + 16
        outcome = bench.run(case, lambda: save(bench, how, overwrite), most=most)
        found = bench.get()
        old = b"old" if overwrite else None
        if outcome.defect:
            return outcome
        if outcome.error is None and found != new:
            outcome.defect = "it returned, and the object is not the new one"
        elif found not in (old, new):
            outcome.defect = "neither the old object nor the new one"
        elif outcome.error and not case.always:
            outcome.defect = f"one fault was not survived: {outcome.error}"
        elif isinstance(outcome.error, ExistsError):
            outcome.defect = "a conflict with ourselves"
        left = server.uploads(bench.key)
        # where no answer ever comes, nobody hears of it
        unheard = case.fault in ("lost", "short") and case.always
        if left and not unheard:
            outcome.defect = f"{len(left)} uploads left behind"
        for pending in locate_store(parse_url(bench.url, server.options()))[0].list_multipart(
            f"{BUCKET}/{bench.key}"
        ):
            server.client.abort_multipart_upload(Bucket=BUCKET, Key=bench.key, UploadId=pending.upload)
        return outcome

    outcomes = run_all(made, sample(cases, 5 if how == "one object" else 50), run)
    what = f"saving {how}, overwrite={overwrite}, {requests} requests"
    judge(outcomes, figures, what)


@pytest.mark.slow
@pytest.mark.skipif(not WHOLE, reason="takes a process for each request; run by `poe s3`")
def test_killed_at_every_request(made: list[Bench], server: S3Server, figures: Figures) -> None:
    """S6: a client that dies leaves no object, at most an upload that can be found and aborted."""
    bench = made[0]
    requests = bench.count(lambda: save(bench))
    new = bench.get()
    found = 0
    for index in range(requests):
        bench.put(b"old")
        start = os.pipe()
        child = os.fork()
        if not child:
            os.read(start[0], 1)
            save(bench)
            os._exit(0)
        plan = Case("save", "stall", index, True).plan(lambda child=child: os.kill(child, signal.SIGKILL))
        bench.proxy.reset(plan)
        os.write(start[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        # where an answer proves nothing (Ceph's), the object is asked for after it was published
        before = bench.proxy.seen[:index]
        published = any(seen.method == "POST" and "uploadId=" in seen.target for seen in before)
        assert bench.get() == (new if published else b"old")
        store, path = locate_store(parse_url(bench.url, server.options()))
        for pending in store.list_multipart(path):
            assert abs(time.time() - pending.started) < 600
            store.abort(pending)
            found += 1
        assert server.uploads(bench.key) == []
        for end in start:
            os.close(end)
    figures(
        f"killed at {requests} requests: old object until it is published, {found} uploads found and aborted"
    )


def test_two_writers_create_once(server: S3Server, figures: Figures) -> None:
    """S9: of two that create the same object, one does."""
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}/m.h5"
    rounds = 20 if WHOLE else 4

    def write(number: int) -> str:
        try:
            arrays = {"w": np.full(10, number)}
            archive.save(arrays, f"{url}.{number // 4}", overwrite=False, storage_options=server.options())
        except ExistsError:
            return "lost"
        return "won"

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(write, range(4 * rounds)))
    for first in range(0, 4 * rounds, 4):
        assert Counter(results[first : first + 4]) == {"won": 1, "lost": 3}
    figures(f"{rounds} races of 4 writers: one won each")


def test_a_listing_is_never_remembered(server: S3Server, versions: list[bytes]) -> None:
    """S5: what another process wrote is seen, also where the user asked s3fs to remember listings."""
    options = {**server.options(), "use_listings_cache": True}
    folder = uuid.uuid4().hex
    store, path = locate_store(parse_url(f"s3://{BUCKET}/{folder}/m.h5", options))
    for data in (b"short", versions[0], versions[1]):
        server.client.put_object(Bucket=BUCKET, Key=f"{folder}/m.h5", Body=data)
        assert [entry.nbytes for entry in store.list(f"{BUCKET}/{folder}")] == [len(data)]
        assert bytes(store.get_suffix(path, 1 << 20)[0]) == data


SECRET = "a-secret-that-nobody-may-see"


def refusals(server: S3Server, proxy_endpoint: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return what can be wrong with a way to a server: URL and options."""
    url = f"s3://{BUCKET}/refused.h5"
    good = {**server.options(), "secret": SECRET, "token": SECRET}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
    return {
        "no-credentials": (url, {"endpoint_url": server.endpoint}),
        "half-credentials": (url, {"endpoint_url": server.endpoint, "key": "AKIDHALF"}),
        "no-such-bucket": ("s3://no-such-bucket/m.h5", server.options()),
        "no-such-host": (url, {**good, "endpoint_url": "http://nowhere.invalid"}),
        "nobody-listens": (url, {**good, "endpoint_url": f"http://127.0.0.1:{free_port()}"}),
        "no-endpoint": (url, {**good, "endpoint_url": "not a url"}),
        "no-such-option": (url, {**good, "nonsense": 1}),
        "no-such-profile": (url, {"profile": "nobody"}),
        **{
            name: (url, {**good, "endpoint_url": proxy_endpoint})
            for name in ("400 ExpiredToken", "403 AccessDenied", "403 RequestTimeTooSkewed")
        },
        **{
            name: (url, {**good, "endpoint_url": proxy_endpoint})
            for name in ("301 PermanentRedirect", "400 AuthorizationHeaderMalformed")
        },
    }


def enter(writing: bool, url: str, options: dict[str, Any]) -> None:
    """Try to get in."""
    if writing:
        archive.save({"w": np.ones(3)}, url, storage_options=options)
    else:
        archive.open(url, storage_options=options)


CAUSES = sorted(refusals(S3Server("", "", "", ""), ""))


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("writing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_way_in(
    server: S3Server, made: list[Bench], monkeypatch: pytest.MonkeyPatch, cause: str, writing: bool
) -> None:
    """S10: a typed error within 5 s, of few requests, without a secret."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    proxy = made[0].proxy
    url, options = refusals(server, proxy.endpoint)[cause]
    for _ in range(3):  # a busy machine may be late; what waits by design is late each time
        proxy.reset(lambda request: cause)
        begin = time.monotonic()
        with pytest.raises(ArchiveError) as caught:
            enter(writing, url, options)
        seconds = time.monotonic() - begin
        if seconds < 5:
            break
    else:
        pytest.fail(f"it took {seconds:.1f} s")
    assert isinstance(caught.value, StorageError | MissingError | ValueError)
    assert len(proxy.seen) <= 12  # botocore itself asks where a bucket that moved is
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text
    assert server.secret not in text
    assert str(caught.value).count(";") >= 1  # what to do about it
