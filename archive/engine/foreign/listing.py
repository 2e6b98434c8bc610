"""From the listing of a foreign HDF5 file to an index in memory: which dataset is which array.

Nothing in a listing is trusted: the process that wrote it had read a file that anybody may have made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.engine.foreign.dataset import Stored, array_spec, parse_stored, value_type
from archive.errors import HostileFileError
from archive.format.constants import (
    FORMAT_NAME,
    KIND_ARRAYS,
    KIND_CONFIGS,
    KIND_METRICS,
    KINDS,
    MAX_RECORDS,
    NO_ALIAS,
)
from archive.format.document import TooLargeError
from archive.format.elements import ArrayType
from archive.format.index import Index, RecordName, read_index
from archive.format.indexwriter import ArrayColumns, IndexTemplate, encode_section
from archive.format.layout import segment_counts
from archive.format.names import escape_name, unescape_name
from archive.format.origin import Origin
from archive.format.valuesection import ValueSection

__all__ = ["Listing", "build_index", "parse_listing"]

Path = tuple[str, ...]

ROOT_RECORD = "model"
"""Record of what lies in the root group itself."""
_METRIC_TYPES = frozenset(("int", "float", "ints", "floats", "list"))


@dataclass(slots=True)
class Listing:
    """Groups and datasets of a file, places and sizes validated."""

    file: str
    """The file."""
    ours: bool = False
    """An archive's writer made it: attributes and names mean what they mean in an archive."""
    groups: list[Path] = field(default_factory=list)
    """Path of every group; the root's is empty."""
    values: list[list[Any]] = field(default_factory=list)
    """For every group, (name, ``[type, payload]``) of its attributes."""
    skipped: int = 0
    """Attributes that are not values."""
    datasets: list[tuple[Path, str, Stored]] = field(default_factory=list)
    """Group, link name and dataset, for every name."""


@dataclass(slots=True)
class _Row:
    """One name of a dataset."""

    stored: Stored
    """The dataset; aliases share it."""
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


def parse_listing(file: str, answer: dict[str, Any], file_bytes: int, spool_bytes: int) -> Listing:
    """Check a listing against the two files that its offsets lie in.

    Parameters
    ----------
    file : str
        The file that was listed.
    answer : dict
        What `archive.hdf5.foreign` wrote.
    file_bytes, spool_bytes : int
        Lengths of that file and of the file that was decoded into.

    Raises
    ------
    HostileFileError
        The listing contradicts itself or the files.
    """
    listing = Listing(file)
    try:
        for parent, name, values, skipped in answer["groups"]:
            at: Path = () if not listing.groups else (*listing.groups[_number(parent)], _text(name))
            listing.groups.append(at)
            listing.values.append([(_text(key), (_text(kind), payload)) for key, (kind, payload) in values])
            listing.skipped += _number(skipped)
        for group, name, first, entry in answer["datasets"]:
            at = listing.groups[_number(group)]
            path = "/" + "/".join((*at, _text(name)))
            shared = listing.datasets[_number(first)][2] if first != -1 else None
            stored = shared or parse_stored(file, path, entry, file_bytes, spool_bytes)
            listing.datasets.append((at, name, stored))
            listing.skipped += _number(stored.attributes.get("skipped", 0)) if shared is None else 0
    except (TypeError, ValueError, LookupError) as error:
        raise HostileFileError(
            f"its listing contradicts itself: {str(error)[:300]}", path=file, remedy="take another copy"
        ) from error
    _refuse_overlaps(listing)
    listing.ours = bool(listing.values) and ("format", ("str", FORMAT_NAME)) in listing.values[0]
    return listing


def build_index(listing: Listing, seam: int, read: Callable[[Stored], NDArray]) -> tuple[Index, ValueSection]:
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
        raise HostileFileError(
            f"{len(records):,} groups that would be records", path=listing.file, remedy="split the file"
        )
    ordered = sorted(records, key=lambda record: record.kind)
    if len({record.name for record in ordered}) < len(ordered):
        document["container"] = "recordset"  # a RecordDict has one record a name
    return _index(
        listing.file, {name: records[name] for name in ordered}, document | {"skipped": skipped}, seam
    )


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
        raise ValueError(f"{number!r} is not a count")
    return number


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError("a name that is not text")
    text.encode()  # a lone surrogate is a ValueError
    return text


def _refuse_overlaps(listing: Listing) -> None:
    """Raise where datasets overlap that are not one: 2,000,000 could each name the same gigabyte."""
    distinct = {id(stored): stored for _, _, stored in listing.datasets if stored.nbytes}.values()
    places = sorted((stored.spooled, stored.offset, stored.nbytes, stored.path) for stored in distinct)
    for before, after in itertools.pairwise(places):
        if before[0] == after[0] and after[1] < before[1] + before[2]:
            raise HostileFileError(
                "its bytes overlap those of another dataset",
                path=listing.file,
                key=after[3],
                offset=after[1],
                remedy="do not trust this file",
            )


