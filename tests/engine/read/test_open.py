"""Indexes judged before: taken again where they are the same, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from archive import tuning
from archive.engine.read import open as opening
from archive.engine.read.open import forget_indexes, validated_index
from archive.errors import ArchiveError
from archive.format.index import Index
from archive.format.origin import Origin
from tests.format.test_index import build


@pytest.fixture(autouse=True)
def _nothing_judged() -> Iterator[None]:
    forget_indexes()
    yield
    forget_indexes()


def content(index: Index) -> list[object]:
    columns = (
        "offset",
        "stored_nbytes",
        "dims_end",
        "segment_at",
        "dims",
        "digests",
        "record",
        "type",
        "flags",
    )
    return [
        index.nbytes,
        index.records,
        index.types,
        index.keys(range(index.arrays)),
        *(getattr(index, column).tolist() for column in columns),
    ]


def judge_bytes(buffer: bytes, end: int) -> object:
    """Return what an index says, or why it is refused."""
    try:
        return content(validated_index(np.frombuffer(buffer, np.uint8), end, Origin()))
    except ArchiveError as error:
        return type(error), str(error)


def test_archives_of_one_schema_share_columns_and_nothing_else() -> None:
    first, end = build(["a", "b"])
    first.digests[:] = 1
    second, _ = build(["a", "b"])
    second.digests[:] = 2
    one = validated_index(first.buffer, end, Origin("one"))
    two = validated_index(second.buffer, end, Origin("two"))
    assert two.offset is one.offset
    assert (one.origin.path, two.origin.path) == ("one", "two")
    assert bytes(one.digests[0]) == b"\x01" * 16
    assert bytes(two.digests[0]) == b"\x02" * 16
    forget_indexes()
    assert content(two) == content(validated_index(second.buffer, end, Origin("two")))


def test_no_changed_byte_is_taken_for_what_was_judged() -> None:
    writer, end = build(["a", "bc", "d\u00e9"], records=[0, 0, 1], names=2)
    good = writer.buffer.tobytes()
    for at in range(len(good)):
        for flip in (0x01, 0xFF):
            changed = bytearray(good)
            changed[at] ^= flip
            forget_indexes()
            alone = judge_bytes(bytes(changed), end)
            forget_indexes()
            judge_bytes(good, end)
            assert judge_bytes(bytes(changed), end) == alone, (at, flip)


def test_arrays_that_no_longer_fit_before_the_metadata_are_refused_again() -> None:
    writer, end = build(["a", "b"])
    good = writer.buffer.tobytes()
    judge_bytes(good, end)
    assert "leave the data" in str(judge_bytes(good, end - 64))


def test_what_is_kept_is_bounded() -> None:
    for number in range(tuning.INDEXES + 3):
        writer, end = build([f"{key}" for key in range(number + 1)])
        validated_index(writer.buffer, end, Origin())
    assert len(opening._kept) == tuning.INDEXES
    forget_indexes()
    long, end = build([f"{number:060}" for number in range(2_000)])
    assert len(long.buffer) > tuning.INDEX_BYTES
    validated_index(long.buffer, end, Origin())
    assert not opening._kept
