"""A client behind a proxy that breaks things: operations run at every fault, and what came of them."""

from __future__ import annotations

import itertools
import queue
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import ClientTimeout

import archive
from archive.errors import ArchiveError
from tests.servers.proxy import Fault, Proxy, Request
from tests.servers.s3 import BUCKET, S3Server
from tests.servers.web import WebServer

__all__ = ["OPERATIONS", "Bench", "Case", "Outcome", "arrays_of", "benches", "run_all"]

WORKERS = 6
SECONDS = 20.0
"""No operation may take longer, whatever happens: replies are waited for 0.6 s here, four times each."""


def arrays_of(version: int) -> dict[str, Any]:
    """Return the arrays of an archive; all versions have the same size."""
    make = np.random.default_rng(version)
    return {f"a{number}": make.integers(0, 99, 16_000, "i4") for number in range(6)} | {
        "large": make.integers(0, 99, (75, 1000), "i4")
    }


def _open(url: str, options: Any) -> Any:
    with archive.open(url, storage_options=options) as handle:
        return list(handle)


def _list(url: str, options: Any) -> Any:
    with archive.open(url, storage_options=options) as handle:
        return [(key, handle[key].shape, handle[key].dtype) for _, key in handle]


def _one(url: str, options: Any) -> Any:
    with archive.open(url, storage_options=options) as handle:
        return handle["a1"].numpy().tobytes()


def _slice(url: str, options: Any) -> Any:
    with archive.open(url, storage_options=options) as handle:
        return np.asarray(handle["large"][10:12]).tobytes()


def _load(url: str, options: Any) -> Any:
    loaded = archive.load(url, storage_options=options).array_records["model"]
    return {key: loaded[key].numpy().tobytes() for key in loaded}


def _verify(url: str, options: Any) -> Any:
    return bool(archive.verify(url, storage_options=options))


OPERATIONS: dict[str, Callable[[str, Any], Any]] = {
    "open": _open,
    "list": _list,
    "one": _one,
    "slice": _slice,
    "load": _load,
    "verify": _verify,
}


@dataclass
class Case:
    """One operation, one fault, one request."""

    operation: str
    fault: str
    index: int
    always: bool
    """At every request from ``index`` on, rather than at that one alone."""

    def plan(self, before: Callable[[], object] | None = None) -> Callable[[Request], Fault | None]:
        """Return when the proxy is to do it; what ends an upload always passes."""

        def plan(request: Request) -> Fault | None:
            due = request.number >= self.index if self.always else request.number == self.index
            if not due or (self.always and request.method == "DELETE"):
                return None
            if request.method == "HEAD" and " " in self.fault:
                return None  # its reply has no body that could name the code
            return Fault(self.fault, before)

        return plan


@dataclass
class Outcome:
    """What came of a case."""

    case: Case
    value: Any = None
    error: ArchiveError | None = None
    defect: str = ""
    """Why it is wrong; empty where it is not."""
    requests: int = 0
    seconds: float = 0.0


@dataclass
class Bench:
    """A proxy, an object of its own, and the options to reach it."""

    server: S3Server
    proxy: Proxy
    key: str
    options: dict[str, Any] = field(default_factory=dict)
    web: WebServer | None = None
    """Read from there, by http."""

    @property
    def url(self) -> str:
        return f"{self.proxy.endpoint}/plain/{self.key}" if self.web else f"s3://{BUCKET}/{self.key}"

    def put(self, data: bytes) -> None:
        """Make the object, behind the proxy's back."""
        if self.web:
            self.web.place(self.key, data)
            self.proxy.contents[f"/plain/{self.key}"] = data
            return
        self.proxy.contents[f"/{BUCKET}/{self.key}"] = data
        self.server.client.put_object(Bucket=BUCKET, Key=self.key, Body=data)

    def get(self) -> bytes | None:
        """Return the object, behind the proxy's back."""
        try:
            return bytes(self.server.client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read())
        except self.server.client.exceptions.NoSuchKey:
            return None

    def remove(self) -> None:
        """Delete the object, behind the proxy's back."""
        if self.web:
            del self.web.objects[self.key]
            return
        self.server.client.delete_object(Bucket=BUCKET, Key=self.key)

    def run(
        self,
        case: Case,
        work: Callable[[], Any],
        *,
        most: int,
        before: Callable[[], object] | None = None,
        seconds: float = SECONDS,
    ) -> Outcome:
        """Run one case; every error but ours, and more requests or time than allowed, is a defect."""
        outcome = Outcome(case)
        self.proxy.reset(case.plan(before))
        begin = time.monotonic()
        try:
            outcome.value = work()
        except ArchiveError as error:
            outcome.error = error
        except Exception:  # noqa: BLE001 - whatever it is, it is the defect that is looked for
            outcome.defect = traceback.format_exc(limit=-4)
        outcome.seconds = time.monotonic() - begin
        outcome.requests = len(self.proxy.seen)
        self.proxy.plan = None
        if outcome.requests > most:
            outcome.defect = f"{outcome.requests} requests, {most} are allowed"
        if outcome.seconds > seconds:
            outcome.defect = f"{outcome.seconds:.1f} s"
        return outcome

    def count(self, work: Callable[[], Any]) -> int:
        """Return the requests of an operation that nothing disturbs."""
        self.proxy.reset()
        work()
        return len(self.proxy.seen)


@contextmanager
def benches(
    server: S3Server,
    folder: str,
    count: int = WORKERS,
    web: WebServer | None = None,
    *,
    silence: float = 0.6,
) -> Iterator[list[Bench]]:
    """Set up as many as work side by side, before the S3 server or a web server.

    ``silence`` is for how many seconds a server may say nothing.
    """
    with ExitStack() as stack:
        made = []
        for number in range(count):
            proxy = stack.enter_context(Proxy(web.endpoint if web else server.endpoint))
            options = server.options(proxy.endpoint, read_timeout=silence)
            if web:
                options = {"client_kwargs": {"timeout": ClientTimeout(sock_connect=2, sock_read=silence)}}
            made.append(Bench(server, proxy, f"{folder}/{number}.h5", options, web))
        yield made


def run_all(made: list[Bench], cases: Iterable[Case], run: Callable[[Bench, Case], Outcome]) -> list[Outcome]:
    """Run cases side by side, each on a bench of its own."""
    free: queue.SimpleQueue[Bench] = queue.SimpleQueue()
    for bench in made:
        free.put(bench)

    def one(case: Case) -> Outcome:
        bench = free.get()
        try:
            return run(bench, case)
        finally:
            free.put(bench)

    with ThreadPoolExecutor(len(made)) as pool:
        return list(pool.map(one, cases))


def all_cases(operation: str, faults: Iterable[str], requests: int) -> list[Case]:
    """Return every fault at every request, once and from then on."""
    return [
        Case(operation, fault, index, always)
        for index, fault, always in itertools.product(range(requests), faults, (False, True))
    ]
