"""The independent reader as a reader of vectors."""

from __future__ import annotations

import base64
import hashlib
import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.spec.reader import SpecError, SpecReader

__all__ = ["KINDS", "IndependentReader"]

KINDS = ("arrays", "metrics", "configs")


class IndependentReader:
    """``tests/spec/reader.py``, or a copy of it, as a reader of vectors.

    Parameters
    ----------
    reader, error : type
        Its `SpecReader` and `SpecError`.
    """

    compares_tree = False

    def __init__(self, reader: Any = SpecReader, error: type[Exception] = SpecError) -> None:
        self._reader, self._error = reader, error

    def open(self, path: Path) -> IndependentVector:
        with path.open("rb") as file:
            if not path.stat().st_size:
                return IndependentVector(self._reader(b""))
            return IndependentVector(self._reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def name_error(self, error: Exception) -> str | None:
        return error.args[0] if isinstance(error, self._error) else None


class IndependentVector:
    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def values(self) -> object:
        return self.reader.values(), self.reader.values("attributes")

    def data(self, record: str, key: str) -> object:
        return self.reader.data(self.reader.find(record, key))

    def verify(self) -> list[tuple[str, int]]:
        return [(error.args[0], at) for error, at in self.reader.verify()]

    def describe(self) -> Mapping[str, Any]:
        reader, document = self.reader, self.reader.document
        values, attributes = reader.values(), reader.values("attributes")
        listed = [
            *document.get("values", []),
            *(["arrays", *said] for said in document.get("attributes", [])),
        ]
        named = {(KINDS.index(kind), name): dict(entries) for kind, name, entries in listed}
        records = []
        for number, (kind, name) in enumerate(reader.records):
            said: dict[str, Any] = {"kind": KINDS[kind], "name": name}
            if kind:
                said["values"] = spell(values[number], named[kind, name])
            else:
                said["attributes"] = spell(attributes.get(number, {}), named.get((kind, name), {}))
                said["arrays"] = [self.array(row) for row in reader.rows if row.record == number]
            records.append(said)
        # values of a Context are spelled in the document, and nowhere else
        context = document["context"] if document["container"] == "context" else None
        head = {name: document[name] for name in ("container", "created", "writer")}
        return {**head, "context": context, "archive_digest": reader.digest.hex(), "records": records}

    def array(self, row: Any) -> dict[str, Any]:
        data = self.reader.data(row)
        return {
            "key": row.key.decode(), "dtype": row.kind.dtype, "shape": list(row.shape),
            "stype": row.kind.stype, "description": row.kind.description, "nbytes": row.nbytes,
            "data_bytes": len(data), "data_sha256": hashlib.sha256(data).hexdigest(),
            "digest": self.reader.array_digest(row).hex(),
        }  # fmt: skip


def spell(values: Mapping[str, Any], named: Mapping[str, Any]) -> list[Any]:
    """Return values as section 10.2 spells them, each under the type name of the document."""
    return [[key, [named[key][0], spell_one(value)]] for key, value in values.items()]


def spell_one(value: Any) -> Any:
    if isinstance(value, list):
        return [spell_one(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if type(value) is int and abs(value) >= 1 << 53:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        bits = struct.unpack(">Q", struct.pack(">d", value))[0]
        named = {0x7FF8 << 48: "nan", 0x7FF0 << 48: "inf", 0xFFF0 << 48: "-inf"}
        return named.get(bits, f"{bits:016x}")
    return value
