"""Switches off the checks of the independent reader one by one, and prints those that no vector notices.

A check that no vector notices may be missing from another reader as well: its rule needs a vector.
``python -m tests.spec.switched`` takes some minutes; ``poe switched`` does the same.
"""

from __future__ import annotations

import ast
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from archive.testing.vectors import run_vectors
from tests.spec.independent import IndependentReader

__all__ = ["Check", "checks", "unnoticed"]

SOURCE = Path(__file__).with_name("reader.py")
VECTORS = Path(__file__).parents[2] / "spec/v1/vectors"


IMPLIED = {
    "counts[2] < 4294967295": "[INDEX-3]: a file of so many rows has 100 GB",
    "counts[0] <= 1 << 24": "[INDEX-3]: a file of so many records has 512 MB",
    "record < len(counts)": "IndexError, which is Hostile as well",
    "number < len(self.kinds)": "IndexError, which is Hostile as well",
    "alias < len(self.rows) - 1": "IndexError; of the row itself, the other half",
    "set(TEXT.sub('', kind)) <= set('[](), 0123456789')": "another quote or escape is another repr as well",
}
"""Conditions that no file can show, and what refuses the file without them."""


class Check:
    """One condition of a ``require`` call: an argument after the rule, or one side of an ``and`` in it.

    Parameters
    ----------
    call : int
        Number of the call in the source.
    path : tuple of int
        Number of the argument, then of the operand in it.
    text : str
        Line, rule and condition.
    """

    def __init__(self, call: int, path: tuple[int, ...], text: str) -> None:
        self.call, self.path, self.text = call, path, text
        self.implied = IMPLIED.get(text.partition("': ")[2])


def checks(source: str) -> Iterator[Check]:
    """Yield every condition."""
    for number, call in enumerate(_calls(ast.parse(source))):
        rule = ast.unparse(call.args[0])
        for at, condition in enumerate(call.args[1:], 1):
            parts = _sides(condition)
            for part, node in enumerate(parts):
                path = (at, part) if len(parts) > 1 else (at,)
                yield Check(number, path, f"line {call.lineno}, {rule}: {ast.unparse(node)}")


def without(source: str, check: Check) -> str:
    """Return the source with a condition that always holds in the place of one."""
    tree = ast.parse(source)
    arguments = _calls(tree)[check.call].args
    at, *part = check.path
    condition = arguments[at]
    if part:
        assert isinstance(condition, ast.BoolOp)
        condition.values[part[0]] = ast.Constant(True)
    else:
        arguments[at] = ast.Constant(True)
    return ast.unparse(ast.fix_missing_locations(tree))


def unnoticed(source: str, check: Check) -> bool:
    """Return whether a reader without the check still reads every vector as it should."""
    module = types.ModuleType("switched")
    exec(compile(without(source, check), "switched", "exec"), module.__dict__)
    reader = IndependentReader(module.SpecReader, module.SpecError)
    try:
        return not any(result.problem for result in run_vectors(VECTORS, reader))
    except (ArithmeticError, AttributeError, LookupError, MemoryError, struct.error, TypeError, ValueError):
        return False  # what the check kept from happening


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require"
    ]


def _sides(condition: ast.expr) -> list[ast.expr]:
    """Return what stands beside each ``and``."""
    if isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And):
        return condition.values
    return [condition]


def main() -> None:
    """Print each check that no vector notices, and how many there are."""
    source = SOURCE.read_text(encoding="utf-8")
    every = list(checks(source))
    missed = [check for check in every if check.implied is None and unnoticed(source, check)]
    sys.stdout.writelines(f"{check.text}\n" for check in missed)
    implied = sum(check.implied is not None for check in every)
    sys.stdout.write(
        f"{len(every)} checks: {len(missed)} noticed by no vector, {implied} implied by others\n"
    )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
