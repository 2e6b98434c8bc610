"""Rows in blocks: whatever the batches, the table is that of all rows at once."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import MissingError
from archive.storage.url import parse_url
from archive.tools.archivefacts import Facts, fact_columns
from archive.tools.columns import Row, make_columns
from archive.tools.many import Input, Outcome
from archive.tools.provenance import provenance_columns, provenance_of
from archive.tools.rowblocks import join_blocks, make_block

VALUES: Any = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(0, 9),
    st.floats(),
    st.booleans(),
    st.sampled_from(["", "a"]),
    st.lists(st.integers(0, 9), max_size=2),
)
NAMES = [
    *(("metrics", "fit", key) for key in ("loss", "path", "a/b")),
    *(("configs", "fit", key) for key in ("loss", "lr")),
    ("configs", "fedarchive.checkpoint", "round"),
    ("configs", "fedarchive.checkpoint", "client"),
]
ROWS: Any = st.lists(st.none() | st.dictionaries(st.sampled_from(NAMES), VALUES), max_size=12)


def outcomes_of(rows: list[Row | None]) -> list[Outcome[Facts]]:
    found: list[Outcome[Facts]] = []
    for number, row in enumerate(rows):
        path = f"/runs/adam/rounds/{number:08}.h5"
        one = Input(path, parse_url(path))
        if row is None:
            found.append(Outcome(one, error=MissingError("no such file", path=path)))
        else:
            facts = Facts(row, "2026-01-31T12:00:00Z", number, None if number % 3 else number, "")
            found.append(Outcome(one, facts))
    return found


@given(rows=ROWS, size=st.integers(1, 5), skip=st.booleans())
def test_blocks_are_the_rows_at_once(rows: list[Row | None], size: int, skip: bool) -> None:
    outcomes = outcomes_of(rows)
    blocks = [
        pickle.loads(pickle.dumps(make_block(outcomes[at : at + size], skip=skip)))
        for at in range(0, len(outcomes), size)
    ]
    assert [type(error) for block in blocks for error in block.errors] == [
        type(one.error) for one in outcomes
    ]
    columns, aliases = join_blocks(blocks, {"path": np.arange(3)}, {"error": np.arange(4)})
    kept = [one for one in outcomes if one.error is None or not skip]
    facts = [one.result for one in kept]
    wanted: dict[str, Any] = {"path": np.arange(3)} | provenance_columns(
        [provenance_of(one.input.path, one.result.row if one.result else None) for one in kept]
    )
    wanted |= fact_columns(facts) | {"error": np.arange(4)}
    shown = [
        {name: value for name, value in (one.row if one else {}).items() if name[1] == "fit"} for one in facts
    ]
    named, named_aliases = make_columns(shown, wanted)
    wanted |= named
    assert list(columns) == list(wanted)
    assert aliases == named_aliases
    for name, column in wanted.items():
        assert columns[name].dtype == column.dtype, name
        assert repr(columns[name].tolist()) == repr(column.tolist()), name


def test_a_block_is_small_when_pickled() -> None:
    names = [("metrics", "metrics", f"metric{number}") for number in range(10)]
    rows: list[Row | None] = [dict.fromkeys(names, number / 7) for number in range(1024)]
    assert len(pickle.dumps(make_block(outcomes_of(rows), skip=False))) < 1024 * 130


@pytest.mark.parametrize("number", [1 << 63, (1 << 63) - 1])
def test_large_integers_stay_whole(number: int) -> None:
    rows: list[Row | None] = [{NAMES[0]: 1}, {NAMES[0]: number}]
    blocks = [make_block([one], skip=False) for one in outcomes_of(rows)]
    columns, _ = join_blocks(blocks, {}, {})
    assert columns["loss"].tolist() == [1, number]
