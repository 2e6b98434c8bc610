"""Batches of small files side by side: equal bits, equal errors, no more descriptors than there are."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.errors import ValueRangeError
from archive.tools.clientmetrics import exact_sum
from tests.tools.test_batches import by_the_rule, require_equal, save_clients


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_batches_side_by_side_change_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    paths, weights = save_clients(tmp_path, 23), [1.0 + number / 3 for number in range(23)]
    wanted = by_the_rule(paths, weights, 3)
    monkeypatch.setattr("archive.tuning.THREADS", threads)
    for small, files in ((1 << 30, 128), (1 << 30, 6), (0, 128)):
        monkeypatch.setattr("archive.tuning.MEAN_SMALL_BYTES", small)
        monkeypatch.setattr("archive.tuning.MEAN_OPEN", files)
        archive.mean(paths, weights, out=tmp_path / "mean.h5", batch=3)
        require_equal(tmp_path / "mean.h5", wanted)


def test_the_first_bad_archive_is_named_whichever_thread_finds_one(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 12)
    for number in (11, 4, 7):
        archive.save({"w": np.zeros(3)}, paths[number])
    for _ in range(5):
        with pytest.raises(ValueRangeError) as caught:
            archive.mean(paths, out=tmp_path / "mean.h5", batch=2)
        assert caught.value.path == str(paths[4])
    report = archive.mean(paths, out=tmp_path / "mean.h5", batch=2, errors="skip")
    assert [one.position for one in report.skipped] == [4, 7, 11]


def test_weights_are_added_exactly() -> None:
    weights = [0.1, 1e300, 3.0, 5e-324, 2.0**60, 7 / 3]
    assert exact_sum(weights) == sum(map(Fraction, weights), Fraction())
    assert exact_sum([]) == 0


def test_few_descriptors_are_enough_for_a_batch(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    paths = save_clients(tmp_path, 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, hard))
    try:
        report = archive.mean(paths, out=tmp_path / "mean.h5", batch=12)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert report.inputs == 40
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, [1.0] * 40, 12))
