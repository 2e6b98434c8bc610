"""The committed page has every tool and every kind, and nothing that is ours to mend."""

from __future__ import annotations

from datetime import date

from tests.hdf5tools.comparing import Difference, Outcome
from tests.hdf5tools.kinds import KINDS
from tests.hdf5tools.page import cells_of, page
from tests.hdf5tools.running import Cell
from tests.hdf5tools.tools import ROOT, TOOLS

COMMITTED = (ROOT / "docs/hdf5-tools.md").read_text(encoding="utf-8")


def test_no_cell_of_the_committed_page_is_wrong() -> None:
    table = cells_of(COMMITTED)
    assert list(table) == [kind.name for kind in KINDS]
    assert all(list(cells) == [tool.name for tool in TOOLS] for cells in table.values())
    assert {verdict for cells in table.values() for verdict in cells.values()} <= {"right", "theirs"}
    assert all(cells["h5py"] == "right" for cells in table.values())


def test_each_tool_that_fails_is_explained() -> None:
    lines = COMMITTED.split("\n## Theirs\n")[1].splitlines()
    rows = [line.strip("| ").split(" | ")[:2] for line in lines if line.startswith("| ")][1:]
    listed = {(kind, tool) for tool, kinds in rows for kind in kinds.split("; ")}
    failed = {
        (kind, tool)
        for kind, cells in cells_of(COMMITTED).items()
        for tool, verdict in cells.items()
        if verdict == "theirs"
    }
    assert listed == failed


def test_a_page_says_what_came_out_and_keeps_what_people_wrote() -> None:
    failed = Outcome((Difference("/a|b`\x1b\n", "int () [1]", "nothing"),))
    table = {
        "one": {"A": Cell("right"), "B": Cell("theirs", failed, "h5py")},
        "two": {"A": Cell("wrong"), "B": Cell("missing")},
    }
    versions = {name: {"tool": "1|2", "hdf5": "none"} for name in "AB"}
    once = page(COMMITTED, table, versions, date(2026, 1, 2))
    assert cells_of(once) == {
        "one": {"A": "right", "B": "theirs"},
        "two": {"A": "wrong", "B": "missing"},
    }
    assert "| B | one | `/a/b'\\x1b` is `int () [1]`, said is `nothing` | h5py |" in once
    assert page(once, table, versions, date(2026, 1, 2)) == once
    assert once.startswith(COMMITTED.split("<!--")[0])
