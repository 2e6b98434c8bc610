"""What a process keeps of the memory that it took for a remote archive."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import archive
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.memory.child import arrays
from tests.servers.s3 import BUCKET, S3Server, s3_server

pytestmark = [pytest.mark.slow]
TOTAL = 540 << 20
KEPT = 64 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        if running.name != "moto":
            pytest.skip("the child comes without credentials")
        yield running


@pytest.mark.parametrize("each", [27 << 20, 276 << 10])
def test_a_load_keeps_its_result_alone(tmp_path: Path, server: S3Server, each: int) -> None:
    """Each thread's allocator kept what requests had freed: 180 MB of 20 arrays, 220 MB of 2,000."""
    path = tmp_path / "source.h5"
    archive.save(arrays(TOTAL, each), path, durable=False)
    server.client.upload_file(str(path), BUCKET, f"given-back-{each}.h5")
    path.unlink()
    (tmp_path / "endpoint").write_text(server.endpoint)
    (tmp_path / "url").write_text(f"s3://{BUCKET}/given-back-{each}.h5")
    command = [
        sys.executable,
        "-m",
        "tests.memory.child",
        "load_remote",
        str(tmp_path),
        str(TOTAL),
        str(each),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["held"] >= TOTAL - each
    assert found["loaded"] <= found["start"] + found["held"] + KEPT
    assert found["dropped"] <= found["start"] + KEPT
