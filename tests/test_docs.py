"""The pages of docs/ for users: what they quote from the log is what the code says; what they name exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import archive
from archive.cli.dispatch import _COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = Path(archive.__file__).parent
TROUBLE = ROOT / "docs/troubleshooting.md"
PAGES = ["docs/resume.md", "docs/troubleshooting.md", "examples/flower/README.md"]


def texts() -> Iterator[str]:
    """Yield all texts of the package; what an f-string inserts is a NUL."""
    for module in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted() -> list[str]:
    """Return what the page says that the log says, except what Flower says."""
    rows = re.findall(r"^\| (`.*?) \| ", TROUBLE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [cell for row in rows if "(Flower's)" not in row for cell in re.findall(r"`([^`]+)`", row)]
    return [part for cell in cells for part in re.split(r"\s*\.\.\.\s*", cell) if part]


def test_quoted_texts_are_those_of_the_code() -> None:
    known = list(texts())
    found = quoted()
    assert len(found) > 20
    assert [part for part in found if not any(part in text for text in known)] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"(?:^|`)fedarchive ([a-z]+)", text, re.MULTILINE)) <= set(_COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_names_of_pages_exist(page: str) -> None:
    blocks = re.findall(
        r"^```(?:python)?\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    imported = re.findall(r"^from (archive[\w.]*) import (.+)$", "\n".join(blocks), re.MULTILINE)
    for module, names in imported:
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
