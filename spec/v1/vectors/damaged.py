"""Archives whose bytes were changed after they were written, and files that are none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from archive.format.digests import digest
from archive.hdf5.checksum import lookup3

# Each function is a change that the title of its vector puts into words.
# ruff: noqa: D103, E501

Bytes = Callable[[bytearray], bytes]
Place = dict[str, Any] | None


def field(data: bytearray, at: int) -> int:
    """Return a u64 of the footer."""
    return int.from_bytes(data[len(data) - 256 + at :][:8], "little")


def flipped(at: Callable[[bytearray], int]) -> Bytes:
    def change(data: bytearray) -> bytes:
        data[at(data)] ^= 0xFF
        return bytes(data)

    return change


def short(_: bytearray) -> bytes:
    """Return 4,416 bytes that are an archive but for their length."""
    head = b"\x89HDF\r\n\x1a\n\2\x08\x08\0" + bytes(8) + b"\xff" * 8 + struct.pack("<QQ", 4416, 4096)
    head += lookup3(head).to_bytes(4, "little")
    index = bytes(64)
    places = struct.pack("<4IQ2I6Q", 1, 0, 256, 0, 4416, 1, 0, 4096, 0, 4096, 64, 4160, 0)
    front = b"\x93FEDARC\n" + places + head
    front += b"".join(digest(part) + bytes(16) for part in (b"", index, b""))
    return head + bytes(4048) + index + front + digest(front) + b"\nFEDARC\x93"


def tiny(_: bytearray) -> bytes:
    """Return both markers and a digest that holds, in 300 bytes."""
    front = b"\x93FEDARC\n" + struct.pack("<4IQ2I6Q", 1, 0, 256, 0, 300, 1, 0, 4096, 0, 4096, 96, 4192, 0)
    front += bytes(232 - len(front))
    return bytes(44) + front + digest(front) + b"\nFEDARC\x93"


def fixed(data: bytearray, at: int, of: bytes) -> bytes:
    """Return a file with one digest of the footer made anew, and the footer's own."""
    last = len(data) - 256
    data[last + at : last + at + 16] = digest(of)
    data[last + 232 : last + 248] = digest(bytes(data[last : last + 232]))
    return bytes(data)


def index_field(at: int) -> Bytes:
    """Change a byte of the index's header."""

    def change(data: bytearray) -> bytes:
        begin, size = field(data, 56), field(data, 64)
        data[begin + at] ^= 1
        return fixed(data, 168, bytes(data[begin : begin + size]))

    return change


def longer_superblock(data: bytearray) -> bytes:
    """Let the superblock, and its copy, end the file elsewhere."""
    data[28:36] = (len(data) + 64).to_bytes(8, "little")
    data[44:48] = lookup3(bytes(data[:44])).to_bytes(4, "little")
    data[len(data) - 168 : len(data) - 120] = data[:48]
    return fixed(data, 168, bytes(data[field(data, 56) :][: field(data, 64)]))


def rewritten(
    version: int, *, cut: int = 64, stated: int = 0, flip: int = 0, size: int = 8, base: int = 0
) -> Bytes:
    """Put a superblock of an HDF5 tool before an archive that is shorter by ``cut`` bytes inside."""

    def change(data: bytearray) -> bytes:
        rest = data[4096 + cut :]
        end = 4096 + len(rest) + stated
        if version:
            head = b"\x89HDF\r\n\x1a\n" + bytes([version, 8, size, 0])
            head += struct.pack("<QqQQ", base, -1, end, 4096)
            head += (lookup3(head) ^ flip).to_bytes(4, "little")
        else:
            head = b"\x89HDF\r\n\x1a\n" + struct.pack(
                "<8B2HIQqQ", 0, 0, 0, 0, 0, 8, size, 0, 4, 16, 0, base, -1, end
            )
        return head + bytes(4096 - 48) + bytes(rest)

    return change


def unmarked(data: bytearray) -> bytes:
    data[len(data) - 256] ^= 1
    data[-1] ^= 1
    return bytes(data)


