"""From the listing of a foreign HDF5 file to an index in memory: which dataset is which array.

Nothing in a listing is trusted: it was written by a process that read a file made by anybody.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.foreign.dataset import Stored, array_spec, parse_stored, value_type
from archive.errors import ArchiveError, HostileFileError, ValueRangeError
from archive.format.constants import (
    FORMAT_NAME,
    KIND_ARRAYS,
    KIND_CONFIGS,
    KIND_METRICS,
    KINDS,
    MAX_RECORDS,
    NO_ALIAS,
    SEGMENT_BYTES,
)
from archive.format.elements import ArrayType
from archive.format.index import Index, RecordName, read_index
from archive.format.indexwriter import ArrayColumns, IndexTemplate
from archive.format.layout import segment_counts
from archive.format.names import escape_name, unescape_name

__all__ = ["Listing", "build_index", "parse_listing"]

Path = tuple[str, ...]

ROOT_RECORD = "model"
"""Record of what lies in the root group itself."""
_METRIC_TYPES = frozenset(("int", "float", "ints", "floats", "list"))


@dataclass(slots=True)
class Listing:
    """What is in a file, its places and sizes judged."""

    ours: bool
    """Whether an archive's writer made it: then attributes and names mean what they mean there."""
    groups: list[Path]
    """Path of every group; the root's is empty."""
    values: list[list[Any]]
    """Of every group, (name, ``[type, payload]``) of its attributes."""
    skipped: int
    """Attributes that are no values."""
    datasets: list[tuple[Path, str, Stored]]
    """Group, link name and dataset, for every name."""


@dataclass(slots=True)
class _Row:
    """One name of a dataset."""

    stored: Stored
    """The dataset; those that are tied share it."""
    type: ArrayType
    """Row of the type table."""
    shape: tuple[int, ...]
    """Shape of the array."""
    flags: int = 0
    """FLAG_FORTRAN or 0."""


@dataclass(slots=True)
class _Record:
    """One record while it grows."""

    rows: dict[str, _Row] = field(default_factory=dict)
    """Its arrays, or the values in it that are datasets."""
    values: dict[str, Any] = field(default_factory=dict)
    """Its other values."""


