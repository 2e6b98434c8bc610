"""The documents of the specification, as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DEFINED", "DOCUMENTS", "FOLDER", "TEXT", "rules_in"]

FOLDER = Path(__file__).parents[2] / "spec/v1"
DOCUMENTS = {
    name: (FOLDER / name).read_text(encoding="utf-8")
    for name in ("format.md", "tree.md", "remote.md", "conventions.md")
}
TEXT = "\n".join(DOCUMENTS.values())


def rules_in(text: str) -> list[str]:
    """Return the ids of the rules that a text states, in order."""
    return re.findall(r"^- \*\*\[([A-Z0-9]+-\d+)\]\*\* ", text, re.MULTILINE)


DEFINED = rules_in(TEXT)
"""Ids of all rules."""
