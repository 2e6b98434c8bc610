"""mean() and Accumulator over objects: few requests, equal bits, nothing left behind."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError
from archive.tools import Accumulator
from archive.tools.collection import collect_garbage
from tests.acceptance.samples import CREATED
from tests.servers.proxy import Proxy
from tests.servers.s3 import BUCKET, S3Server
from tests.tools.test_batches import Counted, save_clients


@pytest.fixture
def objects(tmp_path: Path, server: S3Server) -> tuple[str, list[Path], list[str]]:
    """Eleven clients as files and as objects."""
    prefix = uuid.uuid4().hex
    paths = save_clients(tmp_path, 11, large=(300, 500))
    for path in paths:
        server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path.name}", Body=path.read_bytes())
    return prefix, paths, [f"s3://{BUCKET}/{prefix}/{path.name}" for path in paths]


def test_requests_and_bits(
    tmp_path: Path, server: S3Server, objects: tuple[str, list[Path], list[str]]
) -> None:
    _, paths, urls = objects
    for batch in (4, 64):
        archive.mean(paths, out=tmp_path / "local.h5", batch=batch, created=CREATED)
        with Proxy(server.endpoint) as proxy:
            archive.mean(
                urls,
                out=tmp_path / "remote.h5",
                batch=batch,
                created=CREATED,
                storage_options=server.options(proxy.endpoint),
            )
            requests, nbytes = len(proxy.seen), proxy.bytes_sent
        assert (tmp_path / "local.h5").read_bytes() == (tmp_path / "remote.h5").read_bytes()
        # the first decides the schema of all batches; every third has its arrays in another order
        assert requests <= 2 * 11 + (1 if batch == 4 else 0)
        assert nbytes <= 1.15 * sum(path.stat().st_size for path in paths)


@pytest.mark.slow
def test_sums_beside_a_remote_mean(
    tmp_path: Path, server: S3Server, objects: tuple[str, list[Path], list[str]]
) -> None:
    prefix, paths, urls = objects
    options = server.options()
    given: Any = {
        "out": f"s3://{BUCKET}/{prefix}-mean/mean.h5",
        "batch": 3,
        "created": CREATED,
        "storage_options": options,
    }
    with pytest.raises(KeyboardInterrupt):
        archive.mean(urls, **given, executor=Counted(3))
    assert len(server.keys(f"{prefix}-mean/")) == 3
    found = collect_garbage(
        f"s3://{BUCKET}/{prefix}-mean", older_than=-60, storage_options=options, dry_run=True
    )
    assert len(found) == 3
    archive.mean(urls, **given)
    assert server.keys(f"{prefix}-mean/") == [f"{prefix}-mean/mean.h5"]
    archive.mean(paths, out=tmp_path / "local.h5", batch=3, created=CREATED)
    body = server.client.get_object(Bucket=BUCKET, Key=f"{prefix}-mean/mean.h5")["Body"].read()
    assert body == (tmp_path / "local.h5").read_bytes()


@pytest.mark.slow
def test_bad_objects_are_left_out(
    tmp_path: Path, server: S3Server, objects: tuple[str, list[Path], list[str]]
) -> None:
    prefix, paths, urls = objects
    data = bytearray(paths[4].read_bytes())
    data[5000] ^= 1
    server.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{paths[4].name}", Body=bytes(data))
    server.client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{paths[7].name}")
    nan = {"a": np.full((3, 50), np.inf, "f4")}
    arrays = {key: array.numpy() for key, array in archive.load(paths[9]).array_records["model"].items()}
    archive.save(arrays | nan, urls[9], storage_options=server.options())
    for batch in (4, 64):
        options: Any = {"batch": batch, "created": CREATED, "storage_options": server.options()}
        with pytest.raises(ArchiveError, match="client00"):
            archive.mean(urls, out=tmp_path / "remote.h5", **options)
        report = archive.mean(urls, out=tmp_path / "remote.h5", errors="skip", **options)
        assert [one.position for one in report.skipped] == [4, 7, 9]
        left = [path if number not in (4, 7, 9) else tmp_path / "gone" for number, path in enumerate(paths)]
        archive.mean(left, out=tmp_path / "local.h5", errors="skip", batch=batch, created=CREATED)
        assert (tmp_path / "local.h5").read_bytes() == (tmp_path / "remote.h5").read_bytes()


@pytest.mark.slow
def test_an_accumulator_of_objects(
    tmp_path: Path, server: S3Server, objects: tuple[str, list[Path], list[str]]
) -> None:
    prefix, paths, urls = objects
    folder, options = f"s3://{BUCKET}/{prefix}-sums", server.options()
    sums = Accumulator(folder, 3, storage_options=options)
    for number in (0, 1, 2, 3, 6):
        sums.add(urls[number], position=number)
    sums.commit()
    sums = Accumulator(folder, 3, storage_options=options)
    assert (len(sums), sums.staged) == (4, (6,))
    for number in (4, 5, 7, 8, 9, 10):
        sums.add(urls[number], position=number)
    sums.mean(tmp_path / "remote.h5", created=CREATED)
    archive.mean(paths, out=tmp_path / "local.h5", batch=3, created=CREATED)
    assert (tmp_path / "local.h5").read_bytes() == (tmp_path / "remote.h5").read_bytes()
    sums.remove()
    assert server.keys(f"{prefix}-sums/") == []
