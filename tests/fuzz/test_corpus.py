"""The fuzzer's seeds and all that it ever found, run without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.target import judge

REGRESSIONS = Path(__file__).parent / "regressions"


@pytest.mark.parametrize("path", sorted(REGRESSIONS.iterdir()), ids=lambda path: path.name)
def test_what_was_found_is_found_no_more(path: Path) -> None:
    judge(path.read_bytes())


def test_the_corpus_is_judged_as_it_should() -> None:
    """Seeds are read: a seed that is refused leads nowhere."""
    assert not [path.name for path in CORPUS.iterdir() if judge(path.read_bytes())]


def test_the_corpus_is_what_the_generator_writes() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {name for name, _ in seeds()}
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000
