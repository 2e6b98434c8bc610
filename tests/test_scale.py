"""The figures of docs/scale.md are those that are committed; tests/test_pages.py runs its program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from archive import tuning
from benchmarks.scale import alternatives, costs, simulate
from benchmarks.scale.averagers import AVERAGERS
from benchmarks.scale.given import values_with
from benchmarks.scale.tasktimes import WINDOW_BYTES, Shape

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
COSTS = json.loads(costs.RESULTS.read_text(encoding="utf-8"))


def committed(path: Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def rows_after(heading: str) -> list[str]:
    """Return the lines of tables in a section, without headings and rules."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ") and "---" not in line]


def test_costs_are_those_that_are_committed() -> None:
    wanted = [
        f"| `{name}` | {found['cpu'] * 1000:.2f} | {found['anon'] / 1e6:.0f} MB | {found['open']} |"
        for name, found in COSTS["functions"].items()
    ]
    assert rows_after("What an archive costs")[1:] == wanted
    name = COSTS["caller"]
    assert f"{name['name_bytes']:.0f} bytes and {name['name'] * 1e6:.0f} us each" in PAGE


def test_sizes_are_those_of_the_code() -> None:
    assert f"Up to {tuning.TASKS} tasks are under way" in PAGE
    assert f"one for every {WINDOW_BYTES >> 20} MiB of it" in PAGE
    assert f"up to {tuning.TAIL_BYTES >> 10} KiB comes with the first" in PAGE.replace("\n", " ")


def test_simulated_rows_are_those_that_are_committed() -> None:
    found = simulate.RESULTS.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    rows = [row for row in rows_after("A million clients, on paper") if re.match(r"\| [\d,]+ x ", row)]
    assert len(rows) == 16
    assert [row for row in rows if row not in found] == []


def test_alternatives_are_those_that_are_committed() -> None:
    found = alternatives.RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert found == alternatives.as_markdown(committed(alternatives.RESULTS))
    rows = [
        row for row in rows_after("Beside what people write today") if row.split("|")[1].strip() in AVERAGERS
    ]
    assert len(rows) > 2 * len(AVERAGERS)
    assert [row for row in rows if row not in found.splitlines()] == []


def test_the_costs_of_tasks_explain_what_a_mean_took() -> None:
    """16 batches, and the mean of their sums, by the fitted costs, beside the mean itself."""
    batch, group, nbytes = COSTS["files"]["batch"], COSTS["files"]["group"], COSTS["sizes"][0]
    modelled = 16 * (batch["task"] + 2 * nbytes * batch["written"])
    modelled += costs.MANY * (batch["archive"] + nbytes * batch["byte"])
    modelled += (
        group["task"] + 16 * (group["archive"] + 2 * nbytes * group["byte"]) + nbytes * group["written"]
    )
    assert modelled == pytest.approx(COSTS["functions"]["mean"]["cpu"] * costs.MANY, rel=0.5)


def test_what_breaks_first_is_what_is_simulated() -> None:
    shape, given = Shape(10_000, 14_000_000_000, COSTS["overhead"]), values_with([])
    found = {
        batch: simulate.simulate(simulate.cut_shape(10_000, batch, remote=True), shape, 64, COSTS, given)
        for batch in (64, 512)
    }
    assert found[64].batches == 157
    assert "10,000 clients are 157 tasks" in PAGE
    assert found[64].scratch / found[512].scratch == pytest.approx(8, rel=0.01)
    assert "`batch=512`: an eighth" in PAGE
    assert f"leave {found[64].scratch / 1e12:.2f} TB" in PAGE
