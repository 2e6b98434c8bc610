"""Means of objects with partial sums in objects: killed at random moments, and gone on from.

``poe s3`` kills at 20 moments, or as many as FEDARCHIVE_MOMENTS says; without a server of one's own at 3.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import archive
from tests.acceptance.samples import CREATED
from tests.children import ROOT, child_environment
from tests.servers.proxy import Proxy, Request
from tests.servers.s3 import BUCKET, S3Server
from tests.tools.test_batches import Counted, save_clients

pytestmark = pytest.mark.timeout(3600)
CLIENTS, BATCH, SUMS = 27, 3, 12
"""Nine sums of batches, three of groups, and the mean."""
MOMENTS = int(os.environ.get("FEDARCHIVE_MOMENTS", "20" if "FEDARCHIVE_S3" in os.environ else "3"))
WAYS = ["serial", "pool", *(["dask"] if importlib.util.find_spec("distributed") else [])]
PARTIAL = re.compile(r"/[0-9a-f]{32}\.sum\.h5(?=\?|$)")


def sums_published(seen: list[Request]) -> dict[str, int]:
    """Return how often each partial sum was computed and published, and fail where one was that was there.

    Who computes one looks for it first: what is sent twice without a look between was sent again, because no
    answer came. More than once is right where a call was killed while it removed its sums.
    """
    published: dict[str, int] = defaultdict(int)
    looked, there = set[str](), set[str]()
    for request in seen:
        match = PARTIAL.search(request.target)
        if match is None or request.status not in (200, 204, 206, 404):
            continue  # where nothing was answered, a later look tells
        key = match[0]
        if request.method == "GET":
            looked.add(key)
            if request.status != 404 and key not in there:
                there.add(key)
                published[key] += 1
        elif request.method == "DELETE":
            there.discard(key)
        elif is_publication(request) and key in looked:
            assert key not in there, f"{key} was there, and was computed again"
            there.add(key)
            looked.discard(key)
            published[key] += 1
    return published


def is_publication(request: Request) -> bool:
    """Tell whether a request makes an object appear."""
    query = request.target.partition("?")[2]
    return (request.method == "PUT" and "uploadId" not in query) or (
        request.method == "POST" and "uploadId" in query
    )


@contextlib.contextmanager
def child(server: S3Server, case: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start a mean in a group of processes of its own, which ends with this.

    What goes to workers holds no secrets: they find them in the environment.
    """
    secrets = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
    command = [sys.executable, "-W", "ignore", "-m", "tests.acceptance.meanchild", json.dumps(case)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=child_environment(**secrets),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finish(server: S3Server, case: dict[str, Any]) -> None:
    """Compute a mean to its end."""
    with child(server, case) as (process, _):
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint[-3000:]


@pytest.mark.slow
def test_killed_at_random_moments(
    tmp_path: Path, server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = uuid.uuid4().hex
    paths = save_clients(tmp_path, CLIENTS, large=(600, 500))
    for path in paths:
        server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path.name}", Body=path.read_bytes())
    archive.mean(paths, out=tmp_path / "local.h5", batch=BATCH, created=CREATED)
    wanted, chance, told = (tmp_path / "local.h5").read_bytes(), random.Random(21), list[str]()
    with Proxy(server.endpoint) as proxy:
        case = case_of(server, proxy, prefix, paths)
        requests = {}
        for way in WAYS:
            proxy.reset()
            finish(server, case | {"by": way})
            requests[way] = len(proxy.seen)
            require_mean(server, prefix, wanted)
        for moment in range(MOMENTS):
            way, after = WAYS[moment % len(WAYS)], WAYS[-1 - moment % 2]
            proxy.reset()
            kill(server, case | {"by": way}, proxy, chance.randrange(requests[way]))
            there = len(server.keys(f"{prefix}-sums/"))
            finish(server, case | {"by": after})
            require_mean(server, prefix, wanted)
            counts = sums_published(proxy.seen)
            assert len(counts) == SUMS
            told.append(f"{way}/{there}/{after}/{sum(counts.values()) - SUMS}")
            server.client.delete_object(Bucket=BUCKET, Key=f"{prefix}-mean.h5")
    with capsys.disabled():
        sys.stdout.write(
            f"\n    [killed/sums there/finished by/sums again, as they were removed: {' '.join(told)}]\n"
        )


def case_of(server: S3Server, proxy: Proxy, prefix: str, paths: list[Path]) -> dict[str, Any]:
    """Return what a child is told to compute."""
    return {
        "urls": [f"s3://{BUCKET}/{prefix}/{path.name}" for path in paths],
        "out": f"s3://{BUCKET}/{prefix}-mean.h5",
        "batch": BATCH,
        "created": CREATED,
        "scratch": f"s3://{BUCKET}/{prefix}-sums",
        "storage_options": server.options(proxy.endpoint),
    }


def kill(server: S3Server, case: dict[str, Any], proxy: Proxy, requests: int) -> None:
    """Kill all processes after so many requests, and before that a worker of Dask, whose place is taken."""
    with child(server, case) as (process, workers):
        for most in (requests // 2, requests):
            while len(proxy.seen) < most and process.poll() is None:
                time.sleep(0.002)
            if most < requests and case["by"] == "dask":
                os.kill(workers[0], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif("dask" not in WAYS, reason="distributed is not installed")
def test_a_worker_of_dask_that_is_killed(tmp_path: Path, server: S3Server) -> None:
    """Nobody goes on by hand: the other worker, and the one that takes its place, do."""
    prefix = uuid.uuid4().hex
    paths = save_clients(tmp_path, CLIENTS, large=(600, 500))
    for path in paths:
        server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path.name}", Body=path.read_bytes())
    archive.mean(paths, out=tmp_path / "local.h5", batch=BATCH, created=CREATED)
    with Proxy(server.endpoint) as proxy:
        case = case_of(server, proxy, prefix, paths)
        for _ in range(max(1, MOMENTS // 4)):
            proxy.reset()
            with child(server, case | {"by": "dask"}) as (process, workers):
                while not sums_published(list(proxy.seen)):
                    assert process.poll() is None
                    time.sleep(0.01)
                os.kill(workers[0], signal.SIGKILL)
                _, complaint = process.communicate()
                assert process.returncode == 0, complaint[-3000:]
            require_mean(server, prefix, (tmp_path / "local.h5").read_bytes())
            assert len(sums_published(proxy.seen)) == SUMS


def require_mean(server: S3Server, prefix: str, wanted: bytes) -> None:
    """Require the mean, bit for bit, and that nothing else is left behind."""
    body = server.client.get_object(Bucket=BUCKET, Key=f"{prefix}-mean.h5")["Body"].read()
    assert body == wanted
    assert server.keys(f"{prefix}-sums") == []
    assert server.uploads(f"{prefix}-") == []


def test_sums_in_objects(tmp_path: Path, server: S3Server) -> None:
    """Gone on from, few requests, and removed; an upload that a killed process left there is ended."""
    prefix = uuid.uuid4().hex
    paths = save_clients(tmp_path, 5)
    archive.mean(paths, out=tmp_path / "local.h5", batch=2, created=CREATED)
    with Proxy(server.endpoint) as proxy:
        case: dict[str, Any] = {
            "out": tmp_path / "mean.h5",
            "batch": 2,
            "created": CREATED,
            "scratch": f"s3://{BUCKET}/{prefix}",
            "storage_options": server.options(proxy.endpoint),
        }
        with pytest.raises(KeyboardInterrupt):
            archive.mean(paths, **case, executor=Counted(2))
        there = server.keys(f"{prefix}/")
        assert len(there) == 2
        for key in (there[0], f"{prefix}/another.h5"):
            server.client.create_multipart_upload(Bucket=BUCKET, Key=key)
        proxy.reset()
        archive.mean(paths, **case)
        sent = [
            match[0]
            for request in proxy.seen
            if is_publication(request) and (match := PARTIAL.search(request.target))
        ]
    assert len(sent) == len(set(sent)) == 3, "one of a batch, two of groups"
    assert not {f"/{key.rpartition('/')[2]}" for key in there} & set(sent)
    assert (tmp_path / "mean.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()
    assert server.keys(f"{prefix}/") == []
    assert server.uploads(f"{prefix}/") == [f"{prefix}/another.h5"], "which is nobody's sum"
