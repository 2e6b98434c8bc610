"""Partial sums: archives of float64 arrays that say exactly what is in them.

A partial sum is named by a digest of all that decides its bits: the rule, the number of its batch, and footer
digests and weights of its inputs. One that is there is used only if it says the same, has the arrays that it
must have, and every byte of it verifies; any other is computed anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from archive import errors
from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import record_values
from archive.engine.read.scan import verify_reader
from archive.engine.write.create import ArchiveWriter
from archive.format.constants import KIND_CONFIGS, OWN_PREFIX
from archive.format.digests import digest
from archive.format.index import RecordName
from archive.storage.folder import join
from archive.storage.url import Location
from archive.tools.leftout import Skipped, decode_skipped, encode_skipped
from archive.tools.sameschema import Template
from archive.tools.widening import wide_specs

__all__ = [
    "PARTIAL",
    "content_of",
    "create_partial",
    "find_partial",
    "is_partial",
    "open_partial",
    "partial_key",
    "partial_place",
]

PARTIAL = re.compile(r"[0-9a-f]{32}\.sum\.h5")
"""Names of partial sums."""
RECORD = OWN_PREFIX + "partial"
"""The record of configs that says what is in one."""
VERSION = 1
_CREATED = "1970-01-01T00:00:00Z"
"""Equal inputs give equal bytes."""
_UNUSABLE = (
    errors.MissingError,
    errors.NotAnArchiveError,
    errors.TruncatedError,
    errors.VersionError,
    errors.DamagedError,
    errors.HostileFileError,
    errors.ReplacedError,
    errors.ValueRangeError,
    errors.UnsupportedDtypeError,
)


def partial_key(content: str) -> str:
    """Return the key of a partial sum, by the text that says what is in it."""
    return digest(content.encode()).hex()


def partial_place(scratch: Location, key: str) -> Location:
    """Return where the partial sum of a key lies."""
    return replace(scratch, path=join(scratch.path, f"{key}.sum.h5"))


def create_partial(
    place: Location, content: str, skipped: Iterable[Skipped] = (), *, durable: bool = False
) -> ArchiveWriter:
    """Begin a partial sum; unless ``durable``, a power cut may damage it, which `find_partial` finds out."""
    writer = ArchiveWriter(place, overwrite=True, durable=durable, created=_CREATED)
    entries = [encode_skipped(one) for one in skipped]
    writer.configs[RECORD] = {"version": VERSION, "sum": content, "skipped": entries}
    return writer


def open_partial(place: Location) -> Reader:
    """Open a partial sum."""
    return open_reader(place, access="auto" if place.remote else "pread", verify="first")


def find_partial(place: Location, content: str, template: Template) -> tuple[bytes, list[Skipped]] | None:
    """Return version of a partial sum that is there, and what it left out; None where the right one is not.

    Raises
    ------
    StorageError
        Nobody can tell.
    """
    try:
        reader = open_partial(place)
        try:
            skipped = _skipped_of(reader) if _is_right(reader, content, template) else None
            return None if skipped is None else (reader.identity, skipped)
        finally:
            reader.close()
    except _UNUSABLE:
        return None


def content_of(reader: Reader) -> str:
    """Return what a partial sum says is in it; empty where that is not a text of this version."""
    configs = _configs(reader)
    content = configs.get("sum")
    return content if configs.get("version") == VERSION and isinstance(content, str) else ""


def is_partial(reader: Reader) -> bool:
    """Tell whether an archive is a partial sum."""
    return RecordName(KIND_CONFIGS, RECORD) in reader.index.records


def _is_right(reader: Reader, content: str, template: Template) -> bool:
    """Tell whether a partial sum says what it must say, has the arrays of a template, and is whole."""
    configs = _configs(reader)
    if (configs.get("version"), configs.get("sum")) != (VERSION, content):
        return False
    found = Template(reader)
    specs = wide_specs(template)
    same = (
        found.names == template.names
        and found.types == [spec.type for spec in specs]
        and found.shapes == template.shapes
    )
    return same and bool(verify_reader(reader))


def _configs(reader: Reader) -> dict[str, Any]:
    return dict(record_values(reader, "values").get(RecordName(KIND_CONFIGS, RECORD), {}))


def _skipped_of(reader: Reader) -> list[Skipped] | None:
    entries = _configs(reader).get("skipped", [])
    try:
        return [decode_skipped(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # nobody of ours wrote it
