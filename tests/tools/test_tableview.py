"""What is shown of a table: the first and the last rows and columns, whatever is in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive.tools.tabulation import Table, texts
from tests.hostiletexts import ALL, require_inert


def shown(table: Any) -> tuple[list[str], list[str]]:
    text, html = repr(table), table._repr_html_()
    page = require_inert(text, html)
    return text.splitlines(), page.texts


def test_many_rows_are_cut_in_the_middle() -> None:
    count = 100_000
    lines, cells = shown(Table({"round": np.arange(count), "name": texts([f"c{n}" for n in range(count)])}))
    assert lines[0] == "Table: 100,000 rows, 2 columns"
    assert lines[1].split() == ["round", "name"]
    assert lines[2].split() == ["0", "0", "c0"]
    assert lines[7] == "    ... 99,990 more"
    assert lines[-1].split() == ["99999", "99999", "c99999"]
    assert len(lines) == 13
    assert {"c19", "c99980", "... 99,960 more", "round"} <= set(cells)
    assert not {"c20", "c99979"} & set(cells)


def test_few_rows_are_all_there() -> None:
    lines, cells = shown(Table({"loss": np.array([0.5, np.nan, 1 / 3]), "note": texts(["a", None, "b"])}))
    assert [line.split() for line in lines[2:]] == [
        ["0", "0.5", "a"],
        ["1", "nan", "None"],
        ["2", "0.333333", "b"],
    ]
    assert "0.333333" in cells


def test_columns_that_do_not_fit_are_left_out() -> None:
    lines, cells = shown(Table({f"metric-{number:03}": np.arange(3) for number in range(500)}))
    assert lines[0].endswith("3 rows, 500 columns")
    assert "metric-000" in lines[1]
    assert lines[1].endswith("...  metric-497  metric-498  metric-499")
    assert max(map(len, lines)) < 120
    assert {"metric-000", "metric-499", "460 columns"} <= set(cells)


def test_whose_a_row_is_and_its_metrics_are_shown() -> None:
    whose = {
        "path": texts(["/a/long/path/of/a/file/in/a/run.h5"]),
        "run": texts(["adam"]),
        "round": np.arange(1),
    }
    facts = {name: np.arange(1) + 123_456_789 for name in ("file_bytes", "arrays", "more_facts", "yet_more")}
    metrics = {"accuracy": np.array([0.8]), "loss": np.array([0.1])}
    lines, _ = shown(
        Table(whose | {"created": np.array(["2026-11-29T21:22:10.5"], "M8[us]")} | facts | metrics)
    )
    assert lines[1].split()[:3] == ["path", "run", "round"]
    assert lines[1].split()[-3:] == ["yet_more", "accuracy", "loss"]
    assert "..." in lines[1].split()


def test_moments_are_dates() -> None:
    lines, cells = shown(Table({"created": np.array(["2026-11-29T21:22:10.5", "NaT"], "M8[us]")}))
    assert [line.split() for line in lines[2:]] == [["0", "2026-11-29", "21:22:10"], ["1", "-"]]
    assert "2026-11-29 21:22:10" in cells


def test_nothing_is_shown_too() -> None:
    assert repr(Table({})) == "Table: 0 rows, 0 columns"
    lines, _ = shown(Table({"path": texts([])}))
    assert lines == ["Table: 0 rows, 1 column", "      path"]


def test_hostile_names_and_values_are_text() -> None:
    lists: Any = np.empty(len(ALL), object)
    lists[:] = [[name] * 1000 for name in ALL]
    table = Table({name: texts(ALL) for name in ALL} | {"lists": lists, "big": texts(ALL)})
    shown(table)
    shown(Table({name: texts(ALL) for name in ALL[30:50]}))
    _, cells = shown(Table({"<b>": texts(["<script>1</script>"])}))
    assert {"<b>", "<script>1</script>"} <= set(cells)


def test_columns_that_a_program_added_are_shown() -> None:
    table = Table({"a": np.arange(3)})
    table["short"] = np.arange(1)
    table["big"] = np.array([10**5000, 1, 2], object)
    lines, _ = shown(table)
    assert lines[2].split() == ["0", "0", "0", "<int", "of", "16,610", "bits>"]
    assert lines[3].split() == ["1", "1", "1"]
