"""What README and the pages claim has a test or a committed result beside it, and each of these exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import archive
from tests.pages import ROOT, read_page

CLAIMING = ["README.md", "docs/promises.md", "docs/comparison.md", "docs/speed.md"]
_EVIDENCE = re.compile(r"(?<![\w/.-])((?:tests|archive|benchmarks)/[\w./-]+)(?:::(\w+))?")
_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)


def section(page: str, title: str) -> str:
    """Return the text below a heading, up to the next of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", read_page(page), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title}"
    return found[1]


def rows(text: str) -> list[str]:
    """Return the rows of all tables, without their heads."""
    lines = text.splitlines()
    heads = {number for number, line in enumerate(lines) if re.match(r"^\|[-| ]+\|$", line)}
    heads |= {number - 1 for number in heads}
    return [line for number, line in enumerate(lines) if line.startswith("|") and number not in heads]


@pytest.mark.parametrize("page", CLAIMING)
def test_what_a_page_names_exists(page: str) -> None:
    text = read_page(page)
    named = _EVIDENCE.findall(" ".join([*re.findall(r"`[^`\n]+`", text), *_COMMENT.findall(text)]))
    assert named
    for path, test in named:
        # the package may be installed, and its tests run from an sdist
        root = Path(archive.__file__).parents[1] if path.startswith("archive/") else ROOT
        assert (root / path).exists(), path
        if test:
            assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_every_reason_to_use_it_has_its_evidence() -> None:
    reasons = re.split(r"^- ", read_page("README.md").partition("\n## ")[0], flags=re.MULTILINE)[1:]
    assert len(reasons) == 5
    for reason in reasons:
        assert any(_EVIDENCE.search(comment) for comment in _COMMENT.findall(reason)), reason


@pytest.mark.parametrize(
    ("page", "title"),
    [
        ("README.md", "What is promised"),
        ("docs/promises.md", ""),
        ("docs/comparison.md", "Features"),
        ("docs/comparison.md", "Speed"),
    ],
)
def test_every_row_has_its_evidence(page: str, title: str) -> None:
    found = rows(section(page, title) if title else read_page(page))
    assert len(found) > 5
    for row in found:
        assert _EVIDENCE.search(row.rstrip("|").rpartition("|")[2]), row


def test_promises_of_the_readme_are_among_all() -> None:
    (shown, every) = (
        {row.split("|")[1].split(":")[0].strip() for row in rows(text)}
        for text in (section("README.md", "What is promised"), read_page("docs/promises.md"))
    )
    assert len(shown) > 5
    assert {
        row for row in shown if not any(row in other or other.startswith(row) for other in every)
    } == set()
