"""Summaries as lines: within 4,000 bytes, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from archive.display.summaries import ARRAY_COLUMNS, Section, Summary, places, summary_text

ROW = ("\U0001f600" * 9000, "float32", "(2, 3)", "24 bytes")


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 20_000])
def test_places_are_the_first_and_the_last(count: int) -> None:
    head, tail = places(count, 8)
    shown = [*head, *tail]
    assert len(shown) == min(count, 8)
    assert shown == sorted(set(shown))
    assert not count or (shown[0], shown[-1]) == (0, count - 1)


def test_a_table_that_is_too_long_is_begun() -> None:
    section = Section("arrays", "model", ARRAY_COLUMNS, 200, [ROW] * 200)
    text = summary_text(Summary("title", [("path", "x" * 9000)] * 3, [section], 1))
    assert len(text.encode()) < 4000
    assert text.count("float32") > 3


def test_sections_are_made_when_their_turn_comes() -> None:
    made = []

    def sections() -> Iterator[Section]:
        for number in range(10_000):
            made.append(number)
            yield Section("arrays", f"r{number}", ARRAY_COLUMNS, 1, [ROW])

    text = summary_text(Summary("title", (), sections(), 10_000))
    assert len(text.encode()) < 4000
    assert text.endswith(f"... {10_001 - len(made):,} more records")
    assert len(made) < 50


def test_a_problem_stands_in_the_place_of_rows() -> None:
    text = summary_text(Summary("title", (), [Section("metrics", "fit", (), 3, problem="odd\nvalue")], 1))
    assert text == "title\nmetrics 'fit': 3\n    odd\\nvalue"
