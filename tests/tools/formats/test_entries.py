"""Fingerprints see every difference, and entries come back as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archive.errors import DamagedError
from archive.records import Array
from archive.tools.formats.entries import ArraysContent, Entry, Hasher, chunks_of, compare, left_of_ties

FIRST = np.arange(12.0).reshape(3, 4)


def content(**arrays: Any) -> ArraysContent:
    made = ArraysContent()
    for key, array in arrays.items():
        made.add("model", key, Array(array))
    return made


def fingerprints(**arrays: Any) -> Any:
    hasher = Hasher()
    hasher.watch_all(content(**arrays))
    return hasher.found


def test_what_is_equal_has_one_fingerprint() -> None:
    compare(fingerprints(a=FIRST), fingerprints(a=np.asfortranarray(FIRST)), "m.h5")


@pytest.mark.parametrize(
    "other",
    [{}, {"a": FIRST.T}, {"a": FIRST.view("i8")}, {"a": FIRST + 1}, {"a": FIRST, "b": FIRST}, {"b": FIRST}],
)
def test_every_difference_is_found(other: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match=r"m\.h5: 'model/"):
        compare(fingerprints(a=FIRST), fingerprints(**other), "m.h5")


def test_elements_are_put_together_in_their_order() -> None:
    turned = np.frombuffer(FIRST.tobytes("F"), np.uint8)
    for entry, data in (
        (Entry("r", "k", FIRST.dtype, (3, 4), 96), chunks_of(FIRST)),
        (Entry("r", "k", FIRST.dtype, (3, 4), 96, fortran=True), [turned[:50], turned[50:]]),
    ):
        np.testing.assert_array_equal(entry.assemble(data), FIRST)
    assert Entry("r", "k", np.dtype("f4"), (0, 3), 0).assemble([]).shape == (0, 3)


def test_ties_are_entries_of_one_identity() -> None:
    a, b, c = (
        Entry("r", key, FIRST.dtype, (1,), 8, None, same)
        for key, same in zip("abc", (1, 1, None), strict=True)
    )
    assert [name for name, _ in left_of_ties([a, b, c, c])] == ["r/b"]


def test_progress_counts_all_passes() -> None:
    told: list[tuple[int, int]] = []
    hasher = Hasher(lambda done, total: told.append((done, total)), total=96, passes=2)
    hasher.watch_all(content(a=FIRST))
    assert (told, hasher.array_bytes) == ([(96, 192)], 96)
