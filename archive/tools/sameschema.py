"""Which arrays the archives of one model have, and where each of them keeps its own.

The archives of a federation differ in digests alone: they share the columns of one index
(`archive.engine.read.open`), so that names and types are compared once for each distinct index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.descriptions import parse_description
from archive.dtypes import NDArray
from archive.engine.read.handle import Archive
from archive.engine.read.reader import Reader
from archive.engine.storagespec import StorageSpec, stored_spec
from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.format.constants import KIND_ARRAYS, MODE_ELEMENTS, NO_ALIAS
from archive.format.digests import array_digest, digest
from archive.format.elements import ArrayType
from archive.format.index import SECTIONS, Index
from archive.format.valuesection import ValueSection

__all__ = ["Layout", "Template", "is_number"]

_KNOWN = 64
"""Distinct indexes of which is remembered where they keep the arrays."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the archives of one index keep the arrays of a template."""

    index: Index
    """One of their indexes: they differ in digests alone."""
    rows: list[int]
    """Row of each array."""
    owners: list[int]
    """Row whose bytes each array shares: its own, unless it is tied."""
    offsets: list[int]
    """File offset of the bytes of each array."""


class Template:
    """The arrays that every archive must have, in the order of the first archive.

    Parameters
    ----------
    reader : Reader
        The first archive.
    """

    def __init__(self, reader: Reader) -> None:
        index = reader.index
        self.identity: bytes = reader.identity
        self.attributes: dict[str, dict[str, Any]] = Archive(reader).attributes
        """What is said of its array records."""
        self.values: ValueSection = reader.values
        """Its metrics are those that all archives must have, where metrics are averaged."""
        rows, names = _names_of(index)
        self.names: list[tuple[str, str]] = names
        shapes, flags, types = index.shapes(), index.flags.tolist(), index.type.tolist()
        self.types: list[ArrayType] = [index.types[types[row]] for row in rows]
        self.shapes: list[tuple[int, ...]] = [shapes[row] for row in rows]
        self.flags: list[int] = [flags[row] for row in rows]
        self.nbytes: list[int] = index.stored_nbytes[rows].tolist()
        """Stored bytes of each array."""
        self.dtypes: list[np.dtype[Any] | None] = _dtypes_of(self.types)
        """Element type of each array of numbers; None for those that have no mean."""
        self.layout: Layout = _layout(index, rows)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._known: dict[int, tuple[Index, Layout]] = {id(index.offset): (index, self.layout)}
        self._others: dict[int, bytes] = {}
        self._require_equal(reader, self.layout)

    def __len__(self) -> int:
        return len(self.names)

    def full_name(self, number: int) -> str:
        """Return record and key of an array, for errors."""
        return "/".join(self.names[number])

    def specs(self) -> list[StorageSpec]:
        """Return the storage spec of each array; equal ones are one object."""
        known: dict[Any, StorageSpec] = {}
        specs = []
        for place in zip(self.types, self.shapes, self.flags, self.nbytes, strict=True):
            if place not in known:
                known[place] = stored_spec(*place)
            specs.append(known[place])
        return specs

    def digest(self) -> bytes:
        """Return a digest of names, types and shapes, in their order."""
        return digest(repr([*zip(self.names, self.types, self.shapes, self.flags, strict=True)]).encode())

    def layout_of(self, reader: Reader) -> Layout:
        """Return where an archive keeps the arrays.

        Raises
        ------
        ValueRangeError
            It has other arrays, or arrays of other types or shapes; the error names it and an array.
        UnsupportedDtypeError
            Arrays that are not numbers differ.
        """
        index = reader.index
        _, found = self._known.get(id(index.offset), (None, None))
        if found is None:
            same = (layout for known, layout in self._known.values() if _same_columns(known, index))
            found = next(same, None) or self._match(index, reader.path)
            if len(self._known) < _KNOWN:
                self._known[id(index.offset)] = index, found  # the index stays, and with it the id
        self._require_equal(reader, found)
        return found

    def _match(self, index: Index, path: str) -> Layout:
        """Return the layout of an index, compared with the template array by array."""
        remedy = "average archives of one model"
        rows, names = _names_of(index)
        if names != self.names:
            odd = set(names) ^ set(self.names)
            if odd:
                key = "/".join(min(odd))
                raise ValueRangeError("this array is not in all archives", path=path, key=key, remedy=remedy)
            by_name = dict(zip(names, rows, strict=True))
            rows = [by_name[name] for name in self.names]
        shapes, types = index.shapes(), index.type.tolist()
        for number, row in enumerate(rows):
            ours, theirs = self.types[number], index.types[types[row]]
            if (ours.dtype, ours.stype, self.shapes[number]) != (theirs.dtype, theirs.stype, shapes[row]):
                raise ValueRangeError(
                    f"{theirs.dtype} {shapes[row]} {theirs.stype!r}, "
                    f"elsewhere {ours.dtype} {self.shapes[number]} {ours.stype!r}",
                    path=path,
                    key=self.full_name(number),
                    remedy=remedy,
                )
            stored = (ours.mode, ours.description) == (theirs.mode, theirs.description)
            if self.dtypes[number] is not None and not stored:
                raise ValueRangeError(
                    "stored as data that are not the elements of its type, elsewhere as elements",
                    path=path,
                    key=self.full_name(number),
                    remedy=remedy,
                )
        return _layout(index, rows)

    def _require_equal(self, reader: Reader, layout: Layout) -> None:
        """Raise where an array that is not numbers is not that of the template."""
        index = reader.index
        for number, dtype in enumerate(self.dtypes):
            if dtype is not None:
                continue
            row = layout.rows[number]
            kind, flags = index.types[index.type.item(row)], index.flags.item(row)
            segments = index.segment_digests(layout.owners[number]).tobytes()
            found = array_digest(segments, kind, flags, self.shapes[number])
            if self._others.setdefault(number, found) != found:
                raise UnsupportedDtypeError(
                    f"{kind.dtype!r} arrays have no mean, and these differ",
                    path=reader.path,
                    key=self.full_name(number),
                    remedy="save the one to keep yourself",
                )

    def leaders(self, layouts: Iterable[Layout]) -> list[int]:
        """Return, for each array of numbers, the first that is tied to it in every layout: mostly itself."""
        owners = [layout.owners for layout in {id(layout): layout for layout in layouts}.values()]
        if all(len(set(each)) == len(each) for each in owners):
            return list(range(len(self)))
        first: dict[Any, int] = {}
        leaders = []
        for number, dtype in enumerate(self.dtypes):
            form = self.types[number], self.shapes[number], self.flags[number]
            tied = dtype is not None and self.nbytes[number] > 0
            key = (form, *(each[number] for each in owners)) if tied else number
            leaders.append(first.setdefault(key, number))
        return leaders


