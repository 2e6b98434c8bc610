"""Partial sums over a network are removed side by side."""

from __future__ import annotations

import itertools
import time

import pytest

from archive import tuning
from archive.storage.folder import list_files
from archive.storage.url import parse_url
from archive.tools.scratchfolder import remove_partials
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET, S3Server

LATENCY = 0.1


@pytest.mark.slow
def test_partial_sums_of_a_server_far_away_are_removed_side_by_side(server: S3Server) -> None:
    keys = [f"{number:032x}" for number in range(4 * tuning.ARCHIVES)]
    names = [*(f"{key}.sum.h5" for key in keys), "other.h5"]
    for name in names:
        server.client.put_object(Bucket=BUCKET, Key=f"far/{name}", Body=b"")
    arrivals: list[float] = []
    with Proxy(server.endpoint, lambda _: arrivals.append(time.monotonic()), LATENCY) as proxy:
        scratch = parse_url(f"s3://{BUCKET}/far", server.options(proxy.endpoint))
        remove_partials(scratch, [*keys, "f" * 32])
    assert [entry.path for entry in list_files(scratch.path, server.options(), below=False)] == ["other.h5"]
    together = sum(later - one < LATENCY for one, later in itertools.pairwise(arrivals))
    assert together > len(keys), "one after the other, none comes before the answer of that before it"
