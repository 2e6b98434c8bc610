"""Partial sums: archives of float64 arrays that say exactly what is in them.

A partial sum is named by a digest of all that decides its bits: the rule, the number of its batch, and footer
digests and weights of its inputs. One that is there is used only if it says the same, has the arrays that it
must have, and every byte of it verifies; any other is computed anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from archive import errors
from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.engine.read.recordvalues import record_values
from archive.engine.write.create import ArchiveWriter
from archive.format.constants import KIND_CONFIGS, OWN_PREFIX
from archive.format.digests import digest
from archive.format.index import RecordName
from archive.storage.folder import join
from archive.storage.url import Location
from archive.tools.clientmetrics import Metrics, add_metrics, metrics_in
from archive.tools.leftout import Skipped, decode_skipped, encode_skipped
from archive.tools.sameschema import Template
from archive.tools.summing import BadInputsError, Summand
from archive.tools.widening import wide_specs

__all__ = [
    "PARTIAL",
    "RECOMPUTE",
    "Partial",
    "content_of",
    "create_partial",
    "damaged_partial",
    "find_partial",
    "is_partial",
    "open_partial",
    "open_partials",
    "partial_key",
    "partial_place",
    "replaced",
]

PARTIAL = re.compile(r"[0-9a-f]{32}\.sum\.h5")
"""Names of partial sums."""
RECOMPUTE = "run it again: a partial sum that is damaged is computed anew"
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


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial sum."""

    place: Location | None
    """None where all its inputs were left out."""
    key: str
    """By which it is named."""
    weight: Fraction
    """Sum of the weights in it, exactly."""
    skipped: tuple[Skipped, ...] = ()
    """Inputs that were left out."""
    identity: bytes = b""
    """Its version, where it is known: a run beside this one may have replaced it."""


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


def open_partial(place: Location, identity: bytes = b"") -> Reader:
    """Open a partial sum.

    Raises
    ------
    ReplacedError
        It is not the version that is known.
    """
    reader = open_reader(place, access="auto" if place.remote else "pread", verify="first")
    if identity and reader.identity != identity:
        reader.close()
        raise replaced(reader.path)
    return reader


def replaced(path: str) -> errors.ReplacedError:
    """Return the error of a file that another run replaced by one of its own."""
    return errors.ReplacedError(
        "this partial sum was replaced by one of other archives",
        path=path,
        remedy="run it again, and one mean of these archives at a time, each in a folder of its own",
    )


def open_partials(sums: Iterable[Partial], stack: ExitStack) -> tuple[Template, list[Summand], Metrics]:
    """Open partial sums that are not empty, and return their arrays, and the sums of their metrics.

    Raises
    ------
    ReplacedError
        One is not that of which the weight is known.
    """
    readers = []
    for made in sums:
        if made.place is None:
            continue
        readers.append(open_partial(made.place, made.identity))
        stack.callback(readers[-1].close)
    template = Template(readers[0])
    layouts = [template.layout_of(reader) for reader in readers]
    inputs = [Summand(at, *both, 1.0) for at, both in enumerate(zip(readers, layouts, strict=True))]
    return template, inputs, add_metrics((1.0, metrics_in(reader.values)) for reader in readers)


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


def damaged_partial(bad: BadInputsError) -> errors.ArchiveError:
    """Return the error for a partial sum that was damaged since it was verified."""
    error = bad.errors[min(bad.errors)]
    error.remedy = RECOMPUTE
    return error


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
    from archive.engine.read.scan import verify_reader  # and what checks trees: mostly no sum is there

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
