"""Arrays that go from one archive into another with their digests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.dtypes import NDArray
from archive.tuning import PIECE_BYTES
from tests.faults.scenes import litter

SIZES = {"small": 1000, "piece": PIECE_BYTES, "large": 5 << 20, "odd": (9 << 20) + 17}


def _create(handle: archive.Archive, out: Path) -> None:
    with archive.create(out) as writer:
        for record, key in handle:
            writer.add(record, key, handle[record, key])


WAYS: dict[str, Callable[[archive.Archive, Path], Any]] = {
    "save": lambda handle, out: archive.save(handle.records, out),
    "iterator": lambda handle, out: archive.save(((key, handle[key]) for _, key in handle), out),
    "create": _create,
    "consume": lambda handle, out: archive.save(
        {key: handle[key] for _, key in handle}, out, keep_input=False
    ),
}


def arrays() -> dict[str, NDArray]:
    random = np.random.default_rng(17)
    return {key: random.integers(0, 256, nbytes, "u1") for key, nbytes in SIZES.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    archive.save(arrays(), tmp_path / "source.h5", durable=False)
    return tmp_path / "source.h5"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("access", ["mmap", "pread"])
def test_whole(path: Path, way: str, access: Any) -> None:
    out = path.with_name("out.h5")
    with archive.open(path, access=access) as handle:
        WAYS[way](handle, out)
    assert archive.verify(out).ok
    loaded: Any = archive.load(out)
    assert all(np.array_equal(loaded["model"][key].numpy(), array) for key, array in arrays().items())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", SIZES)
def test_bytes_that_change_after_they_were_verified(path: Path, way: str, key: str) -> None:
    """A map shows what is in the file by now: it got digests of its own, and was published as good."""
    out = path.with_name("out.h5")
    with archive.open(path, access="mmap") as handle:
        handle[key].numpy()  # verified, and not again
        _, offset, nbytes = handle[key].payload.where  # type: ignore[attr-defined]
        with path.open("r+b") as file:
            file.seek(offset + nbytes - 1)
            file.write(bytes([arrays()[key][-1] ^ 1]))
        with pytest.raises(archive.errors.DigestError, match=f"model/{key}"):
            WAYS[way](handle, out)
    assert not out.exists()


def test_without_verification_bytes_get_new_digests(path: Path) -> None:
    """Who asked for no verification gets the bytes as they are."""
    out = path.with_name("out.h5")
    with archive.open(path) as handle:
        _, offset, _ = handle["large"].payload.where  # type: ignore[attr-defined]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes([arrays()["large"][0] ^ 1]))
    with archive.open(path, verify="off") as handle:
        archive.save(handle.records, out)
    assert archive.verify(out).ok
    assert litter(path.parent, path.name, out.name) == []
