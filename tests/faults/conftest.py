"""Saves in children of their own, disturbed by strace: the forge; the S3 server of the remote tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from archive import tuning
from tests.children import ROOT, child_environment
from tests.faults.scenes import SMALL

Forge = Callable[..., dict[str, Any]]


def environment() -> dict[str, str]:
    """Return the environment of child interpreters: this tree first, one thread each."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return child_environment(**threads, PYTHONWARNINGS="ignore")


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """Run a save in a child: ``forge(path, version, size, strace=[...])`` returns how it ended."""
    command = [sys.executable, "-m", "tests.faults.forge"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def run(path: Path, version: int, size: int = SMALL, **request: Any) -> dict[str, Any]:
            assert server.stdin is not None
            assert server.stdout is not None
            if "strace" in request and shutil.which("strace") is None:
                pytest.skip("strace is not installed")
            line = {"path": str(path), "version": version, "size": size, **request}
            server.stdin.write(json.dumps(line) + "\n")
            server.stdin.flush()
            answer: dict[str, Any] = json.loads(server.stdout.readline())
            if "refused" in answer:
                pytest.skip(f"strace may not attach here: {answer['refused']}")
            return answer

        yield run
        server.stdin.close()
        server.wait(10)


@pytest.fixture
def figures(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line of figures that can be quoted, past pytest's capture."""

    def show(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n    [{text}]\n")

    return show


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small requests instead of few large ones, so that there are many to break."""
    from archive.storage.remote import upload
    from archive.storage.remote.clients.s3 import S3Store

    monkeypatch.setattr(tuning, "TAIL_BYTES", 1 << 10)
    monkeypatch.setattr(tuning, "REQUEST_BYTES", 64 << 10)
    monkeypatch.setattr(tuning, "PREFETCH_BYTES", 64 << 10)
    monkeypatch.setattr(tuning, "PART_BYTES", 60 << 10)
    monkeypatch.setattr(upload, "MiB", 1)
    monkeypatch.setattr(S3Store, "min_part_bytes", 60 << 10)
