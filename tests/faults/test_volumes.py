"""File systems that lack something: no fallocate, no hard links, no exclusive renames, no modes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.faults.conftest import ROOT, Forge, environment
from tests.faults.mounts import mounted
from tests.faults.scenes import LARGE, version_of


@pytest.fixture(params=["exfat", "ext2"])
def unreserved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder of a file system that reserves nothing."""
    with mounted(request.param, tmp_path) as folder:
        yield folder


def writes(log: str) -> int:
    return len(re.findall(r"pwrite64\(", log))


@pytest.mark.tools
@pytest.mark.parametrize("number", ["EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_no_reservation_is_no_reason_to_write(forge: Forge, tmp_path: Path, number: str) -> None:
    """glibc's posix_fallocate writes one byte to every block where the system reserves nothing."""
    trace = ["--trace=fallocate,pwrite64"]
    usual = forge(tmp_path / "usual.h5", 1, LARGE, strace=trace, want_log=True)
    refused = [*trace, "-e", f"inject=fallocate:error={number}"]
    answer = forge(tmp_path / "model.h5", 1, LARGE, strace=refused, want_log=True)
    assert usual["error"] is answer["error"] is None
    assert "INJECTED" in answer["log"]
    assert 0 < writes(answer["log"]) <= writes(usual["log"])
    assert version_of(tmp_path / "model.h5") == 1


@pytest.mark.root
@pytest.mark.tools
def test_writes_without_fallocate(forge: Forge, unreserved: Path, tmp_path: Path) -> None:
    """The same on real file systems: as many writes as on one that reserves."""
    trace = ["--trace=fallocate,pwrite64"]
    usual = forge(tmp_path / "usual.h5", 1, LARGE, strace=trace, want_log=True)
    answer = forge(unreserved / "model.h5", 1, LARGE, strace=trace, want_log=True)
    assert answer["error"] is None
    assert re.search(r"fallocate\(.*EOPNOTSUPP", answer["log"])
    assert 0 < writes(answer["log"]) <= writes(usual["log"])
    assert version_of(unreserved / "model.h5") == 1


DECODING = """
import sys
import archive
with archive.open(sys.argv[1], foreign=True) as handle:
    (array,) = (array for record in handle.records.parameters_records.values() for array in record.values())
    assert (array.numpy() == 7).all()
"""


@pytest.mark.root
@pytest.mark.tools
def test_decoding_without_fallocate(unreserved: Path, tmp_path: Path) -> None:
    """A foreign file is decoded into a map of a temporary file, whose room is taken by large writes."""
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.create_dataset("x", data=np.full(400_000, 7.0), compression="gzip")
    command = ["strace", "-f", "-e", "trace=pwrite64", "-o", tmp_path / "log"]
    command += [sys.executable, "-c", DECODING, tmp_path / "foreign.h5"]
    subprocess.run(command, cwd=ROOT, env={**environment(), "TMPDIR": str(unreserved)}, check=True)
    assert 3 <= writes((tmp_path / "log").read_text()) < 20