Raw = tuple[str, str, str, Bytes, str, str, Place]
RAWS: list[Raw] = [
    ("no-bytes", "An empty file", "FOOTER-1", lambda _: b"", "NotAnArchive", "open", None),
    ("tiny", "Both markers in a file of 300 bytes", "FILE-5 FOOTER-1", tiny, "NotAnArchive", "open", None),
    ("no-markers", "Neither marker", "FOOTER-1", unmarked, "NotAnArchive", "open", None),
    ("no-magic", "Only the last marker", "FOOTER-1", flipped(lambda data: len(data) - 256), "Damaged", "open", None),
    ("no-end-magic", "Only the first marker", "FOOTER-1", flipped(lambda data: len(data) - 1), "Damaged", "open",
     None),
    ("footer-flipped", "A byte of the footer", "FOOTER-1 OPEN-2", flipped(lambda data: len(data) - 200), "Damaged",
     "open", None),
    ("major-flipped", "A major version that the digest does not hold", "OPEN-2 FOOTER-1",
     flipped(lambda data: len(data) - 248), "Damaged", "open", None),
    ("cut", "The end is missing", "FOOTER-1", lambda data: bytes(data[:-300]), "Truncated", "open", None),
    ("cut-inside", "64 bytes are missing inside", "FOOTER-2", lambda data: bytes(data[:4096] + data[4160:]),
     "Truncated", "open", None),
    ("longer", "A byte behind the footer", "LAYOUT-6 FOOTER-1", lambda data: bytes(data) + b"\0", "NotAnArchive",
     "open", None),
    ("too-short", "4,416 bytes: no room for an index", "FILE-5 FOOTER-4", short, "Hostile", "open", None),
    ("superblock-flipped", "The superblock is not its copy", "FOOTER-5", flipped(lambda _: 12), "Damaged", "open",
     None),
    ("superblock-end", "The superblock ends the file elsewhere", "FOOTER-5 LAYOUT-6", longer_superblock, "Hostile",
     "open", None),
    ("superblock-root-flipped", "The superblock states another root group", "FOOTER-9", flipped(lambda _: 36),
     "Damaged", "open", None),
    *(
        (f"rewritten-{version}", f"An HDF5 tool rewrote the archive, superblock of version {version}", "FOOTER-9",
         rewritten(version), "NotAnArchive", "open", None)
        for version in (0, 2, 3)
    ),
    *(
        (f"rewritten-{version}-at-length", f"The same, and the file has its old length: version {version}", "FOOTER-9",
         rewritten(version, cut=0), "NotAnArchive", "open", None)
        for version in (0, 3)
    ),
    *(
        (f"not-rewritten-{name}", f"No superblock of the length of the file: {title}", "FOOTER-9 FOOTER-2",
         change, "Truncated", "open", None)
        for name, title, change in (
            ("signature", "another signature", lambda data: b"\x88" + rewritten(0)(data)[1:]),
            ("0-end", "version 0, another end", rewritten(0, stated=-64)),
            ("0-size", "version 0, lengths of 4 bytes", rewritten(0, size=4)),
            ("0-base", "version 0, a base address", rewritten(0, base=512)),
            ("1", "version 1", rewritten(1)),
            ("2-end", "version 2, another end", rewritten(2, stated=-64)),
            ("2-size", "version 2, lengths of 4 bytes", rewritten(2, size=4)),
            ("2-base", "version 2, a base address", rewritten(2, base=512)),
            ("3-sum", "version 3, another checksum", rewritten(3, flip=1)),
        )
    ),
    ("index-flipped", "A byte of the index", "FOOTER-6", flipped(lambda data: field(data, 56) + 100), "Damaged",
     "open", None),
    ("values-flipped", "A byte of the values section", "FOOTER-8", flipped(lambda data: field(data, 72) + 20), "Damaged",
     "open", None),
    ("metadata-flipped", "A byte of the HDF5 metadata", "FOOTER-7 DIGEST-1",
     flipped(lambda data: field(data, 40) + 100), "Damaged", "open", None),
    ("index-magic", "The index's magic", "INDEX-1", index_field(0), "Hostile", "open", None),
    ("index-reserved", "A reserved byte of the index's header", "INDEX-1 VERSION-4", index_field(80), "Hostile",
     "open", None),
    ("array-flipped", "A byte of an array", "READ-1 READ-2 DIGEST-2", flipped(lambda _: 4100), "Digest", "read",
     {"record": "model", "key": "w"}),
    ("array-flipped-verified", "The same, found by verify", "VERIFY-1 DIGEST-2", flipped(lambda _: 4100), "Digest",
     "verify", {"offset": 4096}),
    ("value-flipped", "A byte of a value that is a dataset", "VALUE-13 READ-1",
     flipped(lambda data: field(data, 40) - 64), "Digest", "values", None),
    ("padding-flipped", "A byte that belongs to no array", "LAYOUT-5 VERIFY-1", flipped(lambda _: 2000), "Damaged",
     "verify", {"offset": 2000}),
    ("gap-flipped", "A byte between two arrays", "LAYOUT-5 VERIFY-1", flipped(lambda _: 4096 + 50), "Damaged",
     "verify", {"offset": 4096 + 50}),
]  # fmt: skip
