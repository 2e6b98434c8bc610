"""M1 of FAULTS.md: archives far larger than the memory a control group allows.

Sizes come from FEDARCHIVE_MEMORY_BYTES (default 1 GiB; the figures of the README are of 8 GiB) and
FEDARCHIVE_MEMORY_ARRAY (64 MiB).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.process import resident_anonymous_bytes
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.servers import nginx

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1800)]
TOTAL = int(os.environ.get("FEDARCHIVE_MEMORY_BYTES", str(1 << 30)))
EACH = int(os.environ.get("FEDARCHIVE_MEMORY_ARRAY", str(64 << 20)))
CAP = 512 << 20
ALLOWED = 128 << 20
ALLOWED_REMOTE = 192 << 20
GROUPS = Path("/sys/fs/cgroup/memory")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a control group (v1) of 512 MB."""
    path = GROUPS / f"fedarchive-{os.getpid()}"
    try:
        path.mkdir()
        (path / "memory.limit_in_bytes").write_text(str(CAP))
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made here: {error}")
    yield path
    for _ in range(50):
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def run(group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a job of the child under the cap, watching its anonymous memory every 2 ms."""

    def job(name: str, total: int = TOTAL, each: int = EACH, *, capped: bool = True) -> dict[str, Any]:
        forget(tmp_path)
        command = [sys.executable, "-m", "tests.memory.child", name, str(tmp_path), str(total), str(each)]
        if capped:
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            peak = watch(child)
            told, complaint = child.communicate()
        assert child.returncode == 0, f"{name} ended with {child.returncode}: {complaint[-2000:]}"
        found: dict[str, Any] = json.loads(told.splitlines()[-1]) | {"peak": peak}
        with capsys.disabled():
            figures = {
                key: f"{n >> 20} MB" if isinstance(n, int) and n > 1 << 16 else n for key, n in found.items()
            }
            sys.stdout.write(f"\n    [{name} of {total >> 20} MB in arrays of {each >> 20} MB: {figures}]\n")
        return found

    yield job
    shutil.rmtree(tmp_path)


def watch(child: subprocess.Popen[str]) -> int:
    """Return the largest anonymous memory that a process ever had."""
    peak = 0
    while child.poll() is None:
        peak = max(peak, resident_anonymous_bytes(child.pid))
        time.sleep(0.002)
    return peak


def forget(folder: Path) -> None:
    """Take the files of a folder out of the page cache, so that they are read under the cap."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def test_save_from_generator(run: Run) -> None:
    assert run("generator")["peak"] < ALLOWED + EACH


def test_save_from_archive(run: Run) -> None:
    run("prepare")
    assert run("lazy")["peak"] < ALLOWED + EACH


def test_save_from_torch_checkpoint(run: Run) -> None:
    run("prepare_checkpoint", capped=False)
    assert run("checkpoint")["peak"] < ALLOWED + EACH


def test_drain_and_verify(run: Run) -> None:
    run("prepare")
    assert run("drain")["peak"] < ALLOWED + EACH
    assert run("verify")["peak"] < ALLOWED + EACH


@pytest.mark.skipif(not nginx.is_installed(), reason="nginx is not installed")
@pytest.mark.parametrize("job", ["drain_remote", "drain_cached"])
def test_drain_from_s3(run: Run, tmp_path: Path, job: str) -> None:
    """With and without a cache; the server is outside the group."""
    run("prepare")
    bucket = tmp_path / "data" / "bucket"
    bucket.mkdir(parents=True)
    (tmp_path / "source.h5").rename(bucket / "source.h5")
    with nginx.running(tmp_path) as endpoint:
        (tmp_path / "endpoint").write_text(endpoint)
        found = run(job)
        assert found["access"] == ("cache" if job == "drain_cached" else "remote")
        assert found["peak"] < ALLOWED_REMOTE + EACH
        if job == "drain_cached":
            assert run(job)["peak"] < ALLOWED_REMOTE, "from the cache, nothing is fetched"


def test_mean(run: Run) -> None:
    run("prepare_clients")
    assert run("mean")["peak"] < ALLOWED + EACH


@pytest.mark.parametrize("name", [".safetensors", ".safetensors.index.json", ".npz", ".weights.h5", ".pt"])
def test_convert_there_and_back(run: Run, tmp_path: Path, name: str) -> None:
    """Pieces of a few megabytes are under way, whatever an array has; torch writes a tensor at once."""
    if name == ".pt":
        pytest.importorskip("torch", reason="torch is not installed")
    run("prepare")
    (tmp_path / "format").write_text(name)
    found = run("convert")
    assert found["peak"] < found["start"] + ALLOWED + 2 * EACH * (name == ".pt")


@pytest.mark.parametrize("each", [EACH, 4 << 20])
def test_consumed_state_dict(run: Run, each: int) -> None:
    """Memory falls as the file grows, whether or not the allocator maps each tensor by itself."""
    # 2 GiB whatever TOTAL is: torch itself takes 150 MB, which do not fall
    total = 2 << 30
    found = run("state_dict", total, each, capped=False)
    assert found["left"] == 0
    assert found["half"] < 0.55 * found["start"]
    assert found["peak"] < found["start"] + each + (64 << 20)
    # of the half that is written all are gone but those of the batches that are still under way
    assert found["half_dead"] >= found["tensors"] - found["half_left"]
    assert found["half_dead"] >= 0.45 * found["tensors"]
    # one for each threshold passed, and one at the end
    assert 6 <= found["collections"] <= 9
