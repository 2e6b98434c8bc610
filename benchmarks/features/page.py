"""Answers as a page, and as the table of docs/comparison.md."""

from __future__ import annotations

from typing import Any

from benchmarks.features.questions import FLIPS, QUESTIONS

__all__ = ["as_markdown", "feature_rows", "version_words"]

EVIDENCE = {
    "damaged": "tests/test_readme.py::test_flipped_bytes_are_found",
    "killed-new": "tests/faults/test_kill.py",
    "killed-over": "tests/faults/test_kill.py",
    "bfloat16": "tests/test_dtypes.py",
    "tied": "tests/engine/write/test_inputs.py",
    "equal": "tests/acceptance/test_equal_bytes.py",
    "hostile": "tests/test_readme.py::test_nothing_is_unpickled",
}
"""The test of each property of fedarchive."""
LEGEND = (
    "`new`, `old`: what is loaded is the new model, the old one. `error`: the load raises an error, or",
    "nothing is there. `WRONG VALUES`: the load returns other values, or fewer arrays, without an error.",
    "Bits are flipped in the bytes of arrays, or in the largest file where these are encoded. fedarchive is",
    "given `created=`, the time that it would write; Orbax `force=True`. `no pickles`: the format has none.",
)


def feature_rows(found: dict[str, Any]) -> list[str]:
    """Return the table of some answers, with the evidence of each row in the last column."""
    answers = found["answers"]
    libraries = list(dict.fromkeys(name for row in answers.values() for name in row))
    rows = [f"| | {' | '.join(libraries)} | shown by |", f"|---|{'---|' * len(libraries)}---|"]
    for question, (title, _) in QUESTIONS.items():
        if question in answers:
            cells = [_short(answers[question].get(name, "")) for name in libraries]
            evidence = f"`benchmarks/results/features.json`, `{EVIDENCE[question]}`"
            rows.append(f"| {title} | {' | '.join(cells)} | {evidence} |")
    return rows


def version_words(found: dict[str, Any]) -> str:
    """Return the versions as a sentence has them."""
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def as_markdown(found: dict[str, Any]) -> str:
    """Return the page of some answers."""
    machine = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = [
        f"# What libraries do with damage, kills and odd input, {found['created'][:10]}",
        "",
        f"machine: {machine}  ",
        f"versions: {version_words(found)}",
        "",
        "Each library is called as its documentation says, with its defaults, in processes of its own:",
        "`benchmarks/features`.",
        "",
        *feature_rows(found),
        "",
        *LEGEND,
    ]
    return "\n".join(lines) + "\n"


def _short(answer: str) -> str:
    """Return an answer without the number where all were the same."""
    count, _, word = answer.partition(" ")
    return f"{word} each time" if count == str(FLIPS) and "," not in answer else answer
