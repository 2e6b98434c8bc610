"""The house keeps its measures: short modules and functions, errors with a place, one file a name."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.measures import functions, lengths, modules, percentile, raises, stems

TWINS = {"open", "source"}
"""Parallel rooms have modules of one name: how each is opened, and where its bytes come from."""


def test_modules_are_short() -> None:
    found = lengths()
    assert max(found.values()) <= 400
    assert statistics.median(found.values()) <= 150


def test_functions_are_short() -> None:
    found = [function.lines for function in functions(modules())]
    assert (percentile(found, 0.9) <= 25, percentile(found, 0.99) <= 50, max(found) <= 60) == (True,) * 3


def test_errors_are_made_with_their_place() -> None:
    made = raises(modules())
    without = [error.where for error in made if not error.placed]
    assert len(without) <= 0.05 * len(made), without


def test_a_file_name_occurs_once() -> None:
    assert set(stems()) <= TWINS, stems()


@pytest.mark.parametrize(
    ("trip", "modules", "changes"), [("save, again", 15, 45), ("open", 10, 18), ("local slice", 6, 9)]
)
def test_a_call_is_followed_through_few_modules(
    trips: dict[str, list[int]], trip: str, modules: int, changes: int
) -> None:
    found = trips[trip]
    assert found[0] <= modules
    assert found[1] <= changes


@pytest.fixture(scope="module")
def trips() -> dict[str, list[int]]:
    """Follow the trips in a process of their own: what this process knows of a schema would shorten them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.architecture.trips"],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:6]]
    return {row[0]: [int(row[1]), int(row[3])] for row in rows}
