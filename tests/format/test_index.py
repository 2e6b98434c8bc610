"""The packed index: written, read in place, and searched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import HostileFileError
from archive.format.constants import KIND_ARRAYS, KIND_METRICS, MODE_ELEMENTS, NO_ALIAS
from archive.format.elements import ArrayType
from archive.format.index import Index, RecordName, read_index
from archive.format.indexwriter import ArrayColumns, IndexTemplate, IndexWriter
from archive.format.layout import place_arrays
from archive.format.validation import validate_index

TYPE = ArrayType("float32", "numpy.ndarray", "<f4", MODE_ELEMENTS, 4)
KEYS = st.lists(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, max_size=12
)


def build(
    keys: list[str],
    records: list[int] | None = None,
    names: int = 1,
) -> tuple[IndexWriter, int]:
    """Return an index of one-float arrays, and where their bytes end."""
    n = len(keys)
    offset, end = place_arrays(np.full(n, 4, np.uint64))
    columns = ArrayColumns(
        keys=[key.encode() for key in keys],
        record=np.array(records if records is not None else [0] * n, np.uint32),
        type=np.zeros(n, np.uint32),
        dims=np.ones(n, np.uint64),
        dims_end=np.arange(1, n + 1, dtype=np.uint64),
        offset=offset,
        nbytes=np.full(n, 4, np.uint64),
        alias_of=np.full(n, NO_ALIAS, np.uint32),
        flags=np.zeros(n, np.uint32),
        segment_at=np.arange(n, dtype=np.uint64),
    )
    named = [RecordName(KIND_ARRAYS, f"r{number}") for number in range(names)]
    template = IndexTemplate(columns, [TYPE], [*named, RecordName(KIND_METRICS, "r0")], n)
    return template.write(), end


def read(writer: IndexWriter, end: int) -> Index:
    index = read_index(writer.buffer)
    validate_index(index, end)
    return index


@given(KEYS)
def test_every_key_is_found_and_nothing_else(keys: list[str]) -> None:
    index = read(*build(keys))
    assert index.arrays == len(keys)
    assert index.keys(range(len(keys))) == keys
    assert [index.key(row) for row in range(len(keys))] == keys
    for row, key in enumerate(keys):
        assert index.find(key, KIND_ARRAYS) == [row]
    for absent in ("absent key", "\ud800", "".join(keys) + "!"):
        assert index.find(absent, KIND_ARRAYS) == []


def test_one_key_in_many_records() -> None:
    index = read(*build(["x", "y", "x", "x"], [0, 0, 1, 2], names=3))
    assert index.find("x", KIND_ARRAYS) == [0, 2, 3]
    assert index.find("y", KIND_ARRAYS) == [1]
    assert index.record_rows["arrays"].tolist() == [2, 1, 1, 0]


def test_tables_come_back() -> None:
    index = read(*build(["x"], names=2))
    assert index.types == [TYPE]
    assert [str(record) for record in index.records] == ["arrays/r0", "arrays/r1", "metrics/r0"]
    assert index.shape(0) == (1,)
    assert index.shapes() == [(1,)]


def test_digests_are_filled_in_place() -> None:
    writer, end = build(["x", "y"])
    writer.digests[1] = np.frombuffer(b"0123456789abcdef", np.uint8)
    index = read(writer, end)
    assert index.segment_digests(1)[0].tobytes() == b"0123456789abcdef"
    assert index.segment_digests(0)[0].tobytes() == bytes(16)


def test_equal_strings_are_stored_once() -> None:
    whole = read(*build(["x"], names=1)).pool.base
    assert whole is not None
    assert len(build(["x"], names=1)[0]) == len(whole)
    pool = read(*build(["x"], names=1)).pool.tobytes()
    assert pool.count(b"r0") == 1


@pytest.mark.parametrize("nbytes", [0, 8, 95])
def test_shorter_than_its_header(nbytes: int) -> None:
    with pytest.raises(HostileFileError, match="shorter than its header"):
        read_index(build(["x"])[0].buffer[:nbytes])


def test_every_cut_is_refused() -> None:
    writer, _ = build(["x", "y"])
    for nbytes in range(96, len(writer.buffer)):
        with pytest.raises(HostileFileError, match="sections of the index"):
            read_index(writer.buffer[:nbytes])
