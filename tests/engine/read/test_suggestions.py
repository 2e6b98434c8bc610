"""What the error for a key that no array has says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("model", r"'model' is a record: saved.records\['model'\], or saved\['model', KEY\] for an array"),
        ("fit", r"'fit' is a record: saved.records\['fit'\]\"$"),
        ("model/fc.w", r"did you mean \['model', 'fc.w'\]\?"),
        ("a/b/fc.w", r"did you mean \['a/b', 'fc.w'\]\?"),
        ("fc.v", r"did you mean 'fc.w'\?"),
        (("model", "fc.v"), r"did you mean 'fc.w'\?"),
        (("model", "model"), r"no array \('model', 'model'\)\"$"),
        ("model/none", r"no array 'model/none'\"$"),
    ],
    ids=str,
)
def test_what_may_have_been_meant(tmp_path: Path, key: str | tuple[str, str], says: str) -> None:
    record = archive.ArrayRecord({"fc.w": archive.Array(np.zeros(2))})
    metrics = {"fit": archive.MetricRecord({"loss": 0.5})}
    archive.save(archive.RecordSet({"model": record, "a/b": record}, metrics), tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as saved, pytest.raises(KeyError, match=says):
        saved[key]
