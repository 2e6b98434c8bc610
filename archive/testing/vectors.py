"""The vectors of the specification against a reader: what it hands out, and what it refuses.

A folder of vectors (``spec/v1/vectors``; its README has the format) holds archives, each with a JSON
document that says what every reader must find in it, or with which error it must end. `run_vectors`
takes any reader, of this package or of another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["OpenVector", "Result", "VectorReader", "run_vectors"]

STEPS = ("open", "values", "read", "verify")
"""Operations in their order; ``when`` of a vector is the last at which its error may come."""
TREE = "tree"
"""``when`` of a vector that only those find who compare the HDF5 tree with the index, by verifying."""


class OpenVector(Protocol):
    """One archive that a reader has opened."""

    def values(self) -> object:
        """Hand out all metrics, configs and attributes."""

    def data(self, record: str, key: str) -> object:
        """Hand out ``Array.data`` of one array."""

    def verify(self) -> list[tuple[str, int]]:
        """Return every failure that verify reports: name of its error and offset in the file."""

    def describe(self) -> Mapping[str, Any]:
        """Return what the JSON of a valid vector says, from ``container`` to ``records``."""


class VectorReader(Protocol):
    """Something that reads archives."""

    compares_tree: bool
    """Whether verifying compares the HDF5 tree with the index ([VERIFY-4])."""

    def open(self, path: Path) -> OpenVector:
        """Open an archive and parse index and values section."""

    def name_error(self, error: Exception) -> str | None:
        """Return the name that section 3 of the specification has for an error; None of any other."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one vector."""

    name: str
    """``valid/NAME`` or ``invalid/NAME``."""
    proves: tuple[str, ...]
    """Ids of the specification's sentences that it is about."""
    problem: str
    """How the reader differs from the JSON; empty where it does not."""


def run_vectors(folder: Path, reader: VectorReader) -> Iterator[Result]:
    """Read every vector of a folder.

    Parameters
    ----------
    folder : Path
        It holds ``valid`` and ``invalid``.
    reader : VectorReader

    Yields
    ------
    Result
        In order of their names.
    """
    for path in sorted(folder.glob("*valid/*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.get("when") == TREE:
            if not reader.compares_tree:
                continue
            said["when"] = STEPS[-1]
        check = _check_valid if said["outcome"] == "valid" else _check_invalid
        problem = check(path.with_suffix(".h5"), said, reader)
        yield Result(f"{path.parent.name}/{path.stem}", tuple(said["proves"]), problem)


def _check_valid(path: Path, said: Mapping[str, Any], reader: VectorReader) -> str:
    try:
        opened = reader.open(path)
        found, failures = opened.describe(), opened.verify()
    except Exception as error:
        name = reader.name_error(error)
        if name is None:
            raise
        return f"refused: {name}: {error}"
    if failures:
        return f"verify reports {failures}"
    for member, value in found.items():
        # as text, which tells 1, 1.0, true and -0.0 apart
        there, wanted = json.dumps(value, sort_keys=True), json.dumps(said[member], sort_keys=True)
        if there != wanted:
            return f"{member} is {there}, not {wanted}"
    return ""


def _check_invalid(path: Path, said: Mapping[str, Any], reader: VectorReader) -> str:
    found = next(_errors(path, said["place"] or {}, reader), None)
    if found is None:
        return f"nothing was refused, but {said['error']} is due at {said['when']}"
    step, name = found
    late = STEPS.index(step) > STEPS.index(said["when"])
    if late or name != said["error"]:
        return f"{name} at {step}, not {said['error']} at {said['when']}"
    return "" if step == STEPS[0] or _verify_refuses(path, reader) else f"verify finds nothing, but {name}"


def _verify_refuses(path: Path, reader: VectorReader) -> bool:
    """Return whether verifying alone, of an archive that opens, finds anything ([VERIFY-3])."""
    try:
        return bool(reader.open(path).verify())
    except Exception as error:
        if reader.name_error(error) is None:
            raise
        return True


def _errors(path: Path, place: Mapping[str, Any], reader: VectorReader) -> Iterator[tuple[str, str]]:
    """Yield (step, name) of the error that the operations end with, if they do."""
    step = STEPS[0]
    try:
        opened = reader.open(path)
        step = STEPS[1]
        opened.values()
        step = STEPS[2]
        if "key" in place:
            opened.data(place["record"], place["key"])
        step = STEPS[3]
        yield from ((step, name) for name, at in opened.verify() if at == place.get("offset", at))
    except Exception as error:
        name = reader.name_error(error)
        if name is None:
            raise
        yield step, name
