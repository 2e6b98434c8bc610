"""`verify_all`: a row for each archive that can be opened, with what is damaged in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive
from archive.tools import verify_all


def test_a_folder_of_which_one_array_is_damaged(tmp_path: Path) -> None:
    for number in range(3):
        archive.save({"w": np.full(5, number + 0.5), "b": np.zeros(2)}, tmp_path / f"{number}.h5")
    damaged = tmp_path / "1.h5"
    content = bytearray(damaged.read_bytes())
    content[content.index(np.full(5, 1.5).tobytes())] ^= 1
    damaged.write_bytes(content)
    told: list[tuple[int, int]] = []
    found = verify_all(tmp_path, progress=lambda *at: told.append(at))
    assert list(found) == ["path", "ok", "arrays", "checked_bytes", "unverifiable", "damage"]
    assert found["path"].tolist() == [str(tmp_path / f"{number}.h5") for number in range(3)]
    assert found["ok"].tolist() == [True, False, True]
    assert found["damage"].tolist() == [(), archive.verify(damaged).failures, ()]
    assert [failure.key for failure in found["damage"][1]] == ["w"]
    assert found["arrays"].tolist() == [2, 2, 2]
    assert found["checked_bytes"].tolist() == [path.stat().st_size for path in sorted(tmp_path.glob("*.h5"))]
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ValueError, match="errors must be one of"):
        verify_all(tmp_path, errors="all")  # type: ignore[arg-type]
