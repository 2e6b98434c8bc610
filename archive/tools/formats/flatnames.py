"""Names of arrays where a format has one level of names, and an archive has records and keys."""

from __future__ import annotations

from collections.abc import Iterable

from archive.engine.read.keypatterns import match_names
from archive.errors import ValueRangeError
from archive.format.names import escape_name, unescape_name
from archive.tools.formats.entries import Entry

__all__ = ["MODEL", "RECORDS", "choose", "flat_names", "is_escaped", "split_name"]

MODEL = "model"
"""Record of arrays that come without one, as of `archive.save`."""
RECORDS = "fedarchive.records"
"""Member of a file's metadata that says how names hold records: ``escaped``."""


def flat_names(entries: Iterable[Entry]) -> tuple[dict[tuple[str, str], str], bool]:
    """Return the name of each array, and whether names hold records.

    Arrays of the record ``model`` alone are called by their keys. Others are ``RECORD/KEY``, both escaped as
    HDF5 has them, so that a slash parts them and nothing else.
    """
    names = [entry.name for entry in entries]
    if {record for record, _ in names} <= {MODEL}:
        return {name: name[1] for name in names}, False
    return {name: "/".join(escape_name(part).decode() for part in name) for name in names}, True


def is_escaped(told: str | None) -> bool:
    """Return whether metadata say that names hold records."""
    return told == "escaped"


def split_name(name: str, escaped: bool) -> tuple[str, str]:
    """Return record and key.

    Raises
    ------
    ValueRangeError
        Metadata say that it holds a record, and it does not.
    """
    if not escaped:
        return MODEL, name
    try:
        record, key = name.split("/")
        return unescape_name(record), unescape_name(key)
    except ValueError as error:
        raise ValueRangeError(
            f"no record and key: {error}", key=name[:80], remedy="take another copy"
        ) from error


def choose(entries: list[Entry], keys: str | Iterable[str | tuple[str, str]] | None) -> list[Entry]:
    """Return the entries that keys and patterns name, by the rule of `Archive.load`.

    Raises
    ------
    KeyError
        No array has such a key, or matches the pattern.
    """
    if keys is None:
        return entries
    names = [entry.name for entry in entries]
    chosen: dict[int, None] = {}
    for key in [keys] if isinstance(keys, str) else keys:
        found = (
            match_names(names, key)
            if isinstance(key, str)
            else [at for at, name in enumerate(names) if name == key]
        )
        if not found:
            raise KeyError(f"no array {key!r}, and none that matches it")
        chosen |= dict.fromkeys(found)
    return [entries[place] for place in chosen]
