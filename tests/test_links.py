"""Every link of every page leads to a file of the repository, and to a heading that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import ROOT

PATTERNS = [
    "*.md",
    "docs/*.md",
    "spec/**/*.md",
    "examples/*/README.md",
    "changes/README.md",
    "tests/RESULTS.md",
]
PAGES = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern) if "vectors" not in path.parts})
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<path>[^)\s#]*)(?:#(?P<anchor>[^)\s]*))?\)")


def headings(path: Path) -> set[str]:
    """Return the anchors of a page that GitHub and MkDocs spell alike."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.finditer(_CODE.sub("`", page.read_text(encoding="utf-8"))):
        if ":" in link["path"]:
            assert link["path"].startswith("https://"), link[0]
            continue
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        assert target.exists(), link[0]
        assert target.is_relative_to(ROOT), link[0]
        if link["anchor"]:
            assert link["anchor"] in headings(target), link[0]
