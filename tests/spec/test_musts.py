"""Every MUST of the documents of ``spec/v1`` has its proof, and every proof its MUST.

A proof is a vector of ``spec/v1/vectors`` (``proves``) or a test marked with ``pytest.mark.must``.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

from tests.spec.documents import DEFINED

ROOT = Path(__file__).parents[2]
VECTORS = {
    path: json.loads(path.read_text()) for path in sorted((ROOT / "spec/v1/vectors").glob("*valid/*.json"))
}


def marked() -> dict[str, list[str]]:
    """Return the ids that each test is marked with, found without running anything."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.must":
                    found[f"{path.relative_to(ROOT)}::{node.name}"] = [
                        ast.literal_eval(of) for of in mark.args
                    ]
    return found


def test_ids_are_unique() -> None:
    assert [name for name, count in Counter(DEFINED).items() if count > 1] == []


def test_every_must_is_proven() -> None:
    by_vector = {name for said in VECTORS.values() for name in said["proves"]}
    by_test = {name for names in marked().values() for name in names}
    assert sorted(set(DEFINED) - by_vector - by_test) == []


def test_every_proof_is_of_a_must() -> None:
    for name, ids in (*marked().items(), *((str(path), said["proves"]) for path, said in VECTORS.items())):
        assert ids, name
        assert sorted(set(ids) - set(DEFINED)) == [], name
        assert len(set(ids)) == len(ids), name


def test_every_vector_is_an_archive_and_its_document() -> None:
    assert {path.stem for path in VECTORS} <= {path.stem for path in (ROOT / "spec/v1/vectors").rglob("*.h5")}
    for path, said in VECTORS.items():
        assert said["outcome"] == path.parent.name, path
        assert said["title"], path
        assert ("error" in said) == (said["outcome"] == "invalid"), path
