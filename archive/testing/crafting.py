"""Archives taken apart and put together again with one rule broken and every digest fixed up."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import archive
from archive.errors import ArchiveError
from archive.format.constants import FOOTER_BYTES, INDEX_HEADER_BYTES
from archive.format.digests import digest
from archive.format.footer import parse_footer
from archive.format.index import read_index
from archive.format.sections import HEADER, SECTIONS
from archive.hdf5.checksum import lookup3

MAX_SECONDS = 1.0
MAX_EXTRA_BYTES = 64 << 20
CREATED = "2026-01-02T03:04:05Z"
FORTRAN = np.asfortranarray(np.arange(12, dtype="f8").reshape(3, 4))
SHARED = np.arange(12, dtype="f4").reshape(3, 4)
STRUCTURED = np.array([(1, 2.5), (3, -1.0)], [("a", "<i4"), ("b", "<f8")])


def write_sample(path: Path) -> Path:
    """Save a small archive that has a row of every sort."""
    raw = archive.Array("float32", (2,), "raw.bytes", b"any bytes")
    records = archive.RecordSet(
        {
            "model": archive.ArrayRecord(
                {
                    "w": archive.Array(SHARED),
                    "text": archive.Array(np.array(["a", "\u00e9\u4e2d", ""])),
                    "fortran": archive.Array(FORTRAN),
                    "structured": archive.Array(STRUCTURED),
                    "empty": archive.Array(np.empty((0, 3), "f8")),
                    "scalar": archive.Array(np.array(7, "i8")),
                    "raw": raw,
                    "raw tied": raw,
                    "bfloat16": archive.Array(np.arange(5).astype(ml_dtypes.bfloat16)),
                    "large": archive.Array(np.arange(20_000, dtype="f4")),
                }
            ),
            "other": archive.ArrayRecord({"w": archive.Array(SHARED + 1)}),
        },
        {"model": archive.MetricRecord({"loss": 0.5, "history": [float(n) for n in range(9000)]})},
        {"run": archive.ConfigRecord({"name": "x", "blob": b"\0\1", "on": True})},
    )
    archive.save(records, path, created=CREATED, durable=False)
    return path


class Crafted:
    """One archive in parts; `write` puts them together."""

    def __init__(self, path: Path) -> None:
        whole = path.read_bytes()
        self.before_index, index, self.last = _split(whole)
        self.header = index[:INDEX_HEADER_BYTES].copy().view(HEADER)
        parsed = read_index(index)
        self.keys = [
            (parsed.records[int(record)].name, key)
            for record, key in zip(parsed.record, parsed.keys(range(parsed.arrays)), strict=True)
        ]
        self.sections: dict[str, np.ndarray[Any, Any]] = {}
        at = INDEX_HEADER_BYTES
        for name, dtype, counted_by in SECTIONS:
            count = int(self.header[0][counted_by])
            self.sections[name] = index[at : at + count * dtype.itemsize].copy().view(dtype)
            at += -(-count * dtype.itemsize // 8) * 8
        self.document: Any = json.loads(self.sections["json"].tobytes())
        self.counts: dict[str, int] = {}
        self.json: bytes | None = None
        self.footer = bytearray(self.last)
        self.index_tail = b""

    def row(self, record: str, key: str) -> int:
        return self.keys.index((record, key))

    def type_of(self, record: str, key: str) -> Any:
        """Return the row of the type table that an array follows."""
        return self.sections["types"][int(self.sections["type"][self.row(record, key)])]

    def add_text(self, text: bytes) -> tuple[int, int]:
        """Append to the string pool."""
        at = len(self.sections["pool"])
        self.sections["pool"] = np.append(self.sections["pool"], np.frombuffer(text, np.uint8))
        return at, len(text)

    def describe(self, record: str, key: str, text: str | bytes) -> None:
        """Give a type row another element type."""
        row = self.type_of(record, key)
        data = text if isinstance(text, bytes) else text.encode()
        row["description_at"], row["description_bytes"] = self.add_text(data)

    def reshape(self, record: str, key: str, shape: tuple[int, ...]) -> None:
        """Give an array another shape, moving the axes of the later ones."""
        row, ends = self.row(record, key), self.sections["dims_end"]
        start, end = int(ends[row - 1]) if row else 0, int(ends[row])
        dims = self.sections["dims"]
        self.sections["dims"] = np.concatenate([dims[:start], np.array(shape, "<u8"), dims[end:]])
        ends[row:] = (ends[row:].astype(np.int64) + len(shape) - (end - start)).astype("<u8")

    def write(self, path: Path) -> Path:
        document = json.dumps(self.document, ensure_ascii=False).encode() if self.json is None else self.json
        self.sections["json"] = np.frombuffer(document, np.uint8)
        parts = [b""]
        for name, dtype, counted_by in SECTIONS:
            data = np.ascontiguousarray(self.sections[name]).tobytes()
            self.header[0][counted_by] = len(data) // dtype.itemsize
            parts.append(data + bytes(-len(data) % 8))
        for name, count in self.counts.items():
            self.header[0][name] = count
        parts[0] = self.header.tobytes()
        index = b"".join(parts) + self.index_tail
        footer = self.footer
        changed = [bytes(footer[24:32]) != self.last[24:32], bytes(footer[64:72]) != self.last[64:72]]
        if not changed[1]:
            footer[64:72] = len(index).to_bytes(8, "little")
        before = bytearray(self.before_index)
        if not changed[0]:
            total = (len(before) + len(index) + FOOTER_BYTES).to_bytes(8, "little")
            footer[24:32] = before[28:36] = total
            before[44:48] = lookup3(bytes(before[:44])).to_bytes(4, "little")
            if bytes(footer[72:120]) == self.last[72:120]:
                footer[72:120] = before[:48]
        footer[136:152] = digest(index)
        footer[232:248] = digest(bytes(footer[:232]))
        path.write_bytes(before + index + footer)
        return path


def _split(whole: bytes) -> tuple[bytes, np.ndarray[Any, Any], bytes]:
    last = whole[-FOOTER_BYTES:]
    footer = parse_footer(last, len(whole))
    end = footer.index_at + footer.index_bytes
    return whole[: footer.index_at], np.frombuffer(whole[footer.index_at : end], np.uint8), last


def use(path: Path) -> None:
    """Do with an archive all that a program can."""
    with archive.open(path) as handle:
        _ = handle.info
        for record in handle.records.values() if hasattr(handle.records, "values") else ():
            _ = len(record)
        for pair in handle:
            array = handle[pair]
            _ = array.data
            if array.stype == "numpy.ndarray":
                _ = array.numpy(), array[...], array.numpy(copy=True)
        handle.verify()
    archive.load(path)


def bounded(action: Callable[[], object]) -> ArchiveError | None:
    """Run something within the limits of time and memory, and return the error of ours it ended with."""
    tracemalloc.start()
    begun = time.perf_counter()
    try:
        action()
    except ArchiveError as error:
        return error
    finally:
        seconds, peak = time.perf_counter() - begun, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < MAX_SECONDS, f"{seconds:.2f} s"
        assert peak < MAX_EXTRA_BYTES, f"{peak} bytes"
    return None
