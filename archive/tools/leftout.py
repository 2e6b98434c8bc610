"""Archives that were left out of a result over many, and why; as texts in a partial sum too."""

from __future__ import annotations

import json
from dataclasses import dataclass

from archive import errors
from archive.errors import ArchiveError

__all__ = ["Skipped", "decode_skipped", "encode_skipped"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An archive that was left out."""

    position: int
    """Its place among all that were given."""
    path: str
    """As the caller named it, without secrets."""
    error: ArchiveError
    """What was wrong with it."""


def encode_skipped(one: Skipped) -> str:
    """Return a text that `decode_skipped` reads."""
    error = one.error
    fields = {name: getattr(error, name) for name in ("problem", "path", "offset", "key", "remedy")}
    return json.dumps({"position": one.position, "named": one.path, "kind": type(error).__name__, **fields})


def decode_skipped(entry: object) -> Skipped:
    """Return what a text says; ValueError, TypeError or KeyError where nobody of ours wrote it."""
    if not isinstance(entry, str):
        raise TypeError("an entry is a text")
    fields = json.loads(entry)
    position, named, kind = (fields.pop(name) for name in ("position", "named", "kind"))
    if kind not in errors.__all__ or type(position) is not int or not isinstance(named, str):
        raise ValueError("not an entry of ours")
    return Skipped(position, named, getattr(errors, kind)(str(fields.pop("problem")), **fields))