def parse_listing(answer: dict[str, Any], file_bytes: int, spool_bytes: int) -> Listing:
    """Check a listing against the two files that its offsets lie in.

    Parameters
    ----------
    answer : dict
        What `archive.hdf5.foreign` wrote.
    file_bytes, spool_bytes : int
        Their lengths.

    Raises
    ------
    HostileFileError
        It contradicts itself or the files.
    """
    try:
        listing = Listing(False, [], [], 0, [])
        for parent, name, values, skipped in answer["groups"]:
            at: Path = () if not listing.groups else (*listing.groups[_number(parent)], _text(name))
            listing.groups.append(at)
            listing.values.append([(_text(key), (_text(kind), payload)) for key, (kind, payload) in values])
            listing.skipped += _number(skipped)
        for group, name, first, entry in answer["datasets"]:
            at = listing.groups[_number(group)]
            path = "/" + "/".join((*at, _text(name)))
            shared = listing.datasets[_number(first)][2] if first != -1 else None
            listing.datasets.append((at, name, shared or parse_stored(path, entry, file_bytes, spool_bytes)))
    except (TypeError, ValueError, LookupError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise HostileFileError(f"its listing cannot be: {str(error)[:300]}") from error
    _refuse_overlaps(listing)
    listing.ours = bool(listing.values) and ("format", ("str", FORMAT_NAME)) in listing.values[0]
    return listing


def build_index(listing: Listing, seam: int, read: Callable[[Stored], NDArray]) -> Index:
    """Return the index of a listing: zero digests, rows in the order of the tree.

    Parameters
    ----------
    listing : Listing
    seam : int
        Offset under which the first byte of the spool is read.
    read : callable of (Stored) -> ndarray of uint8
        Reads the bytes of a dataset.

    Raises
    ------
    HostileFileError
        Attributes and bytes of a dataset do not go together, or two arrays have one name.
    """
    document: dict[str, Any] = {"container": "recordset", "created": "", "writer": ""}
    records: dict[RecordName, _Record] = {}
    skipped = listing.skipped
    for path, values in zip(listing.groups, listing.values, strict=True):
        if listing.ours and path[:1] == ("context",):
            _add_context(document, path[1:], values)
        elif listing.ours and not path:
            document |= {key: text for key, (kind, text) in values if key in document and kind == "str"}
        else:
            skipped += _add_values(records, path, values, listing.ours)
    for path, name, stored in listing.datasets:
        skipped += not _add_dataset(records, path, name, stored, listing.ours, read)
    if len(records) > MAX_RECORDS:
        raise HostileFileError(f"{len(records):,} groups that would be records", remedy="split the file")
    ordered = sorted(records, key=lambda record: record.kind)
    if len({record.name for record in ordered}) < len(ordered):
        # a RecordDict has one record a name
        document["container"] = "recordset"
    return _index(ordered, [records[record] for record in ordered], document | {"skipped": skipped}, seam)


def _add_context(document: dict[str, Any], path: Path, values: list[Any]) -> None:
    """Add a group of a saved Context to the JSON document: numbers as they are, configs by their group."""
    context = document.setdefault("context", {})
    entries = [[_unescape(key), [type_name, payload]] for key, (type_name, payload) in values]
    if path:
        context[path[0]] = entries
    else:
        context |= {key: encoded[1] if key == "state" else encoded for key, encoded in entries}


def _number(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no number of anything")
    return number


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("a name that is no text")
    text.encode()  # a lone surrogate is a ValueError
    return text


def _refuse_overlaps(listing: Listing) -> None:
    """Tied datasets are one; all else lies apart, or 2,000,000 datasets could each name the same gigabyte."""
    distinct = {id(stored): stored for _, _, stored in listing.datasets if stored.nbytes}.values()
    places = sorted((stored.spooled, stored.offset, stored.nbytes, stored.path) for stored in distinct)
    for before, after in itertools.pairwise(places):
        if before[0] == after[0] and after[1] < before[1] + before[2]:
            raise HostileFileError(
                "its bytes overlap those of another dataset", key=after[3], offset=after[1]
            )


def _place(path: Path, ours: bool) -> tuple[int | None, str, Path]:
    """Return kind, record name and inner path that a group belongs to; kind None outside the three kinds."""
    if ours and len(path) > 1 and path[0] in KINDS:
        return KINDS.index(path[0]), _unescape(path[1]), path[2:]
    return None, "/".join(path) or ROOT_RECORD, ()


def _unescape(link: str) -> str:
    try:
        return unescape_name(link)
    except ValueRangeError:
        return link  # not a name of ours: added since


def _add_values(records: dict[RecordName, _Record], path: Path, values: list[Any], ours: bool) -> int:
    """Add the attributes of a group; return how many are no values of its record."""
    kind, name, inner = _place(path, ours)
    if kind is not None and not inner:
        # also a record without values is one
        record = records.setdefault(RecordName(kind, name), _Record())
    if inner or (kind == KIND_ARRAYS and not ours):
        return len(values)
    wanted = [
        (_unescape(key) if ours else key, [type_name, payload])
        for key, (type_name, payload) in values
        if kind != KIND_METRICS or type_name in _METRIC_TYPES
    ]
    if wanted:
        record = records.setdefault(RecordName(KIND_CONFIGS if kind is None else kind, name), _Record())
        record.values.update(wanted)
    return len(values) - len(wanted)


def _add_dataset(
    records: dict[RecordName, _Record],
    path: Path,
    name: str,
    stored: Stored,
    ours: bool,
    read: Callable[[Stored], NDArray],
) -> bool:
    """Add a dataset to its record; return False where it belongs to none."""
    if ours and not path and name == "index":
        return True  # of the archive that this file was
    kind, record, inner = _place(path, ours)
    key = name
    if kind is not None:
        key = "/".join((*inner, _true_key(name, stored)))
    if kind in (KIND_METRICS, KIND_CONFIGS):
        value = value_type(stored)
        if value is None or inner:
            return False
        row = _Row(stored, value, (stored.nbytes,) if stored.mode == "text" else stored.shape)
    elif stored.mode == "null":
        return False
    else:
        spec = array_spec(stored, ours, read)
        row = _Row(stored, spec.type, spec.shape, spec.flags)
    rows = records.setdefault(RecordName(kind or KIND_ARRAYS, record), _Record()).rows
    if key in rows:
        raise HostileFileError(
            f"a second array {key[:80]!r} of record {record[:80]!r}",
            key=stored.path,
            remedy="rename one of them",
        )
    rows[key] = row
    return True


def _true_key(link: str, stored: Stored) -> str:
    """Return the key behind a link name: the attribute's, unless the dataset was renamed since."""
    key = stored.attributes.get("key")
    try:
        if isinstance(key, str) and escape_name(key) == link.encode():
            return key
    except ValueRangeError:
        pass
    return _unescape(link)


def _index(names: list[RecordName], records: list[_Record], document: dict[str, Any], seam: int) -> Index:
    keys: list[bytes] = []
    rows: list[_Row] = []
    alias: list[int] = []
    first: dict[tuple[int, ArrayType], int] = {}
    values: list[Any] = []
    attributes: list[Any] = []
    for number, (name, record) in enumerate(zip(names, records, strict=True)):
        entries = [[key, encoded] for key, encoded in record.values.items() if key not in record.rows]
        for key, row in record.rows.items():
            if name.kind != KIND_ARRAYS:
                entries.append([key, [row.type.dtype, {"row": len(rows)}]])
            owner = first.setdefault((id(row.stored), row.type), len(rows))
            alias.append(NO_ALIAS if owner == len(rows) or not row.stored.nbytes else owner)
            keys.append(key.encode())
            rows.append(row)
        if name.kind != KIND_ARRAYS or entries:
            (attributes if name.kind == KIND_ARRAYS else values).append([number, entries])
    types: dict[ArrayType, int] = {}
    type_of = [types.setdefault(row.type, len(types)) for row in rows]
    alias_of = np.array(alias, np.uint32)
    nbytes = np.array([row.stored.nbytes for row in rows], np.uint64)
    counts = np.where(alias_of == NO_ALIAS, segment_counts(nbytes, SEGMENT_BYTES), 0).astype(np.uint64)
    ends = np.cumsum(counts, dtype=np.uint64)
    targets = np.where(alias_of == NO_ALIAS, np.arange(len(rows)), alias_of).astype(np.intp)
    columns = ArrayColumns(
        keys=keys,
        record=np.repeat(np.arange(len(records)), [len(record.rows) for record in records]).astype(np.uint32),
        type=np.array(type_of, np.uint32),
        dims=np.array([axis for row in rows for axis in row.shape], np.uint64),
        dims_end=np.cumsum([len(row.shape) for row in rows], dtype=np.uint64),
        offset=np.array([_offset(row.stored, seam) for row in rows], np.uint64),
        nbytes=nbytes,
        alias_of=alias_of,
        flags=np.array([row.flags for row in rows], np.uint32),
        # by it rows that share their bytes are recognised, so it differs for all others
        segment_at=(ends - counts)[targets],
    )
    document |= {"values": values, "attributes": attributes}
    return read_index(
        IndexTemplate(columns, list(types), names, int(ends[-1]) if rows else 0).write(document).buffer
    )


def _offset(stored: Stored, seam: int) -> int:
    if not stored.nbytes:
        return 0
    return stored.offset + seam if stored.spooled else stored.offset
