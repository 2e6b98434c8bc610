"""The last 256 bytes: packed, parsed, and judged in every broken state."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archive.errors import ArchiveError, DamagedError, HostileFileError, NotAnArchiveError, TruncatedError
from archive.format.constants import FOOTER_BYTES
from archive.format.footer import Footer, parse_footer, parse_superblock_eof

SUPERBLOCK = (
    b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00"
    + bytes(16)
    + (4096 + 640 + 96 + 64 + 256).to_bytes(8, "little")
    + (4160).to_bytes(8, "little")
).ljust(48, b"\0")
GOOD = Footer(
    file_bytes=4096 + 640 + 96 + 64 + 256,
    meta_at=4096,
    meta_bytes=640,
    index_at=4736,
    index_bytes=96,
    values_at=4736 + 96,
    values_bytes=64,
    superblock=SUPERBLOCK,
    meta_digest=b"m" * 16,
    index_digest=b"i" * 16,
    values_digest=b"v" * 16,
)


def test_there_and_back() -> None:
    packed = GOOD.pack()
    assert len(packed) == FOOTER_BYTES
    assert parse_footer(packed, GOOD.file_bytes) == GOOD


@pytest.mark.parametrize("at", range(FOOTER_BYTES))
def test_any_flipped_byte_is_damage(at: int) -> None:
    packed = bytearray(GOOD.pack())
    packed[at] ^= 0x40
    with pytest.raises(DamagedError, match=r"m\.h5: .*digest.*at byte 4896.*reindex"):
        parse_footer(bytes(packed), GOOD.file_bytes, "m.h5")


@given(st.binary(max_size=300))
def test_anything_else_is_no_archive(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError, match="foreign=True"):
        parse_footer(data, 10_000)


@pytest.mark.parametrize("nbytes", [GOOD.file_bytes - 1, GOOD.file_bytes + 1, 256])
def test_another_length_is_a_truncated_file(nbytes: int) -> None:
    with pytest.raises(TruncatedError, match=str(GOOD.file_bytes)):
        parse_footer(GOOD.pack(), nbytes)


@pytest.mark.parametrize(
    "change",
    [
        {"meta_at": 4160},
        {"meta_at": 0},
        {"meta_at": 4097, "meta_bytes": 639},
        {"meta_bytes": 641},
        {"index_at": 4800},
        {"index_bytes": 95, "file_bytes": GOOD.file_bytes - 1},
        {"index_bytes": 160},
        {"index_bytes": (1 << 64) - 1 - 4736},
        {"values_bytes": 63},
        {"values_bytes": (1 << 64) - 1},
        {"superblock": bytes(48)},
        {"superblock": SUPERBLOCK.replace(b"\x02", b"\x03")},
        {"file_bytes": (1 << 64) - 1, "index_bytes": (1 << 64) - 1 - 4736 - 64 - 256},
    ],
)
def test_fields_that_contradict_each_other(change: dict[str, int | bytes]) -> None:
    footer = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    with pytest.raises(HostileFileError):
        parse_footer(footer.pack(), footer.file_bytes)


@given(st.binary(min_size=232, max_size=232))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    import archive.format.digests as digests

    head = GOOD.pack()[:12] + data[12:]
    with pytest.raises(ArchiveError):
        parse_footer(head + digests.digest(head) + GOOD.pack()[-8:], 1 << 20)


def test_the_length_that_a_superblock_states() -> None:
    assert parse_superblock_eof(SUPERBLOCK) == GOOD.file_bytes
    assert parse_superblock_eof(SUPERBLOCK[:47]) is None
    assert parse_superblock_eof(b"x" + SUPERBLOCK[1:]) is None
