"""Adding up what is fetched: as many buffers as one number allows, whatever the archives have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import archive
from archive.tools import summing
from archive.tools.meanwindows import Window
from tests.acceptance.samples import CREATED

MB = 1 << 20


@pytest.mark.parametrize("arrays", [1, 3])
def test_buffers_of_what_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: int) -> None:
    """Those asked for and not yet added up are within MEAN_FETCHED_BYTES; they are used again."""
    monkeypatch.setattr("archive.tuning.MEAN_FETCHED_BYTES", 4 * MB)
    monkeypatch.setattr("archive.tuning.MEAN_FETCHES", 4)
    made: list[int] = []
    make = summing._memory

    def counted(window: Window) -> np.ndarray:
        made.append(window.nbytes)
        return make(window)

    monkeypatch.setattr(summing, "_memory", counted)
    model = {f"{number}": np.arange(3 * MB // arrays // 2, dtype="f4") for number in range(arrays)}
    urls = [f"memory://summing-{arrays}/{number}.h5" for number in range(7)]
    for number, url in enumerate(urls):
        archive.save({key: array + np.float32(number) for key, array in model.items()}, url, created=CREATED)
    archive.mean(urls, out=tmp_path / "mean.h5", durable=False)
    assert 1 < len(made) <= 4
    assert max(made) <= MB + 4096
    assert sum(made) <= 4 * MB + 4 * 4096
    found = archive.load(tmp_path / "mean.h5").array_records["model"]
    for key, array in model.items():
        np.testing.assert_array_equal(found[key].numpy(), (array.astype("f8") + 3).astype("f4"))
