"""Figures of the package's own source: ``python -m tests.architecture.measures``."""

from __future__ import annotations

import ast
import collections
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import archive

ROOT = Path(archive.__file__).parent
"""The package that is imported: the tests of an sdist run against an installed wheel."""
SHIPPED_HELPERS = ROOT / "testing"
PLACES = {"path", "offset", "key"}


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method."""

    where: str
    """File and name."""
    lines: int
    """Lines without the docstring."""
    whole: int
    """Lines with the docstring."""


@dataclass(frozen=True, slots=True)
class Raise:
    """One place that makes an error of ours."""

    where: str
    """File, line and class."""
    placed: bool
    """The call gives a path, an offset or a key."""


def modules() -> dict[Path, ast.Module]:
    """Parse every module of the package."""
    return {path: ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}


def lengths() -> dict[Path, int]:
    """Return the number of lines of every module."""
    return {path: len(path.read_text().splitlines()) for path in sorted(ROOT.rglob("*.py"))}


def functions(trees: dict[Path, ast.Module]) -> list[Function]:
    """Return every function of the package, the longest last."""
    found = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                whole = (node.end_lineno or 0) - node.lineno + 1
                first = node.body[0]
                documented = ast.get_docstring(node, clean=False) is not None
                docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
                found.append(Function(f"{path.relative_to(ROOT)}:{node.name}", whole - docstring, whole))
    return sorted(found, key=lambda function: function.lines)


def raises(trees: dict[Path, ast.Module]) -> list[Raise]:
    """Return every call of an error class of `archive.errors`, outside the shipped test helpers."""
    errors = {node.name for node in trees[ROOT / "errors.py"].body if isinstance(node, ast.ClassDef)}
    found = []
    for path, tree in trees.items():
        if path == ROOT / "errors.py" or SHIPPED_HELPERS in path.parents:
            continue
        found += [
            Raise(f"{path.relative_to(ROOT)}:{line} {name}", placed)
            for line, name, placed in _made(tree, errors)
        ]
    return found


def _made(tree: ast.Module, errors: set[str]) -> Iterator[tuple[int, str, bool]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in errors:
                yield node.lineno, name, bool(PLACES & {keyword.arg for keyword in node.keywords})


def stems() -> dict[str, list[str]]:
    """Return the file names that occur more than once, with their places."""
    found = collections.defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        found[path.stem].append(str(path.relative_to(ROOT)))
    return {stem: places for stem, places in found.items() if len(places) > 1 and stem != "__init__"}


def percentile(values: list[int], share: float) -> int:
    """Return the smallest value that ``share`` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def main() -> None:
    """Print every figure."""
    trees, lines = modules(), lengths()
    own = {path: number for path, number in lines.items() if SHIPPED_HELPERS not in path.parents}
    print(f"lines of archive/ without archive/testing: {sum(own.values())} in {len(own)} modules")
    print(f"module length: median {statistics.median(lines.values())}, longest {max(lines.values())}")
    found = functions(trees)
    for name, values in (
        ("without", [function.lines for function in found]),
        ("with", [function.whole for function in found]),
    ):
        marks = [percentile(values, share) for share in (0.9, 0.99, 1.0)]
        print(f"function length {name} docstring: p90 {marks[0]}, p99 {marks[1]}, longest {marks[2]}")
    made = raises(trees)
    placed = [error.placed for error in made]
    print(f"own errors made with a place: {sum(placed)} of {len(placed)}, {sum(placed) / len(placed):.1%}")
    print(f"file names used more than once: {stems()}")
    for error in made:
        if not error.placed:
            print(f"  without a place: {error.where}")


if __name__ == "__main__":
    main()
