"""The folder of partial sums is our own, no link leads to another, and its sums are removed side by side."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest

from archive import tuning
from archive.errors import StorageError
from archive.storage.folder import list_files
from archive.storage.url import parse_url
from archive.tools.scratchfolder import make_scratch, remove_partials
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


def test_it_is_made_for_us_alone(tmp_path: Path) -> None:
    make_scratch(parse_url(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_what_others_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").touch()
    for name in ("open", "file"):
        with pytest.raises(StorageError):
            make_scratch(parse_url(tmp_path / name))


def test_a_link_of_our_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(0o700)
    (tmp_path / "link").symlink_to("disk")
    make_scratch(parse_url(tmp_path / "link"))


@pytest.mark.root
def test_a_link_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(0o700)
    (tmp_path / "link").symlink_to("ours")
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    with pytest.raises(StorageError, match="others could put sums there"):
        make_scratch(parse_url(tmp_path / "link"))
