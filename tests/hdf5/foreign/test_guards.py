"""Rules for foreign files that need no libhdf5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from archive.errors import HostileFileError, NotAnArchiveError, TruncatedError
from archive.hdf5.foreign.guards import (
    FREE_BYTES,
    MAX_ATTRIBUTE_BYTES,
    MAX_EXPANSION,
    MAX_OBJECTS,
    Budget,
    max_decoded_bytes,
    require_hdf5,
    require_known_filters,
    require_plain_name,
)


def test_superblocks(tmp_path: Path) -> None:
    for libver in ("earliest", ("v108", "v110"), "latest"):
        path = tmp_path / "f.h5"
        with h5py.File(path, "w", libver=libver) as file:
            file["w"] = np.arange(3)
        data = path.read_bytes()
        require_hdf5("f.h5", _reader(data), len(data))
        with pytest.raises(TruncatedError, match="fetch it again"):
            require_hdf5("f.h5", _reader(data), len(data) - 1)
    for broken in (b"", b"\x89HDF", b"x" * 5000):
        with pytest.raises(NotAnArchiveError):
            require_hdf5("f.h5", _reader(broken), len(broken))
    for broken in (data[:20], data[:8] + b"\x04" + data[9:], data[:9] + b"\x04" + data[10:]):
        with pytest.raises(HostileFileError):
            require_hdf5("f.h5", _reader(broken), len(broken))


def _reader(data: bytes) -> Any:
    return lambda offset, nbytes: data[offset : offset + nbytes]


def test_names_and_filters() -> None:
    assert require_plain_name("é".encode(), "/g") == "é"
    for name in (b"", b".", b"a/b", b"/", b"\xff"):
        with pytest.raises(HostileFileError, match="/g/"):
            require_plain_name(name, "/g")
    require_known_filters([1, 2, 32000], [True] * 3, "/w")
    for code, present in ((32015, True), (4, False)):
        with pytest.raises(HostileFileError, match=str(code)):
            require_known_filters([code], [present], "/w")


def test_budgets_end() -> None:
    budget = Budget(1000, max_decoded_bytes(1000))
    budget.add_objects(MAX_OBJECTS, "/")
    with pytest.raises(HostileFileError, match="2,000,000"):
        budget.add_objects(1, "/")
    budget.add_attribute(MAX_ATTRIBUTE_BYTES, "/")
    with pytest.raises(HostileFileError, match="64 MiB"):
        budget.add_attribute(1, "/")
    budget.add_decoded(FREE_BYTES, "/w")
    with pytest.raises(HostileFileError, match="67,108,864 may be"):
        budget.add_decoded(1, "/w")
    assert max_decoded_bytes(FREE_BYTES) == MAX_EXPANSION * FREE_BYTES
    Budget(1000, max_decoded_bytes(1000, FREE_BYTES + 1)).add_decoded(FREE_BYTES + 1, "/w")
