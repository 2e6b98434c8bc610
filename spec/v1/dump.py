"""Prints the fields of an archive that lead to all else: ``python -m spec.v1.dump FILE``.

Superblock, index header and footer, a line a field: region, offset in the file, bytes, field, meaning. It
checks nothing and needs nothing but Python. ``dump.md`` holds what it prints of the smallest archive.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["annotate"]

Field = tuple[int, str, str]
"""Length, name, and meaning; ``{}`` in the meaning is the number in the bytes."""

_SUPERBLOCK: tuple[Field, ...] = (
    (8, "signature", "of every HDF5 file"),
    (1, "version", "{}"),
    (1, "size of offsets", "{}"),
    (1, "size of lengths", "{}"),
    (1, "consistency flags", "{}"),
    (8, "base address", "{}"),
    (8, "extension", "undefined"),
    (8, "end of file", "{}, the length of the file"),
    (8, "root group", "its object header is at {}"),
    (4, "checksum", "lookup3 of the 44 bytes before"),
)
_INDEX: tuple[Field, ...] = (
    (8, "magic", "INDEX_MAGIC"),
    (4, "version", "{}"),
    (4, "header_bytes", "{}"),
    (8, "records", "{}"),
    (8, "types", "{}"),
    (8, "arrays", "{}"),
    (8, "dims", "{}"),
    (8, "segments", "{}"),
    (8, "pool_bytes", "{}"),
    (32, "reserved", "zeros"),
)
_FOOTER: tuple[Field, ...] = (
    (8, "magic", "FOOTER_MAGIC"),
    (4, "major", "{}"),
    (4, "minor", "{}"),
    (4, "footer_bytes", "{}"),
    (4, "flags", "{}"),
    (8, "file_bytes", "{}, the length of the file"),
    (4, "digest_algorithm", "{}: xxh3-128"),
    (4, "reserved", "{}"),
    (8, "meta_at", "the HDF5 metadata is at {}"),
    (8, "meta_bytes", "{}"),
    (8, "index_at", "the index is at {}"),
    (8, "index_bytes", "{}"),
    (8, "values_at", "the values section is at {}"),
    (8, "values_bytes", "{}"),
    (48, "superblock", "copy of bytes 0 to 47"),
    (16, "meta_digest", "xxh3-128 of the metadata"),
    (16, "", "its room, zeros"),
    (16, "index_digest", "xxh3-128 of the index"),
    (16, "", "its room, zeros"),
    (16, "values_digest", "xxh3-128 of the values section"),
    (16, "", "its room, zeros"),
    (16, "footer_digest", "xxh3-128 of bytes 0 to 231 of the footer"),
    (8, "end_magic", "END_MAGIC"),
)
_FOOTER_BYTES = 256
_INDEX_AT = slice(56, 64)
"""Where the footer has it."""
_SHOWN = 16
"""Bytes of a line."""


def annotate(archive: bytes) -> str:
    """Return the lines of an archive, in the order of the file.

    Parameters
    ----------
    archive : bytes
        The whole file.
    """
    end = len(archive) - _FOOTER_BYTES
    index_at = int.from_bytes(archive[end:][_INDEX_AT], "little")
    regions = (("superblock", 0, _SUPERBLOCK), ("index", index_at, _INDEX), ("footer", end, _FOOTER))
    lines = [_line("region", "offset", "bytes", "field", "meaning")]
    for region, at, fields in regions:
        lines += _region(archive, region, at, fields)
    return "\n".join(lines) + "\n"


def _region(archive: bytes, region: str, at: int, fields: Sequence[Field]) -> Iterator[str]:
    for size, name, meaning in fields:
        data = archive[at : at + size]
        said = meaning.format(int.from_bytes(data, "little"))
        for start in range(0, size, _SHOWN):
            shown = data[start : start + _SHOWN].hex(" ")
            yield _line(region, str(at + start), shown, name if not start else "", said if not start else "")
        at += size


def _line(*cells: str) -> str:
    region, offset, data, field, meaning = cells
    return f"{region:10}  {offset:>6}  {data:47}  {field:17}  {meaning}".rstrip()


if __name__ == "__main__":
    sys.stdout.write(annotate(Path(sys.argv[1]).read_bytes()))