def is_number(dtype: np.dtype[Any]) -> bool:
    """Tell whether elements of a type have a mean."""
    return dtype.kind in "iufc" or dtype.name.startswith(("bfloat16", "float8"))


def _dtypes_of(types: list[ArrayType]) -> list[np.dtype[Any] | None]:
    """Return the element type of each array of numbers."""
    known: dict[ArrayType, np.dtype[Any] | None] = {}
    for kind in set(types):
        dtype = parse_description(kind.description) if kind.mode == MODE_ELEMENTS else None
        known[kind] = dtype if dtype is not None and is_number(dtype) else None
    return [known[kind] for kind in types]


def _names_of(index: Index) -> tuple[list[int], list[tuple[str, str]]]:
    """Return rows, and record and key of each, in the order of records and of the arrays in them."""
    kinds = index.record_rows["kind"][index.record]
    found: NDArray = np.flatnonzero(kinds == KIND_ARRAYS)
    rows = found[np.argsort(index.record[found], kind="stable")].tolist()
    records = [index.records[number].name for number in index.record[rows].tolist()]
    return rows, list(zip(records, index.keys(rows), strict=True))


def _layout(index: Index, rows: list[int]) -> Layout:
    alias_of = index.alias_of.tolist()
    owners = [row if alias_of[row] == NO_ALIAS else alias_of[row] for row in rows]
    return Layout(index, rows, owners, index.offset[owners].tolist())


def _same_columns(one: Index, other: Index) -> bool:
    """Tell whether two indexes differ in digests alone."""
    if one.nbytes != other.nbytes or one.places != other.places:
        return False
    names = ("record_rows" if name == "records" else name for name, _, _ in SECTIONS if name != "digests")
    names = ({"nbytes": "stored_nbytes", "types": "type_rows"}.get(name, name) for name in names)
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names)
