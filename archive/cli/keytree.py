"""Keys with dots as a tree of names, with counts and sizes, for ``ls --tree``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archive.cli.style import bold, dim
from archive.cli.text import columns, elided, printable, shape, size

__all__ = ["tree_lines"]


@dataclass(slots=True)
class _Node:
    """One part of a name: what has that name itself, and what is below it."""

    entry: Mapping[str, Any] | None = None
    below: dict[str, _Node] = field(default_factory=dict)
    arrays: int = 0
    nbytes: int = 0


def tree_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tree of listed arrays and values, in their order.

    Parameters
    ----------
    entries : sequence of mapping
        As ``ls`` lists them; arrays have ``nbytes``, values have ``value``.
    """
    root = _Node()
    for entry in entries:
        _add(root, entry)
    return columns([_row(*found) for found in _walk(root)])


def _add(root: _Node, entry: Mapping[str, Any]) -> None:
    node, nbytes = root, entry.get("nbytes")
    # only arrays have names of many parts: a metric's dot is as often part of a number
    parts = entry["key"].split(".") if nbytes is not None else [entry["key"]]
    for part in (entry["record"], *parts):
        node = node.below.setdefault(part, _Node())
        if nbytes is not None:
            node.arrays += 1
            node.nbytes += nbytes
    # a metric may have the name of an array
    while node.entry is not None:
        node = node.below.setdefault("", _Node())
    node.entry = entry


def _walk(root: _Node) -> Iterator[tuple[str, str, _Node, bool]]:
    """Yield indent, name and node from the top, without recursion: a hostile name has a million parts."""
    waiting = [("", "", "", name, node, True) for name, node in reversed(root.below.items())]
    while waiting:
        indent, branch, deeper, name, node, top = waiting.pop()
        # a part with one thing below it shares its line with that
        while not top and node.entry is None and len(node.below) == 1:
            [(part, node)] = node.below.items()
            name = f"{name}.{part}"
        yield indent + branch, name, node, top
        below = list(node.below.items())
        for place, (part, child) in reversed(list(enumerate(below))):
            last = place == len(below) - 1
            lines = ("└── ", "    ") if last else ("├── ", "│   ")
            waiting.append((indent + deeper, *lines, part, child, False))


def _row(indent: str, name: str, node: _Node, top: bool) -> list[str]:
    shown = printable(name)
    label = dim(indent) + (bold(shown) if top else shown)
    entry = node.entry
    if entry is None:
        if not node.arrays:
            return [label]
        return [label, size(node.nbytes), f"{node.arrays} array{'' if node.arrays == 1 else 's'}"]
    if "nbytes" not in entry:
        return [label, "", elided(repr(entry["value"]))]  # repr escapes what a terminal would act on
    return [label, size(entry["nbytes"]), f"{printable(entry['dtype']) or '-'} {shape(entry['shape'])}"]
