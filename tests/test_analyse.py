"""docs/analyse.md is short: a task is two lines or a command. tests/test_pages.py runs it."""

from __future__ import annotations

from tests.pages import blocks

BLOCKS = [(block.kind, block.code) for block in blocks("docs/analyse.md")]


def test_every_task_is_two_lines_or_a_command() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds.count("python") == 1, "the run that is analysed"
    assert kinds.count("pycon") >= 8
    assert kinds.count("console") >= 7
    for kind, block in BLOCKS:
        if kind == "pycon":
            assert block.count(">>> ") <= 3, block
