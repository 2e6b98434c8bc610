"""The packed index, read in place: arrays are found by name without a Python object for each.

Section order and meaning: ``spec/v1/format.md``, section "Index".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from archive.errors import ArchiveError, HostileFileError, VersionError
from archive.format.constants import (
    INDEX_HEADER_BYTES,
    INDEX_MAGIC,
    KINDS,
    VERSION_MAJOR,
)
from archive.format.digests import name_hash
from archive.format.document import parse_json
from archive.format.elements import ArrayType
from archive.format.sections import Places, parse_header, place_sections
from archive.format.versions import unknown_feature

__all__ = ["Index", "RecordName", "read_index"]

NDArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class RecordName:
    """One record of an archive."""

    kind: int
    """KIND_ARRAYS, KIND_METRICS or KIND_CONFIGS."""
    name: str
    """Its name, unique within its kind."""

    def __str__(self) -> str:
        return f"{KINDS[self.kind]}/{self.name}"


class Index:
    """A validated index, read in place: nothing is copied out of the file until it is asked for."""

    def __init__(
        self,
        buffer: NDArray,
        header: Mapping[str, int],
        places: Places,
        path: str | None = None,
        minor: int = 0,
    ) -> None:
        def section(name: str) -> NDArray:
            at, dtype, count = places[name]
            return np.frombuffer(buffer, dtype, count, at)

        self.path = path
        self.minor = minor
        self.nbytes = len(buffer)
        self.places = places
        self.segment_bytes = header["segment_bytes"]
        self.arrays = header["arrays"]
        self.offset = section("offset")
        self.stored_nbytes = section("nbytes")
        self.key_end = section("key_end")
        self.dims_end = section("dims_end")
        self.segment_at = section("segment_at")
        self.name_hash = section("name_hash")
        self.dims = section("dims")
        self.digests = section("digests")
        self.record = section("record")
        self.type = section("type")
        self.alias_of = section("alias_of")
        self.flags = section("flags")
        self.name_row = section("name_row")
        self.record_rows = section("records")
        self.type_rows = section("types")
        self.pool = section("pool")
        self._json = section("json")

    def with_contents(self, buffer: NDArray, json_bytes: int, path: str | None, minor: int) -> Index:
        """Return the index in a buffer that differs from this one in digests and document alone."""
        at, dtype, count = self.places["digests"]
        other = Index.__new__(Index)
        other.__dict__.update(self.__dict__)
        other.__dict__.pop("document", None)
        other.path, other.minor, other.nbytes = path, minor, len(buffer)
        other.digests = np.frombuffer(buffer, dtype, count, at)
        other._json = np.frombuffer(buffer, np.uint8, json_bytes, self.places["json"][0])
        return other

    @cached_property
    def types(self) -> list[ArrayType]:
        """Rows of the type table."""
        rows = []
        # rows share strings, and so do the objects here: a hostile table names one megabyte often
        text, header = functools.cache(self._text), functools.cache(self._bytes)
        for row in self.type_rows.tolist():
            dtype_at, stype_at, description_at, header_at, *sizes, itemsize, mode, _ = row
            rows.append(
                ArrayType(
                    dtype=text(dtype_at, sizes[0]),
                    stype=text(stype_at, sizes[1]),
                    description=text(description_at, sizes[2]),
                    mode=mode,
                    itemsize=itemsize,
                    npy_header=header(header_at, sizes[3]),
                )
            )
        return rows

    @cached_property
    def records(self) -> list[RecordName]:
        """Records in the order of the container."""
        text = functools.cache(self._text)
        return [RecordName(kind, text(at, size)) for at, size, kind, _, _ in self.record_rows.tolist()]

    @cached_property
    def document(self) -> dict[str, Any]:
        """The JSON part: container, created, writer, values, attributes."""
        try:
            document = parse_json(self._json.tobytes())
        except ValueError as error:
            raise HostileFileError("the index holds no valid JSON", path=self.path) from error
        if not isinstance(document, dict):
            raise HostileFileError("the JSON of the index is no object", path=self.path)
        return document

    def unknown(self, problem: str) -> ArchiveError:
        """Return the error for something that this version of the format does not know."""
        return unknown_feature(problem, self.minor, path=self.path)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        start = int(self.key_end[row - 1]) if row else 0
        return self._text(start, int(self.key_end[row]) - start)

    def keys(self, rows: Iterable[int]) -> list[str]:
        """Return the keys of many rows: 4 ms for 20,000."""
        ends = self.key_end.tolist()
        pool = self.pool[: ends[-1] if ends else 0].tobytes()
        try:
            if pool.isascii():
                text = pool.decode("ascii")
                return [text[ends[row - 1] if row else 0 : ends[row]] for row in rows]
            return [pool[ends[row - 1] if row else 0 : ends[row]].decode() for row in rows]
        except UnicodeDecodeError as error:
            raise HostileFileError("a key is not UTF-8", path=self.path) from error

    def shape(self, row: int) -> tuple[int, ...]:
        """Return the shape of a row."""
        start = int(self.dims_end[row - 1]) if row else 0
        return tuple(self.dims[start : int(self.dims_end[row])].tolist())

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of all rows."""
        dims, start, shapes = self.dims.tolist(), 0, []
        for end in self.dims_end.tolist():
            shapes.append(tuple(dims[start:end]))
            start = end
        return shapes

    def find(self, key: str) -> list[int]:
        """Return the rows of a key, one for each record that has it: two binary searches in the map."""
        try:
            wanted = key.encode()
        except UnicodeEncodeError:
            return []
        hashed = np.uint64(name_hash(wanted))
        low = int(np.searchsorted(self.name_hash, hashed, "left"))
        rows = []
        while low < self.arrays and self.name_hash[low] == hashed:
            row = int(self.name_row[low])
            start = int(self.key_end[row - 1]) if row else 0
            if self._bytes(start, int(self.key_end[row]) - start) == wanted:
                rows.append(row)
            low += 1
        return rows

    def segment_digests(self, row: int) -> NDArray:
        """Return the digests of a row, shape (segments,), 16 bytes each."""
        start = int(self.segment_at[row])
        count = -(-int(self.stored_nbytes[row]) // self.segment_bytes)
        return self.digests[start : start + count]

    def _bytes(self, at: int, size: int) -> bytes:
        return self.pool[at : at + size].tobytes()

    def _text(self, at: int, size: int) -> str:
        try:
            return self.pool[at : at + size].tobytes().decode()
        except UnicodeDecodeError as error:
            raise HostileFileError("a name in the index is not UTF-8", path=self.path) from error


def read_index(buffer: NDArray, path: str | None = None, minor: int = 0) -> Index:
    """Lay the sections over an index whose digest holds; `archive.format.validation` judges them.

    Parameters
    ----------
    buffer : ndarray of uint8
    path : str, optional
        Named in errors.
    minor : int
        The footer's minor version: what is unknown in a later one is no attack.

    Raises
    ------
    HostileFileError
        Its counts do not add up to its size.
    VersionError
        Written by a newer format.
    """
    if len(buffer) < INDEX_HEADER_BYTES:
        raise HostileFileError("the index is shorter than its header")
    # Python integers: no count can overflow into a plausible total
    header = parse_header(buffer)
    if header["magic"] != INDEX_MAGIC:
        raise HostileFileError("the index does not start with its magic")
    if header["version"] != VERSION_MAJOR:
        raise VersionError(f"index version {header['version']}", remedy="upgrade fedarchive")
    if any(header["reserved"]):
        raise unknown_feature("a reserved field of the index header is not zero", minor)
    if header["header_bytes"] != INDEX_HEADER_BYTES:
        raise HostileFileError(f"an index header of {header['header_bytes']} bytes")
    places, total = place_sections(header)
    if total != len(buffer):
        raise HostileFileError(f"the sections of the index take {total} bytes, it has {len(buffer)}")
    for at, dtype, count in places.values():
        end = at + count * dtype.itemsize
        if end % 8 and any(buffer[end : -(-end // 8) * 8]):
            raise HostileFileError("padding between the sections of the index is not zero")
    return Index(buffer, header, places, path, minor)
