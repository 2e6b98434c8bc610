"""Digests against published values of xxh3, and array digests that tell arrays apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.engine.read.storedpayload import StoredPayload
from archive.format.digests import array_digest, digest, name_hash
from archive.format.elements import ArrayType


@pytest.mark.must("DIGEST-1")
def test_the_published_digest_of_nothing() -> None:
    assert digest(b"").hex() == "99aa06d3014798d86001c324468d497f"  # XXH3_128bits("", seed 0)
    assert name_hash(b"") == 0x2D06800538D394C2


def test_any_contiguous_buffer() -> None:
    data = np.arange(100, dtype="<u2")
    assert digest(data) == digest(data.tobytes()) == digest(memoryview(data.tobytes()))


FLOATS = ArrayType("float32", "numpy.ndarray", "<f4", 0, 4)


@pytest.mark.must("DIGEST-3")
def test_array_digests_depend_on_everything_that_makes_an_array() -> None:
    segments = bytes(range(16))
    seen = {
        array_digest(segments, FLOATS, 0, (2, 3)),
        array_digest(segments, FLOATS, 1, (2, 3)),
        array_digest(segments, FLOATS, 0, (3, 2)),
        array_digest(segments, FLOATS, 0, (6,)),
        array_digest(
            segments, dataclasses.replace(FLOATS, dtype="float3", stype="2numpy.ndarray"), 0, (2, 3)
        ),
        array_digest(segments, dataclasses.replace(FLOATS, stype=""), 0, (2, 3)),
        array_digest(segments, dataclasses.replace(FLOATS, mode=2), 0, (2, 3)),
        array_digest(segments, dataclasses.replace(FLOATS, npy_header=b"odd"), 0, (2, 3)),
        array_digest(segments[::-1], FLOATS, 0, (2, 3)),
        array_digest(segments * 2, FLOATS, 0, (2, 3)),
        array_digest(b"", FLOATS, 0, (2, 3)),
    }
    assert len(seen) == 11
    assert {len(found) for found in seen} == {16}


def digest_of(array: archive.Array) -> str:
    assert isinstance(array.payload, StoredPayload)
    return array.payload.digest


def test_the_digest_of_an_open_array_tells_contents_apart(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    archive.save(
        {"a": values, "b": values.copy(), "c": np.asfortranarray(values), "d": values + 1}, tmp_path / "x.h5"
    )
    archive.save({"b": values}, tmp_path / "y.h5", name="other")
    with archive.open(tmp_path / "x.h5") as x, archive.open(tmp_path / "y.h5") as y:
        digests = {key: digest_of(x[key]) for key in "abcd"}
        assert digests["a"] == digests["b"] == digest_of(y["b"])
        assert len(set(digests.values())) == 3
