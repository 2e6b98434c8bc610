"""The bytes of an index and of a values section.

Of an index what depends on arrays is built once, digests are added later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.format.constants import (
    DIGEST_BYTES,
    INDEX_HEADER_BYTES,
    INDEX_MAGIC,
    VERSION_MAJOR,
)
from archive.format.digests import name_hash
from archive.format.document import SMALL_BYTES, require_decodable
from archive.format.elements import ArrayType
from archive.format.index import HEADER, RECORD_ROW, TYPE_ROW, RecordName, place_sections

__all__ = ["ArrayColumns", "IndexTemplate", "IndexWriter", "encode_section"]


_ALIGN_BYTES = 8
"""Spaces fill the section up to a multiple, so that the footer is aligned; JSON allows them."""


def encode_section(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of the section.

    Parameters
    ----------
    document : mapping
        Container, creation time, writer, values, attributes and Context.

    Raises
    ------
    TooLargeError
        No reader would take the document.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > SMALL_BYTES:
        require_decodable(text)
    return text + b" " * (-len(text) % _ALIGN_BYTES)


@dataclass(frozen=True, slots=True)
class ArrayColumns:
    """All arrays of an archive, one column for each field; row order is file order."""

    keys: Sequence[bytes]
    """UTF-8 of every key."""
    record: NDArray
    """Number of its record."""
    type: NDArray
    """Its row of the type table."""
    dims: NDArray
    """Lengths of all axes of all arrays, one after the other."""
    dims_end: NDArray
    """End of each array's axes in ``dims``."""
    offset: NDArray
    """File offset of its bytes; 0 for an array without bytes."""
    nbytes: NDArray
    """Stored bytes."""
    alias_of: NDArray
    """Row whose bytes it shares, NO_ALIAS where it has its own."""
    flags: NDArray
    """FLAG_FORTRAN or 0."""
    segment_at: NDArray
    """Its first digest."""


class IndexTemplate:
    """An index without its digests; one template makes the index of many archives.

    Parameters
    ----------
    columns : ArrayColumns
    types : sequence of ArrayType
    records : sequence of RecordName
        In the order of the container, across kinds.
    segments : int
        Number of digests.
    """

    def __init__(
        self,
        columns: ArrayColumns,
        types: Sequence[ArrayType],
        records: Sequence[RecordName],
        segments: int,
    ) -> None:
        n = len(columns.keys)
        key_sizes = np.fromiter(map(len, columns.keys), np.uint64, n)
        pool = _Pool(int(key_sizes.sum()))
        type_rows = _type_rows(types, pool)
        counts = np.bincount(columns.record, minlength=len(records)) if n else [0] * len(records)
        record_rows = _record_rows(records, counts, pool)
        hashes = np.fromiter(map(name_hash, columns.keys), np.uint64, n)
        order = np.argsort(hashes, kind="stable")
        sections: dict[str, Any] = {
            "offset": columns.offset,
            "nbytes": columns.nbytes,
            "key_end": np.cumsum(key_sizes, dtype=np.uint64),
            "dims_end": columns.dims_end,
            "segment_at": columns.segment_at,
            "name_hash": hashes[order],
            "dims": columns.dims,
            "record": columns.record,
            "type": columns.type,
            "alias_of": columns.alias_of,
            "flags": columns.flags,
            "name_row": order,
            "records": record_rows,
            "types": type_rows,
            "pool": np.frombuffer(b"".join(columns.keys) + pool.join(), np.uint8),
        }
        header = np.zeros((), HEADER)
        header["magic"] = INDEX_MAGIC
        header["version"] = VERSION_MAJOR
        header["header_bytes"] = INDEX_HEADER_BYTES
        header["records"], header["types"], header["arrays"] = len(records), len(types), n
        header["dims"], header["segments"] = len(columns.dims), segments
        header["pool_bytes"] = len(sections["pool"])
        places, nbytes = place_sections(header)
        self._buffer = np.zeros(nbytes, np.uint8)
        self._buffer[:INDEX_HEADER_BYTES] = header.reshape(1).view(np.uint8)
        for name, values in sections.items():
            at, dtype, count = places[name]
            self._buffer[at : at + count * dtype.itemsize].view(dtype)[:] = values
        self._digests_at, _, self._segments = places["digests"]

    @property
    def nbytes(self) -> int:
        """Length of the index."""
        return len(self._buffer)

    def write(self) -> IndexWriter:
        """Return the index of one archive, its digests still zero."""
        buffer = self._buffer.copy()
        end = self._digests_at + self._segments * DIGEST_BYTES
        return IndexWriter(buffer, buffer[self._digests_at : end].reshape(self._segments, DIGEST_BYTES))


@dataclass(frozen=True, slots=True)
class IndexWriter:
    """The bytes of an index, its digests filled in as segments are hashed."""

    buffer: NDArray
    """All bytes, uint8."""
    digests: NDArray
    """View of the digests, shape (segments, 16)."""

    def __len__(self) -> int:
        return len(self.buffer)


class _Pool:
    """Strings after the keys, each stored once."""

    def __init__(self, start: int) -> None:
        self._end = start
        self._parts: list[bytes] = []
        self._known: dict[bytes, int] = {}

    def add(self, text: bytes) -> tuple[int, int]:
        at = self._known.get(text)
        if at is None:
            at = self._known[text] = self._end
            self._parts.append(text)
            self._end += len(text)
        return at, len(text)

    def join(self) -> bytes:
        return b"".join(self._parts)


def _type_rows(types: Sequence[ArrayType], pool: _Pool) -> NDArray:
    rows = np.zeros(len(types), TYPE_ROW)
    for row, kind in zip(rows, types, strict=True):
        for field, text in (
            ("dtype", kind.dtype.encode()),
            ("stype", kind.stype.encode()),
            ("description", kind.description.encode()),
            ("npy_header", kind.npy_header),
        ):
            row[f"{field}_at"], row[f"{field}_bytes"] = pool.add(text)
        row["itemsize"], row["mode"] = kind.itemsize, kind.mode
    return rows


def _record_rows(records: Sequence[RecordName], counts: Any, pool: _Pool) -> NDArray:
    rows = np.zeros(len(records), RECORD_ROW)
    for row, record, count in zip(rows, records, counts, strict=True):
        row["name_at"], row["name_bytes"] = pool.add(record.name.encode())
        row["kind"], row["arrays"] = record.kind, count
    return rows
