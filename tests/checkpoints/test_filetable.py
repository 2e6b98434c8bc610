"""Tables of files: what comes out is what went in, to the last bit; what strangers made is refused."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from archive.checkpoints.filetable import (
    FileTable,
    KnownFile,
    TableRow,
    make_table,
    proof_of,
)
from archive.checkpoints.tablecheck import parse_table
from archive.tools.archivefacts import Facts
from archive.tools.columns import Row

DIGEST = "0123456789abcdef" * 2
NAMES = st.text(max_size=3)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
METRICS: st.SearchStrategy[Any] = (
    INTEGERS | st.floats() | st.lists(st.floats(), min_size=1, max_size=3) | st.just([])
)
CONFIGS = (
    METRICS
    | st.booleans()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.lists(st.text(), min_size=1, max_size=2)
)


@st.composite
def rows(draw: Any) -> Row:
    found: Row = {}
    for record, key in draw(st.lists(st.tuples(NAMES, NAMES), max_size=4)):
        kind = draw(st.sampled_from(["metrics", "configs"]))
        found[kind, record, key] = draw(METRICS if kind == "metrics" else CONFIGS)
    return found


def table_of(*found: Row) -> FileTable:
    return make_table(
        [
            TableRow(
                number, f"c{number}", "", DIGEST, KnownFile(Facts(row, "2026", 9, number, DIGEST), 5, "tag")
            )
            for number, row in enumerate(found)
        ]
    )


def exact(row: Row) -> list[Any]:
    def bits(value: Any) -> Any:
        if isinstance(value, float):
            return struct.pack("d", value)
        return [bits(one) for one in value] if isinstance(value, list) else value

    return [(name, type(value), bits(value)) for name, value in row.items()]


def facts(table: FileTable) -> list[Facts]:
    return table.facts(count_all=True, most_tail=0)


@given(st.lists(rows(), max_size=5), st.data())
def test_what_comes_out(found: list[Row], data: st.DataObject) -> None:
    table = parse_table(table_of(*found).arrays(), "x")
    assert [exact(one.row) for one in facts(table)] == [exact(row) for row in found]
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))), bool)
    kept, left = table.select(keep), table.select(~keep)
    assert [exact(one.row) for one in facts(kept)] == [
        exact(r) for r, k in zip(found, keep, strict=True) if k
    ]
    joined = parse_table(kept.join(left).ordered().arrays(), "x")
    assert [exact(one.row) for one in facts(joined)] == [exact(row) for row in found]
    assert joined.proofs() == [proof_of(9, "tag")] * len(found)
    assert {one.digest for one in facts(joined)} <= {DIGEST}
    assert len(kept.texts) <= len(table.texts)


def test_lists_are_each_ones_own() -> None:
    row: Row = {("configs", "c", "k"): ["a"]}
    first, second = (one.row["configs", "c", "k"] for one in facts(table_of(row, row)))
    assert first == second == ["a"]
    assert first is not second


def test_records_of_the_store_itself_are_left_out() -> None:
    row: Row = {
        ("configs", "fedarchive.checkpoint", "clients"): ["a"],
        ("configs", "fedarchive.curve", "length"): 3,
        ("configs", "fedarchive.curve", "keys"): ["a"],
        ("metrics", "m", "loss"): math.inf,
    }
    (found,) = facts(table_of(row))
    assert [key for *_, key in found.row] == ["length", "loss"]
