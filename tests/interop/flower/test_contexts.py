"""States of nodes by round, without Flower itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive
from archive.errors import StorageError
from archive.interop.flower.contexts import NodeContexts, Version


def context(number: int) -> archive.Context:
    state = archive.RecordDict({"m": archive.ArrayRecord([np.full(3, number)])})
    return archive.Context(1, 2, {}, state, {})


def test_states_that_are_not_kept_go(tmp_path: Path) -> None:
    contexts = NodeContexts(tmp_path, "run", keep_last=2, storage_options=None)
    for number in (1, 2, 3):
        contexts.save("7", Version(number, 1), context(number))
    assert [version.round for version in contexts.versions("7")] == [2, 3]
    assert contexts.open("7", Version(3, 1)) == context(3)


def test_nothing_is_written_or_removed_behind_a_planted_link(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    names = ["00000001-1.h5", "00000002-1.h5"]
    for name in names:
        (others / name).write_bytes(b"a thesis")
    (tmp_path / "run/contexts").mkdir(parents=True)
    (tmp_path / "run/contexts/7").symlink_to(others)
    contexts = NodeContexts(tmp_path, "run", keep_last=1, storage_options=None)
    with pytest.raises(StorageError, match="no link is followed"):
        contexts.save("7", Version(2, 1), context(2))
    assert sorted(path.name for path in others.iterdir()) == names
    assert all((others / name).read_bytes() == b"a thesis" for name in names)
