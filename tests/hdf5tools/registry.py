"""What a kind of archive is, and how one is registered."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archive
from tests.hdf5tools.expected import Tree, expect

__all__ = ["CREATED", "KINDS", "Kind", "MissingError", "kind", "rewritten"]

CREATED = "2026-01-01T00:00:00Z"


class MissingError(Exception):
    """A program or library is not here that a kind is made with."""


@dataclass(frozen=True)
class Kind:
    """Archives of one kind."""

    name: str
    """As the table shows it."""
    make: Callable[[Path], Tree]
    """Writes one, and returns what is in it."""
    rewrite: tuple[str | Path, ...] = ()
    """The command that archive and control go through, before their paths."""
    is_slow: bool = False
    """Some tools take minutes."""


KINDS: list[Kind] = []
"""In the order of the table."""


def kind(name: str, *, is_slow: bool = False) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    """Register a function that writes an archive and returns its tree or None, or what is to be saved."""

    def registered(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
        KINDS.append(Kind(name, lambda path: written(path, make(path)), is_slow=is_slow))
        return make

    return registered


def written(path: Path, made: Any) -> Tree:
    """Save what a kind consists of, unless it wrote the archive by itself."""
    if isinstance(made, dict) and "/" in made:
        return made
    if made is not None:
        archive.save(made, path, created=CREATED, durable=False)
    return expect(path)


def rewritten(kind: Kind, path: Path) -> None:
    """Have a tool write a file anew, where the kind is about that."""
    if kind.rewrite:
        copy = path.with_suffix(".copy")
        subprocess.run([*kind.rewrite, path, copy], check=True, capture_output=True)
        copy.replace(path)
