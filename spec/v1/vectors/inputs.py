"""Vectors for writers: records as JSON in, the bytes of a valid vector out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import archive
from archive.format.constants import NO_ALIAS
from spec.v1.vectors.library import LibraryReader

__all__ = ["NOT_FOR_WRITERS", "input_of"]

NOT_FOR_WRITERS = {
    "segments": "its arrays are long",
    "page": "its arrays are long",
    "streamed": "its rows came in an order that no container has",
    "stored-values": "its values are shorter than those that a writer stores as datasets",
}
"""Valid vectors that the writer made, but not of records that a JSON text spells."""


def input_of(path: Path, title: str) -> dict[str, Any]:
    """Return the records of an archive, with the data of every array."""
    said: dict[str, Any] = dict(LibraryReader().open(path).describe())
    del said["archive_digest"]
    with archive.open(path) as handle:
        index = handle._reader.index
        names = [(index.records[int(record)].name, index.key(row)) for row, record in enumerate(index.record)]
        for record in said["records"]:
            for array in record.get("arrays", ()):
                alias = int(index.alias_of[names.index((record["name"], array["key"]))])
                data = handle[record["name"], array["key"]].data
                for name in ("description", "nbytes", "data_bytes", "data_sha256", "digest"):
                    del array[name]
                if alias == NO_ALIAS:
                    array["data"] = base64.b64encode(data).decode()
                else:
                    array["same_memory_as"] = list(names[alias])
    return {"title": title, "file": f"valid/{path.name}", **said}
