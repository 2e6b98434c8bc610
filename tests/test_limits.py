"""docs/limits.md holds: what it says cannot be done is refused, and what it says is carried over is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive import errors


def test_limits_are_as_it_says(tmp_path: Path) -> None:
    for call in (archive.recover, archive.reindex):
        with pytest.raises(errors.UnsupportedURLError, match="download it first"):
            call("memory://bucket/limits.h5")
    with pytest.raises(errors.UnsupportedURLError):
        archive.save({"w": np.zeros(1)}, "http://127.0.0.1:9/model.h5")
    pair = ("w", np.zeros(1))
    with pytest.raises(TypeError, match="keep_input=False"):
        archive.save((pair[1],), tmp_path / "a.h5", keep_input=False)
    for given in ({"w": pair[1]}, [pair[1]], archive.ArrayRecord([pair[1]])):
        archive.save(given, tmp_path / "a.h5", keep_input=False)
        assert not len(given)
    archive.save(iter([pair]), tmp_path / "a.h5", metrics={"loss": 0.5}, keep_input=False)
    archive.mean([tmp_path / "a.h5"], out=tmp_path / "mean.h5")
    assert list(archive.load(tmp_path / "mean.h5")) == ["model"]
    record = archive.ArrayRecord([pair[1]])
    record.attributes["role"] = "weights"
    archive.save(record, tmp_path / "a.h5")
    archive.mean([tmp_path / "a.h5"], out=tmp_path / "mean.h5")
    averaged: Any = archive.load(tmp_path / "mean.h5").array_records["model"]
    assert averaged.attributes == {"role": "weights"}
    archive.reindex(tmp_path / "a.h5", tmp_path / "again.h5")
    again: Any = archive.load(tmp_path / "again.h5").array_records["model"]
    assert again.attributes == {"role": "weights"}
    context = archive.Context(1, 7, {}, archive.RecordDict(), {})
    archive.save(context, tmp_path / "context.h5")
    with archive.open(tmp_path / "context.h5", foreign=True) as handle:
        assert handle.context == context
    for name in "ab":
        archive.save({"w": np.array([name])}, tmp_path / f"{name}.h5")
    with pytest.raises(errors.UnsupportedDtypeError):
        archive.mean([tmp_path / "a.h5", tmp_path / "b.h5"], out=tmp_path / "mean.h5")
