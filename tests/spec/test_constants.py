"""The tables and ids of the documents of ``spec/v1`` against layouts, constants and comments of the code."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.dtypes import ML_DTYPES
from archive.format import constants, footer, index
from archive.format.digests import digest, name_hash
from archive.format.footer import Footer
from archive.format.lookup3 import hash_block
from tests.spec.documents import DEFINED, TEXT

ROOT = Path(__file__).parents[2]
ID = re.compile(r"\[([A-Z][A-Z0-9]*-\d+)\]")
AREAS = {
    "DIGEST", "DTYPE", "FILE", "FOOTER", "HDF5", "INDEX", "LAYOUT", "NAME", "OPEN", "READ", "REMOTE", "TIE",
    "VALUE", "VERIFY", "VERSION",
}  # fmt: skip
ELEMENTS = {"u64": "<u8", "u32": "<u4", "u8": "u1", "16 bytes": "V16"}


def table(header: str, after: str = "") -> Iterator[list[str]]:
    """Yield the cells of the first table whose header starts so, behind a heading."""
    start = TEXT.index(f"\n| {header}", TEXT.index(after))
    for line in TEXT[start + 1 :].splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def fields(after: str) -> list[tuple[int, int, str]]:
    return [(int(at), int(size), name) for at, size, name, *_ in table("offset | size | field", after)]


def expanded(match: re.Match[str]) -> str:
    return int(match[1]) * match[2]


def fields_of(dtype: np.dtype) -> list[tuple[int, int, str]]:
    assert dtype.fields is not None
    return [(at, kind.itemsize, name) for name, (kind, at, *_) in dtype.fields.items()]


def sources() -> list[Path]:
    paths = [*Path(archive.__file__).parent.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    return [path for path in paths if path != Path(__file__)]


def test_constants() -> None:
    listed = {name: int(value) for name, value, _ in table("constant | value")}
    assert listed == {
        name: value
        for name, value in vars(constants).items()
        if type(value) is int and not name.startswith("_")
    }


def test_markers() -> None:
    listed = {name: bytes.fromhex(spelled) for name, spelled in table("constant | bytes")}
    assert listed == {name: getattr(constants, name) for name in ("FOOTER_MAGIC", "END_MAGIC", "INDEX_MAGIC")}


def test_root_attributes_name_the_format() -> None:
    listed = dict(table("name | value", "### 5.1"))
    assert listed["format"] == constants.FORMAT_NAME
    assert listed["version"].startswith(f"{constants.VERSION_MAJOR}.{constants.VERSION_MINOR}`")
    assert f"fedarchive format, version {constants.VERSION_MAJOR}.{constants.VERSION_MINOR}" in TEXT


def test_footer_layout() -> None:
    rows = fields("## 6.")
    codes = re.findall(r"\d+s|[IQ]", re.sub(r"(\d+)([IQ])", expanded, footer._LAYOUT.format))
    at, expected = 0, []
    for code in codes:
        size = struct.calcsize(f"<{code}")
        expected.append((at, size))
        at += size
    assert [row[:2] for row in rows] == expected
    assert at == constants.FOOTER_BYTES


def test_footer_fields_are_where_the_table_says() -> None:
    places = {name: slice(at, at + size) for at, size, name in fields("## 6.")}
    made = Footer(11, 12, 13, 14, 15, 16, 17, b"s" * 48, b"m" * 16, b"i" * 16, b"v" * 16)
    packed = made.pack()
    for name in Footer.__slots__:
        value = getattr(made, name)
        stored = packed[places[name]]
        whole = (
            value.ljust(len(stored), b"\0")
            if isinstance(value, bytes)
            else value.to_bytes(len(stored), "little")
        )
        assert stored == whole, name
    for name, value in (
        ("magic", constants.FOOTER_MAGIC),
        ("end_magic", constants.END_MAGIC),
        ("reserved", bytes(4)),
        ("flags", bytes(4)),
        ("major", constants.VERSION_MAJOR.to_bytes(4, "little")),
        ("minor", constants.VERSION_MINOR.to_bytes(4, "little")),
        ("footer_bytes", constants.FOOTER_BYTES.to_bytes(4, "little")),
        ("digest_algorithm", constants.DIGEST_ALGORITHM.to_bytes(4, "little")),
        ("flags", bytes(4)),
    ):
        assert packed[places[name]] == value, name


@pytest.mark.parametrize(
    ("heading", "dtype"),
    [("### 7.1", index.HEADER), ("### 7.3", index.RECORD_ROW), ("### 7.4", index.TYPE_ROW)],
    ids=["header", "record", "type"],
)
def test_index_rows(heading: str, dtype: np.dtype) -> None:
    assert fields(heading) == fields_of(dtype)


def test_sections() -> None:
    sizes = {"records": index.RECORD_ROW, "types": index.TYPE_ROW}
    listed = []
    for name, element, count, _ in table("section | element", "### 7.2"):
        dtype = sizes.get(name) or np.dtype(ELEMENTS[element])
        assert name not in sizes or element == f"{dtype.itemsize} bytes"
        listed.append((name, dtype, count))
    assert listed == list(index.SECTIONS)


def test_containers_and_kinds() -> None:
    assert tuple(name for name, *_ in table("container | is")) == constants.CONTAINERS
    listed = [name for name in constants.KINDS if f"\n/{name}/<record>" in TEXT]
    assert tuple(listed) == constants.KINDS


def test_check_values_of_hashes() -> None:
    rows = list(table("of | xxh3-128"))
    for (_, wide, narrow), data in zip(rows, (b"", bytes(i % 256 for i in range(300))), strict=True):
        assert digest(data).hex() == wide
        assert f"{name_hash(data):016x}" == narrow
    assert f"{hash_block(b''):08x}" in TEXT
    assert f"{hash_block(b'Four score and seven years ago'):08x}" in TEXT


def test_superblock_table_is_whole() -> None:
    at = 0
    for offset, size, _ in table("offset | size | value", "### 5.2"):
        assert int(offset) == at
        at += int(size)
    assert at == constants.SUPERBLOCK_BYTES


def test_names_of_machine_learning_types() -> None:
    begin = TEXT.index("Names: `")
    listed = re.findall(r"`(\w+)`", TEXT[begin : TEXT.index("\n\n", begin)])
    assert sorted(listed) == sorted(ML_DTYPES)


def test_ids_are_unique_and_every_must_has_one() -> None:
    assert len(DEFINED) == len(set(DEFINED))
    assert {name.rsplit("-", 1)[0] for name in DEFINED} == AREAS
    for line in TEXT.splitlines():
        if re.search(r"\bMUST\b", line) and "RFC 2119" not in line and "sentence with a MUST" not in line:
            assert line.startswith("- **["), line
    for name in DEFINED:
        line = TEXT[TEXT.index(f"**[{name}]**") :].partition("\n")[0]
        assert re.search(r"\bMUST\b", line), name


def test_ids_are_numbered_without_gaps() -> None:
    numbers: dict[str, list[int]] = {}
    for name in DEFINED:
        area, number = name.rsplit("-", 1)
        numbers.setdefault(area, []).append(int(number))
    for area, found in numbers.items():
        assert sorted(found) == list(range(1, len(found) + 1)), area


def test_each_rule_is_checked_in_one_row() -> None:
    checked = [
        f"{area}-{number}"
        for _, rules in table("checked | rules", "### 13.1")
        for area, first, last in re.findall(r"\[([A-Z0-9]+)-(\d+)\](?: to \[\1-(\d+)\])?", rules)
        for number in range(int(first), int(last or first) + 1)
    ]
    assert sorted(checked) == sorted(DEFINED)


def test_sections_that_are_mentioned_exist() -> None:
    headings = re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", TEXT, re.MULTILINE)
    for path in [*sources(), *(ROOT / "spec").rglob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        mentioned = re.findall(r"\bsections? (\d+(?:\.\d+)?)", text)
        assert set(mentioned) <= {*headings}, path


def test_ids_that_are_mentioned_exist() -> None:
    known = set(DEFINED)
    assert {name for name in ID.findall(TEXT) if name != "INDEX-7"} <= known
    for path in sources():
        found = ID.findall(path.read_text(encoding="utf-8"))
        mentioned = {name for name in found if name.split("-")[0] in AREAS}
        assert mentioned <= known, path
