"""Summaries as HTML: within 100,000 bytes, and nothing in them but our own elements."""

from __future__ import annotations

import pytest

from archive.display.markup import summary_html
from archive.display.summaries import ARRAY_COLUMNS, Section, Summary
from tests.hostiletexts import ALL, Page


@pytest.mark.parametrize("text", ["&" * 9000, "\x1b" * 9000, "\U0001f600" * 9000, "<b>" * 9000])
@pytest.mark.parametrize("sections", [1, 7, 5000])
def test_html_is_short(text: str, sections: int) -> None:
    rows = [(text,) * 4] * 200
    section = Section("arrays", text, ARRAY_COLUMNS, 20_000, rows[:150], rows[150:])
    html = summary_html(Summary(text, [(text, text)] * 5, [section] * sections, sections))
    assert len(html.encode()) < 100_000
    texts = Page(html).texts
    shown = len([cell for cell in texts if cell.endswith("more")])
    assert shown >= 1, "what is left out is counted"


def test_rows_that_are_left_out_are_counted() -> None:
    rows = [(f"w{number}", "float32", "()", "4 bytes") for number in range(200)]
    sections = [Section("arrays", "a", ARRAY_COLUMNS, 500, rows[:150], rows[150:])] * 2
    texts = Page(summary_html(Summary("title", (), sections, 2))).texts
    assert texts.count("4 bytes") == 200
    assert "... 300 more" in texts
    assert "... 1 more record" in texts


def test_names_are_texts_and_nothing_else() -> None:
    for text in ALL:
        section = Section("arrays", text, ARRAY_COLUMNS, 1, [(text,) * 4])
        page = Page(summary_html(Summary(text, [("fact", text)], [section], 1)))
        assert "".join(page.texts).isprintable()
        if len(text) < 160 and text.isprintable():
            assert page.texts.count(text) == 7


def test_it_needs_nothing_from_outside() -> None:
    html = summary_html(Summary("title"))
    for word in ("http", "url(", "@import", "src=", "href=", "<script", " id="):
        assert word not in html
    assert "prefers-color-scheme" not in html, "a light page stays light where the browser prefers dark"
    assert ",inherit))" in html
    assert "--jp-content-font-color1" in html
