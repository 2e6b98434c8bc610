"""Hostile indexes: one rule broken at a time, digests fixed up (fault H1, unit tier)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, HostileFileError, NotAnArchiveError, TruncatedError, VersionError
from archive.format.constants import DATA_AT, FLAG_FORTRAN, MODE_DATA, MODE_ELEMENTS, MODE_TEXT, NO_ALIAS
from tests.bounds import bounded
from tests.crafting import Crafted, write_sample
from tests.handout import read_everything

HUGE = 1 << 63
Change = Callable[[Crafted], None]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("crafted") / "sample.h5")


def column(name: str, record: str, key: str, value: int) -> Change:
    """Set one field of one array."""

    def change(crafted: Crafted) -> None:
        crafted.sections[name][crafted.row(record, key)] = value

    return change


def moved(name: str, record: str, key: str, by: int) -> Change:
    """Add to one field of one array, wrapping around."""

    def change(crafted: Crafted) -> None:
        values, row = crafted.sections[name], crafted.row(record, key)
        values[row] = (int(values[row]) + by) % (1 << 64)

    return change


def typed(field: str, value: int, record: str = "model", key: str = "w") -> Change:
    """Set one field of a row of the type table."""

    def change(crafted: Crafted) -> None:
        crafted.type_of(record, key)[field] = value

    return change


def described(text: str | bytes, key: str = "w", itemsize: int | None = None) -> Change:
    """Spell another element type."""

    def change(crafted: Crafted) -> None:
        crafted.describe("model", key, text)
        if itemsize is not None:
            crafted.type_of("model", key)["itemsize"] = itemsize

    return change


def header(field: str, value: int) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.counts[field] = value

    return change


def shaped(*shape: int, key: str = "w") -> Change:
    def change(crafted: Crafted) -> None:
        crafted.reshape("model", key, shape)

    return change


def document(**changes: Any) -> Change:
    """Change the JSON; None removes."""

    def change(crafted: Crafted) -> None:
        crafted.document |= changes
        crafted.document = {name: value for name, value in crafted.document.items() if value is not None}

    return change


def text(data: bytes) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.json = data

    return change


def footer(at: int, data: bytes) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.footer[at : at + len(data)] = data

    return change


def values(*listed: Any) -> Change:
    return document(values=list(listed))


def swap(name: str, first: tuple[str, str], second: tuple[str, str]) -> Change:
    def change(crafted: Crafted) -> None:
        one, two = crafted.row(*first), crafted.row(*second)
        column = crafted.sections[name]
        column[one], column[two] = column[two].copy(), column[one].copy()

    return change


def unsorted_names(crafted: Crafted) -> None:
    for name in ("name_hash", "name_row"):
        crafted.sections[name] = crafted.sections[name][::-1].copy()


def twin_name_rows(crafted: Crafted) -> None:
    crafted.sections["name_row"][0] = crafted.sections["name_row"][1]


def rename(crafted: Crafted, record: str, key: str, to: str) -> None:
    """Spell another key of the same length, and keep the name table right."""
    row = crafted.row(record, key)
    end = int(crafted.sections["key_end"][row])
    assert len(key.encode()) == len(to.encode())
    crafted.sections["pool"][end - len(to.encode()) : end] = np.frombuffer(to.encode(), np.uint8)
    hashes = crafted.sections["name_hash"]
    hashes[list(crafted.sections["name_row"]).index(row)] = archive_hash(to)
    order = np.argsort(hashes, kind="stable")
    for name in ("name_hash", "name_row"):
        crafted.sections[name] = crafted.sections[name][order]


def archive_hash(key: str) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(key.encode())


def twin_keys(crafted: Crafted) -> None:
    rename(crafted, "model", "empty", "large")


def twin_records(crafted: Crafted) -> None:
    rows = crafted.sections["records"]
    rows[1]["name_at"], rows[1]["name_bytes"] = rows[0]["name_at"], rows[0]["name_bytes"]


def wrong_counts(crafted: Crafted) -> None:
    crafted.sections["records"]["arrays"][:2] = crafted.sections["records"]["arrays"][1::-1]


def overlapping_strings(crafted: Crafted) -> None:
    row = crafted.type_of("model", "w")
    row["dtype_at"], row["dtype_bytes"] = int(row["description_at"]) + 1, int(row["description_bytes"])


def many_long_types(crafted: Crafted) -> None:
    """100,000 rows that each name one string of a megabyte."""
    at, size = crafted.add_text(b"x" * (1 << 20))
    rows = np.repeat(crafted.sections["types"][:1], 100_000)
    rows["npy_header_at"], rows["npy_header_bytes"] = at, size
    rows["npy_header_at"] += np.arange(100_000, dtype="<u8") % 2
    rows["npy_header_bytes"] -= (np.arange(100_000) % 2).astype("<u4")
    crafted.sections["types"] = np.concatenate([crafted.sections["types"], rows])


def text_bomb(crafted: Crafted) -> None:
    """A few stored bytes that would become 2 GB an element."""
    crafted.describe("model", "text", "<U500000000")


def alias_to(record: str, key: str) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.sections["alias_of"][crafted.row("model", "raw tied")] = crafted.row(record, key)

    return change


def alias_of_alias(crafted: Crafted) -> None:
    first, second = crafted.row("model", "raw tied"), crafted.row("model", "bfloat16")
    for name in ("offset", "nbytes", "type", "flags", "segment_at"):
        crafted.sections[name][second] = crafted.sections[name][first]
    crafted.sections["alias_of"][second] = first


def alias_of_other_shape(crafted: Crafted) -> None:
    crafted.reshape("model", "raw tied", (2, 1))


def lone_digests(crafted: Crafted) -> None:
    crafted.sections["digests"] = np.append(crafted.sections["digests"], crafted.sections["digests"][:1])


def other_digests(crafted: Crafted) -> None:
    at = crafted.sections["segment_at"]
    first, second = crafted.row("model", "fortran"), crafted.row("model", "structured")
    at[first], at[second] = int(at[second]), int(at[first])


def lone_axis(crafted: Crafted) -> None:
    crafted.sections["dims"] = np.append(crafted.sections["dims"], np.array([1], "<u8"))


def no_arrays(crafted: Crafted) -> None:
    for name in (
        *("offset", "nbytes", "key_end", "dims_end", "segment_at", "name_hash", "record", "type", "alias_of"),
        *("flags", "name_row"),
    ):
        crafted.sections[name] = crafted.sections[name][:0]
    crafted.sections["records"]["arrays"] = 0


def records_of_no_kind(crafted: Crafted) -> None:
    crafted.sections["records"]["kind"][0] = 3


def reserved(section: str) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.sections[section]["reserved"][0] = 1

    return change


def name_outside(crafted: Crafted) -> None:
    crafted.sections["records"]["name_at"][0] = HUGE


def name_beyond(crafted: Crafted) -> None:
    crafted.sections["records"]["name_bytes"][0] = 0xFFFFFFFF


def rank_of_65(crafted: Crafted) -> None:
    crafted.reshape("model", "w", (1,) * 62 + (3, 4, 1))


SPELLINGS: list[tuple[str, str | bytes, int]] = [
    ("O", "O", 8),
    ("object-field", "[('a','O')]", 8),
    ("object-array", "[('a','O',(2,))]", 16),
    ("array-type", "('<f4',(3,))", 12),
    ("comma-array", "(3,)f4", 12),
    ("string", "T", 16),
    ("code", "__import__('os').system('touch canary')", 8),
    ("lambda", "[(lambda: 1)()]", 8),
    ("deep", "[" * 3000 + "]" * 3000, 8),
    ("deep-minus", "[" + "-" * 100_000 + "1]", 8),
    ("megabyte", "[" + "0," * 500_000 + "]", 8),
    ("megabyte-of-fields", "[" + ",".join(f"('a{n}','<f4')" for n in range(70_000)) + "]", 280_000),
    ("megabyte-of-commas", "f4," * 330_000 + "f4", 1_320_004),
    ("sum", "[" + "1+" * 60_000 + "1]", 8),
    ("negative-offset", "{'names':['a'],'formats':['<f4'],'offsets':[-8],'itemsize':16}", 16),
    ("huge-offset", "{'names':['a'],'formats':['<f4'],'offsets':[2147483646],'itemsize':16}", 16),
    ("null", "\0", 8),
    ("empty", "", 8),
    ("not-utf-8", b"\xff\xfe", 8),
    ("unit-0-times", "<M8[0ns]", 8),
    ("unit-divided-by-0", "<M8[s/0]", 8),
    ("member-of-a-unit-divided-by-0", "[('a', '<M8[s/0]')]", 8),
    ("unknown-ml", "float8_nonsense", 1),
    ("huge-void", "V99999999999999999999", 8),
]
"""Name, spelling and item size of element types that are refused at open."""


METRICS, CONFIGS = ("metrics", "model"), ("configs", "run")
AT_OPEN: dict[str, Change] = {
    # counts of the header
    **{f"huge-{field}": header(field, HUGE) for field in ("records", "types", "arrays", "dims", "segments")},
    "all-ones-arrays": header("arrays", (1 << 64) - 1),
    "huge-pool": header("pool_bytes", HUGE),
    "counts-that-wrap": header("segments", 1 << 60),
    "one-array-more": header("arrays", 13),
    "header-of-0": header("header_bytes", 0),
    # tables
    "name-outside-the-pool": name_outside,
    "name-beyond-the-pool": name_beyond,
    "dtype-outside-the-pool": typed("dtype_at", HUGE),
    "stype-wraps": typed("stype_at", (1 << 64) - 1),
    "description-beyond-the-pool": typed("description_bytes", 0xFFFFFFFF),
    "header-beyond-the-pool": typed("npy_header_bytes", 0xFFFFFFFF),
    "strings-overlap": overlapping_strings,
    "a-megabyte-100000-times": many_long_types,
    "record-of-no-kind": records_of_no_kind,
    "twin-records": twin_records,
    "record-counts": wrong_counts,
    "reserved-record": reserved("records"),
    "reserved-type": reserved("types"),
    "unknown-mode": typed("mode", 3),
    "data-of-8-byte-items": typed("itemsize", 8, key="raw"),
    "data-with-a-header": typed("npy_header_bytes", 1, key="raw"),
    "elements-of-0-bytes": typed("itemsize", 0),
    "elements-of-8-bytes": typed("itemsize", 8),
    "huge-elements": typed("itemsize", HUGE),
    "text-of-numbers": typed("mode", MODE_TEXT),
    "numbers-of-text": typed("mode", MODE_ELEMENTS, key="text"),
    "text-of-0-bytes": typed("itemsize", 0, key="text"),
    "huge-text": typed("itemsize", HUGE, key="text"),
    "text-wider-than-its-type": typed("itemsize", 4096, key="text"),
    "text-that-grows": text_bomb,
    # columns
    "record-out-of-range": column("record", "model", "w", 0xFFFFFFFF),
    "record-of-metrics": column("record", "model", "w", 2),
    "type-out-of-range": column("type", "model", "w", 0xFFFFFFFF),
    "unknown-flag": column("flags", "model", "w", 2),
    "keys-that-go-back": column("key_end", "model", "text", 0),
    "keys-beyond-the-pool": column("key_end", "other", "w", HUGE),
    "axes-that-go-back": column("dims_end", "model", "text", 0),
    "huge-axes": column("dims_end", "model", "w", HUGE),
    "lone-axis": lone_axis,
    "no-arrays-but-axes": no_arrays,
    # sizes
    "shape-of-other-bytes": shaped(3, 5),
    "shape-that-wraps": shaped(1 << 32, 1 << 32, 3),
    "shape-that-wraps-to-fit": shaped(1 << 62, 4, 12),
    "shape-beyond-a-double": shaped(*[HUGE] * 64),
    "shape-of-0-and-huge": shaped(0, HUGE),
    "65-axes": rank_of_65,
    "text-of-0-and-huge": shaped(0, 1 << 56, key="text"),
    "nbytes-of-another": moved("nbytes", "model", "w", 4),
    "huge-nbytes-of-data": column("nbytes", "model", "raw", HUGE),
    # places
    "offset-in-the-superblock": column("offset", "model", "w", 0),
    "offset-misaligned": moved("offset", "model", "w", 4),
    "offset-in-metadata": moved("offset", "model", "large", 1 << 20),
    "offset-that-wraps": column("offset", "model", "large", (1 << 64) - 64),
    "offset-beyond": column("offset", "model", "large", 1 << 40),
    "offset-of-another": moved("offset", "model", "structured", -64),
    "offset-of-nothing": column("offset", "model", "empty", DATA_AT),
    "places-swapped": swap("offset", ("model", "w"), ("other", "w")),
    # digests
    "lone-digests": lone_digests,
    "digests-of-another": other_digests,
    "huge-segment": column("segment_at", "model", "w", HUGE),
    # aliases
    "alias-of-later": alias_to("model", "large"),
    "alias-of-itself": alias_to("model", "raw tied"),
    "alias-of-another-array": alias_to("model", "fortran"),
    "alias-out-of-range": column("alias_of", "model", "raw tied", NO_ALIAS - 1),
    "alias-of-alias": alias_of_alias,
    "alias-of-other-shape": alias_of_other_shape,
    "alias-of-other-flags": column("flags", "model", "raw tied", FLAG_FORTRAN),
    "alias-no-more": column("alias_of", "model", "raw tied", NO_ALIAS),
    # names
    "names-unsorted": unsorted_names,
    "names-twice": twin_name_rows,
    "name-row-out-of-range": lambda crafted: crafted.sections["name_row"].__setitem__(0, 0xFFFFFFFF),
    "twin-keys": twin_keys,
    # element types
    **{
        f"dtype-{name}": described(spelled, key="structured", itemsize=size)
        for name, spelled, size in SPELLINGS
    },
    # footer
    "footer-size": footer(16, b"\1"),
    "footer-flags": footer(20, b"\1"),
    "metadata-before-data": footer(40, (64).to_bytes(8, "little")),
    "metadata-misaligned": footer(40, (DATA_AT + 1).to_bytes(8, "little")),
    "huge-metadata": footer(48, HUGE.to_bytes(8, "little")),
    "index-elsewhere": footer(56, bytes(8)),
    "huge-index": footer(64, HUGE.to_bytes(8, "little")),
    "no-superblock": footer(88, b"\0" * 9),
    "reserved-footer": footer(36, b"\1"),
    "reserved-digest": footer(152, b"\1"),
    "values-elsewhere": footer(72, bytes(8)),
    "huge-values": footer(80, HUGE.to_bytes(8, "little")),
}

WHEN_USED: dict[str, Change] = {
    "json-invalid": text(b"{"),
    "json-empty": text(b""),
    "json-list": text(b"[]"),
    "json-number": text(b"1"),
    "json-not-utf-8": text(b'{"container": "\xff"}'),
    "json-deep": text(b"[" * 200_000),
    "json-deep-object": text(b'{"values":' * 50_000),
    "json-huge-number": text(b'{"container": ' + b"9" * 10_000 + b"}"),
    "no-container": document(container=None),
    "container-number": document(container=5),
    "container-unknown": document(container="dict"),
    "no-created": document(created=None),
    "writer-list": document(writer=[]),
    "values-number": document(values=5),
    "values-string": document(values="abc"),
    "values-object": document(values={"2": []}),
    "values-of-one": values([2]),
    "values-of-no-record": values(["metrics", "none", []]),
    "values-of-a-number": values(["metrics", 2, []]),
    "values-of-a-true-record": values([True, "model", []]),
    "values-of-a-list-record": values([["metrics"], "model", []]),
    "values-of-arrays": values(["arrays", "model", [["a", ["int", 1]]]]),
    "values-of-another-kind": values(["configs", "model", []]),
    "values-of-one-record-twice": values([*METRICS, []], [*METRICS, []]),
    "entries-number": values([*METRICS, 5]),
    "entries-object": values([*METRICS, {"ab": 1}]),
    "entry-of-one": values([*METRICS, [["a"]]]),
    "entry-key-number": values([*METRICS, [[1, ["int", 1]]]]),
    "entry-key-list": values([*METRICS, [[[], ["int", 1]]]]),
    "entry-twice": values([*METRICS, [["a", ["int", 1]], ["a", ["int", 2]]]]),
    "metric-of-str": values([*METRICS, [["a", ["str", "x"]]]]),
    "metric-of-bool": values([*METRICS, [["a", ["bool", True]]]]),
    **{
        f"value-{json.dumps(value)[:30]}": values([*METRICS, [["a", value]]])
        for value in (
            *(None, 5, "int", [], ["int"], ["int", 1, 2], ["nothing", 1], [5, 5]),
            *(["int", 1.5], ["int", "x"], ["int", str(1 << 64)], ["int", 1 << 64], ["int", "9" * 5000]),
            *(["float", "x"], ["float", True], ["float", "zz"], ["float", "00"], ["float", 10**400]),
            *(["floats", []], ["floats", 5], ["floats", {"row": 0}], ["list", [1]], ["ints", [[1]]]),
            *(["floats", {"row": -1}], ["floats", {"row": 1 << 70}], ["floats", {"row": True}]),
            *(["floats", {"row": None}], ["floats", {}], ["floats", {"row": 10}]),
            ["nothing", {"row": 12}],
        )
    },
    "config-of-bad-base64": values([*CONFIGS, [["a", ["bytes", "!"]]]]),
    "config-of-number-bytes": values([*CONFIGS, [["a", ["bytes", 5]]]]),
    "config-of-number-str": values([*CONFIGS, [["a", ["str", 5]]]]),
    "config-of-number-bool": values([*CONFIGS, [["a", ["bool", 1]]]]),
    "key-not-utf-8": lambda crafted: crafted.sections["pool"].__setitem__(0, 0xFF),
    "one-name-in-a-recorddict": document(container="recorddict"),
}


@pytest.mark.parametrize("name", AT_OPEN)
def test_refused_at_open(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    crafted = Crafted(sample)
    AT_OPEN[name](crafted)
    path = crafted.write(tmp_path / "hostile.h5")
    error = bounded(lambda: archive.open(path))
    assert isinstance(error, (HostileFileError, TruncatedError)), repr(error)
    assert str(path) in str(error)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", WHEN_USED)
def test_refused_when_used(sample: Path, tmp_path: Path, name: str) -> None:
    crafted = Crafted(sample)
    WHEN_USED[name](crafted)
    path = crafted.write(tmp_path / "hostile.h5")
    error = bounded(lambda: read_everything(path))
    assert isinstance(error, HostileFileError), repr(error)
    assert str(path) in str(error)
    # arrays are found all the same, or not at all: never something else
    if name not in ("no-created", "writer-list"):  # what load has no use for
        assert isinstance(bounded(lambda: archive.load(path)), HostileFileError)


def test_the_crafting_itself_breaks_nothing(sample: Path, tmp_path: Path) -> None:
    path = Crafted(sample).write(tmp_path / "same.h5")
    assert path.stat().st_size == sample.stat().st_size or archive.verify(path).ok
    assert bounded(lambda: read_everything(path)) is None
    assert archive.load(path) == archive.load(sample)


@pytest.mark.parametrize(("at", "data"), [(8, b"\2"), (8, b"\0"), (8, b"\xff\xff\xff\xff")])
def test_another_major_version_is_a_version_error(sample: Path, tmp_path: Path, at: int, data: bytes) -> None:
    crafted = Crafted(sample)
    crafted.footer[at : at + len(data)] = data
    with pytest.raises(VersionError, match="upgrade fedarchive"):
        archive.open(crafted.write(tmp_path / "newer.h5"))


def test_another_index_version_is_a_version_error(sample: Path, tmp_path: Path) -> None:
    crafted = Crafted(sample)
    crafted.counts["version"] = 2
    with pytest.raises(VersionError, match="upgrade"):
        archive.open(crafted.write(tmp_path / "newer.h5"))


@pytest.mark.parametrize("at", [0, 248])
def test_a_footer_with_one_marker_is_ours_and_damaged(sample: Path, tmp_path: Path, at: int) -> None:
    crafted = Crafted(sample)
    crafted.footer[at] ^= 1
    with pytest.raises(ArchiveError, match="digest") as caught:
        archive.open(crafted.write(tmp_path / "a.h5"))
    assert type(caught.value).__name__ == "DamagedError"


def test_a_footer_without_markers_is_no_archive(sample: Path, tmp_path: Path) -> None:
    crafted = Crafted(sample)
    crafted.footer[0] ^= 1
    crafted.footer[248] ^= 1
    with pytest.raises(NotAnArchiveError, match="foreign=True"):
        archive.open(crafted.write(tmp_path / "a.h5"))


def test_bytes_between_index_and_footer(sample: Path, tmp_path: Path) -> None:
    crafted = Crafted(sample)
    crafted.index_tail = bytes(64)
    with pytest.raises(HostileFileError, match="sections of the index"):
        archive.open(crafted.write(tmp_path / "a.h5"))


def test_twins_that_are_no_neighbours_in_the_name_table(tmp_path: Path) -> None:
    one = archive.ArrayRecord({"x": archive.Array(np.ones(2))})
    records = archive.RecordSet({"a": one, "b": one.copy(), "c": one.copy()})
    archive.save(records, tmp_path / "a.h5", durable=False)
    crafted = Crafted(tmp_path / "a.h5")
    crafted.sections["record"][2] = 0
    crafted.sections["records"]["arrays"] = [2, 1, 0]
    with pytest.raises(HostileFileError, match="share the key 'x'"):
        archive.open(crafted.write(tmp_path / "b.h5"))


def test_a_megabyte_of_writer(tmp_path: Path, sample: Path) -> None:
    crafted = Crafted(sample)
    crafted.document["writer"] = "x" * (1 << 20)
    path = crafted.write(tmp_path / "a.h5")
    with archive.open(path) as handle:
        assert len(handle.info.writer) == 1 << 20, "long, but a str like another"


def test_an_npy_header_that_lies_never_gives_other_elements(sample: Path, tmp_path: Path) -> None:
    """The index, not the header, says what the elements are; the header is only a part of ``data``."""
    crafted = Crafted(sample)
    lie = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (99,), }".ljust(127) + b"\n"
    )
    row = crafted.type_of("model", "w")
    row["npy_header_at"], row["npy_header_bytes"] = crafted.add_text(lie)
    path = crafted.write(tmp_path / "a.h5")
    expected = np.arange(12, dtype="f4").reshape(3, 4)

    def read() -> None:
        with archive.open(path) as handle:
            assert np.array_equal(handle["model", "w"].numpy(), expected)
        loaded = archive.load(path).parameters_records["model"]["w"].numpy()
        assert np.array_equal(loaded, expected)

    error = bounded(read)
    assert error is None or isinstance(error, HostileFileError)


def test_modes_are_what_the_sample_has(sample: Path) -> None:
    crafted = Crafted(sample)
    assert set(crafted.sections["types"]["mode"].tolist()) == {MODE_ELEMENTS, MODE_TEXT, MODE_DATA}
    assert int((crafted.sections["alias_of"] != NO_ALIAS).sum()) == 1
