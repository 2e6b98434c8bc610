"""Superblocks that libhdf5 writes, and bytes that are no superblock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest

import archive
from archive.format.superblock import stated_end

VERSIONS = [("earliest", 0), (("v108", "v108"), 2), ("latest", 3)]


def written(path: Path, libver: Any) -> bytes:
    with h5py.File(path, "w", libver=libver) as file:
        file["w"] = [1, 2, 3]
    return path.read_bytes()


@pytest.mark.must("FOOTER-9")
@pytest.mark.parametrize(("libver", "version"), VERSIONS)
def test_the_end_that_a_tool_states(tmp_path: Path, libver: Any, version: int) -> None:
    data = written(tmp_path / "a.h5", libver)
    assert data[8] == version
    assert stated_end(data[:48]) == len(data)
    assert stated_end(data[:47]) is None


@pytest.mark.parametrize(("libver", "version"), VERSIONS[1:])
def test_any_flipped_byte_fails_the_checksum(tmp_path: Path, libver: Any, version: int) -> None:
    head = written(tmp_path / "a.h5", libver)[:48]
    for at in range(48):
        assert stated_end(head[:at] + bytes([head[at] ^ 1]) + head[at + 1 :]) is None


def test_our_own(tmp_path: Path) -> None:
    archive.save({}, tmp_path / "a.h5", durable=False)
    data = (tmp_path / "a.h5").read_bytes()
    assert stated_end(data[:48]) == len(data)
    assert stated_end(bytes(48)) is None
    assert stated_end(b"") is None
