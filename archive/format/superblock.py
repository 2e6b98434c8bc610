"""Superblocks that HDF5 tools write: where they end the file.

An archive's own has version 2 (`archive.format.footer.parse_superblock_eof`). HDF5 File Format Specification,
section II.A.
"""

from __future__ import annotations

from archive.format.constants import SUPERBLOCK_BYTES
from archive.format.footer import HDF5_SIGNATURE
from archive.format.lookup3 import hash_block

__all__ = ["stated_end"]

_PLACES = {0: (13, 24, 40), 2: (9, 12, 28), 3: (9, 12, 28)}
"""Version: where the sizes of offsets and lengths, the base address and the end of file stand."""


def stated_end(head: bytes) -> int | None:
    """Return the end of file in the first 48 bytes of an HDF5 file; None where they are no valid superblock.

    Version 1, which only files with chunks of an unusual setting have, does not fit into them.
    """
    if len(head) < SUPERBLOCK_BYTES or not head.startswith(HDF5_SIGNATURE) or head[8] not in _PLACES:
        return None
    sizes_at, base_at, end_at = _PLACES[head[8]]
    if head[sizes_at : sizes_at + 2] != b"\x08\x08" or any(head[base_at : base_at + 8]):
        return None
    if head[8] and hash_block(head[:44]) != int.from_bytes(head[44:48], "little"):
        return None
    return int.from_bytes(head[end_at : end_at + 8], "little")
