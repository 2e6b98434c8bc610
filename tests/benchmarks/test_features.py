"""What libraries are asked; the committed answers are those of the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.features.libraries import LIBRARIES
from benchmarks.features.page import as_markdown, feature_rows, version_words
from benchmarks.features.questions import QUESTIONS
from tests.pages import ROOT, read_page

RESULTS = ROOT / "benchmarks/results/features.json"


@pytest.mark.parametrize(
    ("library", "question", "answer"),
    [
        ("fedarchive", "damaged", "10 error"),
        ("fedarchive", "bfloat16", "comes back"),
        ("fedarchive", "tied", "once"),
        ("fedarchive", "hostile", "no pickles"),
        ("np.savez", "damaged", "10 error"),
        ("np.savez", "bfloat16", "comes back as void16"),
        ("np.savez", "tied", "twice"),
        ("np.savez", "hostile", "refused"),
        ("safetensors", "damaged", "10 WRONG VALUES"),
        pytest.param("fedarchive", "equal", "yes", marks=pytest.mark.slow),
    ],
)
def test_answers(library: str, question: str, answer: str, tmp_path: Path) -> None:
    pytest.importorskip(LIBRARIES[library].module)
    assert QUESTIONS[question][1](LIBRARIES[library], tmp_path) == answer


@pytest.mark.slow
@pytest.mark.parametrize("question", ["killed-new", "killed-over"])
def test_our_killed_saves_are_the_old_the_new_or_none(question: str, tmp_path: Path) -> None:
    answer = QUESTIONS[question][1](LIBRARIES["fedarchive"], tmp_path)
    kinds = {part.partition(" ")[2] for part in answer.split(", ")}
    assert kinds <= ({"new", "error"} if question == "killed-new" else {"new", "old"})


def test_pages_have_the_committed_answers() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert RESULTS.with_suffix(".md").read_text(encoding="utf-8") == as_markdown(found)
    page = read_page("docs/comparison.md")
    assert "\n".join(feature_rows(found)) in page
    assert version_words(found) in page
    assert found["created"][:10] in page
    assert set(found["answers"]) == set(QUESTIONS)
    assert all(set(row) == set(LIBRARIES) for row in found["answers"].values())
    assert {word for row in found["answers"].values() for word in row.values() if word == "failed"} == set()
