"""The library as a reader of vectors: what it hands out, in the form of their JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import archive
from archive.engine.read.lazyarrays import lazy_arrays
from archive.engine.read.recordvalues import record_values
from archive.errors import ArchiveError
from archive.format.constants import KINDS
from archive.format.values import encode_value, validate_value

VERIFIED = {
    "padding": "Damaged",
    "HDF5 metadata": "Damaged",
    "index": "Damaged",
    "values": "Damaged",
    "name table": "Hostile",
}
"""Error behind each failure of verify that is no segment's."""


class LibraryReader:
    """See `archive.testing.vectors.VectorReader`."""

    compares_tree = True

    def open(self, path: Path) -> LibraryVector:
        """Open an archive and parse its index."""
        handle = archive.open(path)
        _ = handle.info
        return LibraryVector(handle)

    def name_error(self, error: Exception) -> str | None:
        """Return the class's name as section 3 spells it."""
        known = isinstance(error, ArchiveError)
        return type(error).__name__.removesuffix("Error").removesuffix("File") if known else None


class LibraryVector:
    """See `archive.testing.vectors.OpenVector`."""

    def __init__(self, handle: archive.Archive) -> None:
        self.handle = handle

    def values(self) -> object:
        """Hand out everything but arrays."""
        return self.handle.records, self.handle.attributes, self._context()

    def data(self, record: str, key: str) -> object:
        """Hand out one array."""
        return self.handle[record, key].data

    def verify(self) -> list[tuple[str, int]]:
        """Return (error, offset) of every failure."""
        failures = self.handle.verify().failures
        return [
            ("Hostile" if at.bytes_match else "Digest" if at.record else VERIFIED[at.key], at.offset)
            for at in failures
        ]

    def describe(self) -> Mapping[str, Any]:
        """Return everything, in the form of the JSON."""
        self.values()
        reader, info = self.handle._reader, self.handle.info
        values, attributes = record_values(reader, "values"), record_values(reader, "attributes")
        records: list[dict[str, Any]] = []
        for number, record in enumerate(reader.index.records):
            said: dict[str, Any] = {"kind": KINDS[record.kind], "name": record.name}
            if said["kind"] == "arrays":
                rows = np.flatnonzero(reader.index.record == number).tolist()
                said["attributes"] = spell(attributes.get(record, {}))
                said["arrays"] = [self._array(row) for row in rows]
            else:
                said["values"] = spell(values.get(record, {}))
            records.append(said)
        return {
            "container": info.container,
            "created": info.created,
            "writer": info.writer,
            "context": self._context(),
            "archive_digest": reader.identity.hex(),
            "records": records,
        }

    def _context(self) -> dict[str, Any] | None:
        if self.handle.info.container != "context":
            return None
        context = self.handle.context
        configs = {name: spell(getattr(context, name)) for name in ("node_config", "run_config")}
        return {**self.handle._reader.values.document["context"], **configs}

    def _array(self, row: int) -> dict[str, Any]:
        (array,) = lazy_arrays(self.handle._reader, [row])
        payload: Any = array.payload  # what is stored of it
        return {
            "key": self.handle._reader.index.key(row),
            "dtype": array.dtype,
            "shape": list(array.shape),
            "stype": array.stype,
            "description": payload.type.description,
            "nbytes": payload.where[2],
            "data_bytes": len(array.data),
            "data_sha256": hashlib.sha256(array.data).hexdigest(),
            "digest": payload.digest,
        }


def spell(values: Mapping[str, Any]) -> list[Any]:
    """Return values as the JSON document spells them."""
    named = ((key, value, validate_value(value, metric=False)) for key, value in values.items())
    return [[key, encode_value(value, name)] for key, value, name in named]