def _place(path: Path, ours: bool) -> tuple[int | None, str, Path]:
    """Return kind, record name and inner path that a group belongs to; kind None outside the three kinds."""
    if ours and len(path) > 1 and path[0] in KINDS:
        return KINDS.index(path[0]), _unescape(path[1]), path[2:]
    return None, "/".join(path) or ROOT_RECORD, ()


def _unescape(link: str) -> str:
    try:
        return unescape_name(link)
    except ValueError:
        return link  # no archive writes that name: it was added since


def _add_values(records: dict[RecordName, _Record], path: Path, values: list[Any], ours: bool) -> int:
    """Add the attributes of a group; return how many are not values of its record."""
    kind, name, inner = _place(path, ours)
    if kind is not None and not inner:
        # a record without values is a record too
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
        raise stored.invalid(f"a second array {key[:80]!r} of record {record[:80]!r}", "rename one of them")
    rows[key] = row
    return True


def _true_key(link: str, stored: Stored) -> str:
    """Return the key of a link name: the attribute, unless the dataset was renamed since."""
    key = stored.attributes.get("key")
    try:
        if isinstance(key, str) and escape_name(key) == link.encode():
            return key
    except ValueError:
        pass
    return _unescape(link)


def _index(
    file: str, records: dict[RecordName, _Record], document: dict[str, Any], seam: int
) -> tuple[Index, ValueSection]:
    rows = [(key, row) for record in records.values() for key, row in record.rows.items()]
    values, attributes = _listed_values(records)
    types: dict[ArrayType, int] = {}
    type_of = [types.setdefault(row.type, len(types)) for _, row in rows]
    nbytes = np.array([row.stored.nbytes for _, row in rows], np.uint64)
    alias_of = np.array(_aliases(rows), np.uint32)
    counts = np.where(alias_of == NO_ALIAS, segment_counts(nbytes), 0).astype(np.uint64)
    ends = np.cumsum(counts, dtype=np.uint64)
    targets = np.where(alias_of == NO_ALIAS, np.arange(len(rows)), alias_of).astype(np.intp)
    sizes = [len(record.rows) for record in records.values()]
    columns = ArrayColumns(
        keys=[key.encode() for key, _ in rows],
        record=np.repeat(np.arange(len(records)), sizes).astype(np.uint32),
        type=np.array(type_of, np.uint32),
        dims=np.array([axis for _, row in rows for axis in row.shape], np.uint64),
        dims_end=np.cumsum([len(row.shape) for _, row in rows], dtype=np.uint64),
        offset=np.array([_offset(row.stored, seam) for _, row in rows], np.uint64),
        nbytes=nbytes,
        alias_of=alias_of,
        flags=np.array([row.flags for _, row in rows], np.uint32),
        # segment_at identifies shared storage, so it must be unique otherwise
        segment_at=(ends - counts)[targets],
    )
    document |= {"values": values, "attributes": attributes}
    template = IndexTemplate(columns, list(types), list(records), int(ends[-1]) if rows else 0)
    origin = Origin(file)
    try:
        section = encode_section(document)
    except TooLargeError as error:
        raise origin.too_large(error) from error
    index = read_index(template.write().buffer, origin)
    return index, ValueSection(np.frombuffer(section, np.uint8), origin)


def _listed_values(records: dict[RecordName, _Record]) -> tuple[list[Any], list[Any]]:
    """Return values and attributes as the JSON document lists them; a dataset is its row."""
    values: list[Any] = []
    attributes: list[Any] = []
    first = 0
    for name, record in records.items():
        entries: list[Any] = [[key, value] for key, value in record.values.items() if key not in record.rows]
        if name.kind != KIND_ARRAYS:
            entries += [
                [key, [row.type.dtype, {"row": at}]]
                for at, (key, row) in enumerate(record.rows.items(), first)
            ]
            values.append([KINDS[name.kind], name.name, entries])
        elif entries:
            attributes.append([name.name, entries])
        first += len(record.rows)
    return values, attributes


def _aliases(rows: list[tuple[str, _Row]]) -> list[int]:
    """Return for each row the first row of the same dataset and type, NO_ALIAS for that first row."""
    first: dict[tuple[int, ArrayType], int] = {}
    owners = [first.setdefault((id(row.stored), row.type), at) for at, (_, row) in enumerate(rows)]
    return [
        NO_ALIAS if owner == at or not row.stored.nbytes else owner
        for at, (owner, (_, row)) in enumerate(zip(owners, rows, strict=True))
    ]


def _offset(stored: Stored, seam: int) -> int:
    if not stored.nbytes:
        return 0
    return stored.offset + seam if stored.spooled else stored.offset
