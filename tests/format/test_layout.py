"""Places of arrays: in order, aligned, apart, and without needless space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.format.constants import ALIGN, DATA_AT, PAGE, PAGE_ALIGN_FROM
from archive.format.layout import align_up, place_arrays, segment_bytes, segment_counts, segment_shifts

SIZES = st.lists(st.integers(0, 3 * PAGE_ALIGN_FROM) | st.sampled_from([65535, 65536, 65537, 1 << 33]))


@given(SIZES, st.integers(0, 100))
def test_against_one_by_one(sizes: list[int], at: int) -> None:
    start = DATA_AT + at * ALIGN
    offsets, end = place_arrays(np.array(sizes, np.uint64), start)
    place = start
    for nbytes, offset in zip(sizes, offsets.tolist(), strict=True):
        place = align_up(place, PAGE if nbytes >= PAGE_ALIGN_FROM else ALIGN)
        assert offset == place
        place = align_up(place + nbytes, ALIGN)
    assert end == place


@pytest.mark.must("DIGEST-2")
@given(
    st.lists(
        st.integers(0, 1 << 40) | st.sampled_from([0, 1, 1 << 17, 131_073, 1 << 27, 134_217_729, 1 << 32])
    )
)
def test_segments_cover_every_byte(sizes: list[int]) -> None:
    counts = segment_counts(np.array(sizes, np.uint64)).tolist()
    shifts = segment_shifts(np.array(sizes, np.uint64)).tolist()
    for nbytes, count, shift in zip(sizes, counts, shifts, strict=True):
        size = segment_bytes(nbytes)
        assert size == 1 << shift
        assert (count - 1) * size < nbytes <= count * size or nbytes == count == 0
        assert size == 1 << 22 or (count <= 1024 and (size == 1 << 17 or count > 512)), (
            "the smallest that does"
        )
