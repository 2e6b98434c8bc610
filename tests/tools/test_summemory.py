from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from archive.errors import StorageError
from archive.tools.summemory import SumMemory

F8 = np.dtype("f8")


@pytest.mark.parametrize("mapped", [True, False])
def test_arrays_have_places_of_their_own_and_begin_with_zeros(tmp_path: Path, mapped: bool) -> None:
    memory = SumMemory(str(tmp_path) if mapped else None, [24, 0, 8 * 10_000, 16])
    arrays = [memory.zeros(number, F8) for number in range(4)]
    assert [len(array) for array in arrays] == [3, 0, 10_000, 2]
    for number, array in enumerate(arrays):
        assert not array.any()
        array[:] = number + 1
    assert [set(array.tolist()) for array in arrays] == [{1.0}, set(), {3.0}, {4.0}]
    assert not memory.zeros(2, F8).any(), "it begins again"
    assert set(arrays[0].tolist()) == {1.0}
    assert os.listdir(tmp_path) == [], "the file has no name"


def test_no_anonymous_memory_is_taken(tmp_path: Path) -> None:
    before = rss("RssAnon:")
    array = SumMemory(str(tmp_path), [64 << 20]).zeros(0, F8)
    array += 1.0
    assert rss("RssAnon:") - before < 8 << 20
    assert array.sum() == 8 << 20


def test_a_full_disk_is_found_before_the_sum_begins(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no room for") as caught:
        SumMemory(str(tmp_path), [1 << 60])
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)


def rss(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(name)[2].split()[0]) << 10
