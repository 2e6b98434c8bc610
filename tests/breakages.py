"""Every rule of the format that hostile bytes can break, one at a time: what to change, and what is said.

`BREAKAGES` works on a `Crafted` of `crafting.sample_records`. Its numbers come from whoever runs it: from
hypothesis, which shrinks them (`archive.testing.strategies.broken_archives`), or from `random`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from archive.errors import ArchiveError, HostileFileError, NotAnArchiveError, VersionError
from archive.format.constants import ALIGN, DATA_AT, FOOTER_BYTES, MODE_ELEMENTS, MODE_TEXT, NO_ALIAS
from tests.crafting import Crafted

__all__ = ["BREAKAGES", "Breakage", "Choose"]

Choose = Callable[[int, int], int]
"""Returns a whole number from the first to the second, both included."""
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
METRICS, CONFIGS = ("metrics", "model"), ("configs", "run")
"""Rows of the sample's record table."""


@dataclass(frozen=True, slots=True)
class Breakage:
    """One rule, and how it is broken."""

    rule: str
    """Id of the rule in the documents of ``spec/v1``."""
    problem: str
    """Regular expression that the message of the error matches."""
    change: Callable[[Crafted, Choose], None]
    """Breaks it."""
    error: type[ArchiveError] = HostileFileError
    """What opening or reading the archive ends with."""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return f"{self.rule} {self.change.__name__}"


BREAKAGES: list[Breakage] = []


def _breaks(
    rule: str, problem: str, error: type[ArchiveError] = HostileFileError
) -> Callable[[Callable[[Crafted, Choose], None]], Callable[[Crafted, Choose], None]]:
    def register(change: Callable[[Crafted, Choose], None]) -> Callable[[Crafted, Choose], None]:
        BREAKAGES.append(Breakage(rule, problem, change, error))
        return change

    return register


def _any_row(crafted: Crafted, choose: Choose) -> int:
    return choose(0, len(crafted.keys) - 1)


def _owner(crafted: Crafted, choose: Choose) -> int:
    owners = crafted.owners
    return crafted.row(*owners[choose(0, len(owners) - 1)])


def _one(choose: Choose, *listed: Any) -> Any:
    return listed[choose(0, len(listed) - 1)]


# ---- index: header ----


@_breaks("INDEX-1", "magic|index header|reserved field|header of")
def header_constants(crafted: Crafted, choose: Choose) -> None:
    """Have another magic, header length or reserved byte."""
    field = _one(choose, "magic", "header_bytes", "reserved")
    if field == "header_bytes":
        crafted.counts[field] = _other(choose, 96, U32)
    else:
        crafted.header[0][field] = np.void(b"\1" * 16) if field == "reserved" else b"FEDINDEX"


@_breaks("INDEX-1", "index version", VersionError)
def index_version(crafted: Crafted, choose: Choose) -> None:
    """Have an index version that is not 1."""
    crafted.counts["version"] = _other(choose, 1, U32)


@_breaks("INDEX-3", "sections of the index take")
def section_counts(crafted: Crafted, choose: Choose) -> None:
    """Have a count that the sections do not have; some would wrap around."""
    field = _one(choose, "records", "types", "arrays", "dims", "segments", "pool_bytes")
    crafted.assemble()
    sizes = {"pool_bytes": "pool", "segments": "digests", "arrays": "offset"}
    right = len(crafted.sections[sizes.get(field, field)])
    crafted.counts[field] = _one(
        choose, right + choose(8, 1 << 40), choose(1 << 59, 1 << 63), U64 - choose(0, 99)
    )


@_breaks("INDEX-5", "padding between the sections")
def section_padding(crafted: Crafted, choose: Choose) -> None:
    """Have padding that is not zero."""
    crafted.add_text(b"x" * (9 - len(crafted.sections["pool"]) % 8))
    crafted.padding["pool"] = (
        bytes(6) + bytes([choose(1, 255)]) if choose(0, 1) else bytes([choose(1, 255)]) * 7
    )


# ---- index: columns ----


@_breaks("INDEX-6", "keys of the arrays overlap|axes of the arrays overlap")
def ends(crafted: Crafted, choose: Choose) -> None:
    """Have keys or axes that go back, or leave their section."""
    section, column = _one(choose, ("pool", "key_end"), ("dims", "dims_end"))
    rows, total = crafted.sections[column], len(crafted.sections[section])
    row = choose(0, len(rows) - 1)
    rows[row] = choose(total + 1, U64) if row == 0 or not int(rows[row - 1]) or choose(0, 1) else choose(
        0, int(rows[row - 1]) - 1
    )  # fmt: skip


@_breaks("INDEX-6", "axes that belong to no array")
def lone_axis(crafted: Crafted, choose: Choose) -> None:
    """Have an axis behind the last array's."""
    crafted.sections["dims"] = np.append(crafted.sections["dims"], np.array([choose(0, U64)], "<u8"))


@_breaks("INDEX-6", "more than 64 axes")
def rank(crafted: Crafted, choose: Choose) -> None:
    """Have more axes than numpy has."""
    crafted.reshape("model", "w", (1,) * choose(63, 500) + (3, 4))


@_breaks("INDEX-7", "record is not in the table")
def record_column(crafted: Crafted, choose: Choose) -> None:
    """Have a record that is not there."""
    crafted.sections["record"][_any_row(crafted, choose)] = choose(len(crafted.sections["records"]), U32)


@_breaks("INDEX-7", "type is not in the type table")
def type_column(crafted: Crafted, choose: Choose) -> None:
    """Have a type that is not there."""
    crafted.sections["type"][_any_row(crafted, choose)] = choose(len(crafted.sections["types"]), U32)


@_breaks("INDEX-7", "unknown flag")
def flags_column(crafted: Crafted, choose: Choose) -> None:
    """Have a flag that is not there."""
    crafted.sections["flags"][_any_row(crafted, choose)] = choose(2, U32)


@_breaks("DTYPE-8", "column-major|order of elements")
def fortran_flag(crafted: Crafted, choose: Choose) -> None:
    """Have column-major order of a scalar, or of opaque data."""
    key = _one(choose, "scalar", "raw")
    crafted.sections["flags"][crafted.row("model", key)] = 1


@_breaks("INDEX-8", "bytes are not those of its shape|more bytes than a file may hold")
def nbytes_column(crafted: Crafted, choose: Choose) -> None:
    """Have more or fewer bytes than shape and type need."""
    key = _one(choose, "w", "text", "fortran", "structured", "empty", "scalar", "large")
    row = crafted.row("model", key)
    right = int(crafted.sections["nbytes"][row])
    crafted.sections["nbytes"][row] = _other(choose, right, U64)


@_breaks("INDEX-8", "bytes are not those of its shape|more bytes than a file may hold")
def shape(crafted: Crafted, choose: Choose) -> None:
    """Have a shape of other bytes; products of some wrap around to the right ones."""
    key = _one(choose, "w", "text", "structured", "empty", "large")
    wrapping = ((1 << 62, 4, 12), (1 << 32, 1 << 32, 3), (0, 1 << 63), (1 << 63,) * 64, (U64,))
    crafted.reshape("model", key, _one(choose, *wrapping, (7, choose(1, 1 << 62))))


# ---- index: places, digests, ties ----


@_breaks("LAYOUT-1", "overlap, leave the data")
def offset_column(crafted: Crafted, choose: Choose) -> None:
    """Have an array in the superblock, in another or behind the data."""
    row = _owner(crafted, choose)
    before = choose(0, DATA_AT // ALIGN - 1) * ALIGN
    crafted.sections["offset"][row] = _one(
        choose, before, choose(1 << 32, (1 << 63) // ALIGN) * ALIGN, U64 - 63
    )


@_breaks("LAYOUT-2", "not aligned")
def alignment(crafted: Crafted, choose: Choose) -> None:
    """Have an array at no multiple of 64."""
    crafted.sections["offset"][_owner(crafted, choose)] += np.uint64(choose(1, 63))


@_breaks("LAYOUT-7", "offset without bytes")
def empty_offset(crafted: Crafted, choose: Choose) -> None:
    """Have a place of nothing."""
    crafted.sections["offset"][crafted.row("model", "empty")] = choose(1, U64)


@_breaks("INDEX-12", "digests are not as many")
def lone_digests(crafted: Crafted, choose: Choose) -> None:
    """Have digests of nothing."""
    digests = crafted.sections["digests"]
    crafted.sections["digests"] = np.append(digests, digests[: choose(1, len(digests))])


@_breaks("INDEX-12", "digests are another's|differs from the array it shares")
def segment_column(crafted: Crafted, choose: Choose) -> None:
    """Have digests of another array."""
    row = _any_row(crafted, choose)
    right = int(crafted.sections["segment_at"][row])
    crafted.sections["segment_at"][row] = _other(choose, right, U64)


@_breaks("TIE-1", "alias of a later array")
def alias_column(crafted: Crafted, choose: Choose) -> None:
    """Have an alias of itself, of a later array, or of what is not there."""
    row = crafted.row("model", "raw tied")
    crafted.sections["alias_of"][row] = choose(row, U32 - 1)


@_breaks("TIE-2", "differs from the array it shares|alias of another shape")
def alias_of_another(crafted: Crafted, choose: Choose) -> None:
    """Have an alias that says something else than its target."""
    row = crafted.row("model", "raw tied")
    if choose(0, 1):
        crafted.reshape("model", "raw tied", (2, 1))
    else:
        crafted.sections["alias_of"][row] = _one(choose, *range(crafted.row("model", "raw")))


@_breaks("TIE-3", "overlap, leave the data")
def alias_no_more(crafted: Crafted, choose: Choose) -> None:
    """Have two arrays that share bytes, and do not say so."""
    crafted.sections["alias_of"][crafted.row("model", "raw tied")] = NO_ALIAS


# ---- index: names ----


@_breaks("INDEX-9", "name table is not sorted")
def hash_order(crafted: Crafted, choose: Choose) -> None:
    """Have hashes that are not in order."""
    hashes = crafted.sections["name_hash"]
    at = choose(1, len(hashes) - 1)
    first = next(place for place in range(len(hashes)) if hashes[place] == hashes[at] or place == at)
    one, two = (first - 1, at) if first else (at, len(hashes) - 1)
    hashes[one], hashes[two] = int(hashes[two]), int(hashes[one])


@_breaks("INDEX-10", "does not name every array once")
def name_rows(crafted: Crafted, choose: Choose) -> None:
    """Have a row twice, or one that is not there."""
    rows = crafted.sections["name_row"]
    at = choose(1, len(rows) - 1)
    rows[at] = _one(choose, int(rows[at - 1]), choose(len(rows), U32))


@_breaks("INDEX-11", "records of one kind share a name")
def twin_records(crafted: Crafted, choose: Choose) -> None:
    """Have two records of one name."""
    rows = crafted.sections["records"]
    for field in ("name_at", "name_bytes"):
        rows[1][field] = rows[0][field]


@_breaks("INDEX-13", "array counts do not add up")
def record_counts(crafted: Crafted, choose: Choose) -> None:
    """Have another number of arrays than the record has."""
    row = crafted.sections["records"][choose(0, len(crafted.sections["records"]) - 1)]
    row["arrays"] = _other(choose, int(row["arrays"]), U64)


# ---- index: tables ----


@_breaks("INDEX-15", "reserved field is not zero")
def reserved_fields(crafted: Crafted, choose: Choose) -> None:
    """Have a reserved field in use."""
    rows = crafted.sections[_one(choose, "records", "types")]
    rows["reserved"][choose(0, len(rows) - 1)] = choose(1, U32)


@_breaks("INDEX-15", "record of unknown kind")
def record_kind(crafted: Crafted, choose: Choose) -> None:
    """Have a kind that is not there."""
    rows = crafted.sections["records"]
    rows["kind"][choose(0, len(rows) - 1)] = choose(3, U32)


@_breaks("INDEX-15", "unknown storage mode")
def type_mode(crafted: Crafted, choose: Choose) -> None:
    """Have a mode that is not there."""
    crafted.type_of("model", _one(choose, "w", "text", "structured"))["mode"] = choose(3, U32)


@_breaks("INDEX-16", "elements .* of .* bytes|text of .* bytes|items of more than one byte")
def itemsize(crafted: Crafted, choose: Choose) -> None:
    """Have elements of another size than their type."""
    key, most = _one(choose, ("w", U64), ("scalar", U64), ("raw", U64), ("structured", U64))
    row = crafted.type_of("model", key)
    row["itemsize"] = _other(choose, int(row["itemsize"]), most)


@_breaks("INDEX-16", "text of .* bytes")
def text_itemsize(crafted: Crafted, choose: Choose) -> None:
    """Have text without bytes, wider than its type, or a bomb."""
    row = crafted.type_of("model", "text")
    if choose(0, 1):
        row["itemsize"] = _one(choose, 0, choose(1 << 20, U64))
    else:
        crafted.describe("model", "text", f"<U{choose(2_000, 500_000_000)}")


@_breaks("INDEX-16", "mode TEXT with elements|elements .* of .* bytes")
def text_mode(crafted: Crafted, choose: Choose) -> None:
    """Have numbers as text, text as numbers."""
    key, mode = _one(choose, ("w", MODE_TEXT), ("text", MODE_ELEMENTS))
    crafted.type_of("model", key)["mode"] = mode


@_breaks("INDEX-17", "lies outside the string pool")
def pool_references(crafted: Crafted, choose: Choose) -> None:
    """Have a string that is not in the pool; some ends wrap around."""
    section, field = _one(
        choose,
        ("records", "name"),
        *(("types", name) for name in ("dtype", "stype", "description", "npy_header")),
    )
    rows, pool = crafted.sections[section], len(crafted.sections["pool"])
    row = rows[choose(0, len(rows) - 1)]
    if choose(0, 1):
        row[f"{field}_at"] = choose(pool + 1, U64)
    else:
        row[f"{field}_bytes"] = choose(pool + 1, U32)


@_breaks("INDEX-17", "not UTF-8")
def utf8_names(crafted: Crafted, choose: Choose) -> None:
    """Have a key, or the name of a record or type, that is not UTF-8."""
    if choose(0, 1):
        end = int(crafted.sections["key_end"][_any_row(crafted, choose)])
        crafted.sections["pool"][end - 1] = choose(0xF8, 0xFF)
    else:
        row = crafted.sections["records"][choose(0, 3)]
        row["name_at"], row["name_bytes"] = crafted.add_text(bytes([choose(0xF8, 0xFF)]))


@_breaks("INDEX-21", "strings overlap")
def pool_overlaps(crafted: Crafted, choose: Choose) -> None:
    """Have two strings that share a part, as a bomb of strings would."""
    row = crafted.type_of("model", "w")
    at, size = crafted.add_text(b"x" * choose(3, 5000))
    row["npy_header_at"], row["npy_header_bytes"] = at, size - choose(1, size - 2)
    row["stype_at"], row["stype_bytes"] = at, size


# ---- element types ----

NO_TYPES = (
    *(
        "O",
        "|O",
        "[('a', 'O')]",
        "[('a', '|O', (2,))]",
        "('<f4', (3,))",
        "(3,)f4",
        "T",
        "",
        "float8_nonsense",
    ),
    *("<f3", "V99999999999999999999", "<M8[0s]", "<M8[s/0]", "[('a', '<m8[0D]')]", "f4", "=f4", ">i1"),
    *(
        "[(lambda: 1)()]",
        "__import__('os').system('touch canary')",
        "[" * 3000,
        "[('a', '<f4'), ('a', '<f4')]",
    ),
    "{'names':['a'],'formats':['<f4'],'offsets':[-8],'itemsize':16}",
)


@_breaks("DTYPE-3", "element type .* is unknown|not UTF-8|elements .* of .* bytes")
def descriptions(crafted: Crafted, choose: Choose) -> None:
    """Have element types that hold objects, kill numpy, run code, or are none."""
    crafted.describe(
        "model", _one(choose, "w", "structured", "fortran"), _one(choose, *NO_TYPES, b"\xff\xfe")
    )


@_breaks("DTYPE-6", "not UTF-8|longer than its type")
def text_elements(crafted: Crafted, choose: Choose) -> None:
    """Have stored text that is not UTF-8, or longer than its type holds."""
    crafted.write_elements("model", "text", _one(choose, bytes([choose(0xF8, 0xFF)]), b"abcdef"))


# ---- the JSON document ----


@_breaks("INDEX-18", "invalid JSON|JSON of the values section is not an object")
def document_text(crafted: Crafted, choose: Choose) -> None:
    """Have no JSON, no object, a member twice, or too deep."""
    crafted.json = _one(
        choose, b"", b"{", b"[]", b"1", b'"x"', b'{"a": "\xff"}', b"[" * choose(2000, 200_000),
        b'{"container": "recordset", "container": "recordset"}', b'{"a": ' * choose(2000, 60_000),
        b'{"container": ' + b"9" * choose(4301, 9000) + b"}",
    )  # fmt: skip


@_breaks("INDEX-18", "values section has no|unknown container")
def document_members(crafted: Crafted, choose: Choose) -> None:
    """Have a member that is missing, or not text."""
    member = _one(choose, "container", "created", "writer")
    if choose(0, 1):
        del crafted.document[member]
    else:
        crafted.document[member] = _one(choose, None, 5, [], {}, True)


@_breaks(
    "INDEX-19",
    "belong to no record of their kind|two lists of values|malformed|share a key|index does not have",
)
def value_lists(crafted: Crafted, choose: Choose) -> None:
    """Have values of no record, of arrays, or of one record twice."""
    kind = _one(choose, "arrays", "", choose(0, 3), "Configs", True, None, ["configs"])
    name = _one(choose, choose(0, 1 << 70), True, None, ["a"])
    twice = [*CONFIGS, [["a", ["int", 1]], ["a", ["int", 2]]]]
    crafted.document["values"] = _one(
        choose, 5, "abc", [5], [[*CONFIGS]], [[kind, CONFIGS[1], []]], [["configs", name, []]],
        [[*CONFIGS, []], [*CONFIGS, []]], [["configs", "no such record", []]], [twice], [[*CONFIGS, 5]],
        [[*CONFIGS, {"ab": 1}]], [[*CONFIGS, [["a"]]]], [[*CONFIGS, [[5, ["int", 1]]]]],
    )  # fmt: skip


@_breaks("INDEX-20", "refers to no dataset|is not the dataset")
def value_rows(crafted: Crafted, choose: Choose) -> None:
    """Have a value whose dataset is another's, or not there."""
    row = _one(choose, choose(0, 9), choose(100, 1 << 70), -choose(1, 9), True, None, "0", 1.0)
    crafted.document["values"] = [[*METRICS, [["history", ["floats", {"row": row}]]]]]


@_breaks("VALUE-1", "not its type and payload|invalid value|value type .* is unknown")
def value_shapes(crafted: Crafted, choose: Choose) -> None:
    """Have a value that is no [type, payload]."""
    _set_value(
        crafted, CONFIGS, _one(choose, None, 5, "int", [], ["int"], ["int", 1, 2], [5, 5], ["ints", [[1]]])
    )


@_breaks("VALUE-11", "invalid value: a metric is|value type .* is unknown")
def value_types(crafted: Crafted, choose: Choose) -> None:
    """Have a type that is not there, or that no metric has."""
    if choose(0, 1):
        _set_value(
            crafted, METRICS, _one(choose, ["str", "x"], ["bool", True], ["bytes", ""], ["strs", ["x"]])
        )
    else:
        _set_value(crafted, CONFIGS, _one(choose, ["nothing", 1], ["", 1], ["intss", [1]], ["float32", 1]))


@_breaks("VALUE-2", "invalid value")
def bools(crafted: Crafted, choose: Choose) -> None:
    """Have a bool that is none."""
    _set_value(crafted, CONFIGS, _plural(choose, "bool", _one(choose, choose(0, 9), "true", None, 1.0, [])))


@_breaks("VALUE-3", "invalid value")
def integers(crafted: Crafted, choose: Choose) -> None:
    """Have an integer of more than 64 bits, or spelled wrongly."""
    wrong = _one(choose, 1.5, "x", "+1", "007", " 1", "", str(U64 + choose(1, 99)), "9" * 5000, None, [])
    _set_value(crafted, _one(choose, METRICS, CONFIGS), _plural(choose, "int", wrong, U64 + choose(1, 99)))


@_breaks("VALUE-5", "invalid value")
def floats(crafted: Crafted, choose: Choose) -> None:
    """Have a float that is none."""
    wrong = _one(choose, "x", True, "Infinity", "00", "7ff", "g" * 16, None, [], 9 * 10**308)
    _set_value(crafted, _one(choose, METRICS, CONFIGS), _plural(choose, "float", wrong))


@_breaks("VALUE-6", "invalid value")
def texts(crafted: Crafted, choose: Choose) -> None:
    """Have a str that is none."""
    _set_value(crafted, CONFIGS, _plural(choose, "str", _one(choose, 5, None, True, ["a"])))


@_breaks("VALUE-7", "invalid value")
def base64(crafted: Crafted, choose: Choose) -> None:
    """Have bytes that are no base64."""
    _set_value(
        crafted, CONFIGS, _plural(choose, "bytes", _one(choose, "!", "A", "AA=", "A\n==", 5, None, []))
    )


def _set_value(crafted: Crafted, record: tuple[str, str], value: Any) -> None:
    crafted.document["values"] = [[*record, [["a", value]]]]


def _plural(choose: Choose, name: str, *wrong: Any) -> list[Any]:
    payload = _one(choose, *wrong)
    return [name + "s", [payload]] if choose(0, 1) else [name, payload]


# ---- footer ----


@_breaks("FOOTER-9", "an HDF5 tool rewrote", NotAnArchiveError)
def file_bytes(crafted: Crafted, choose: Choose) -> None:
    """Have another length than the file and its superblock have."""
    _change_footer(crafted, choose, 24)


@_breaks("FOOTER-3", "footer's fields contradict|flag or reserved field")
def footer_constants(crafted: Crafted, choose: Choose) -> None:
    """Have a constant, flag or reserved byte that has another value."""
    at, size, right = _one(
        choose, (16, 4, 256), (20, 4, 0), (36, 4, 0), (152 + 32 * choose(0, 2) + choose(0, 15), 1, 0)
    )
    crafted.footer[at : at + size] = _other(choose, right, (1 << 8 * size) - 1).to_bytes(size, "little")


@_breaks("FOOTER-4", "footer's fields contradict")
def footer_places(crafted: Crafted, choose: Choose) -> None:
    """Have metadata, index or values elsewhere."""
    _change_footer(crafted, choose, 40 + 8 * choose(0, 5))


@_breaks("FOOTER-5", "footer's fields contradict")
def superblock(crafted: Crafted, choose: Choose) -> None:
    """Have a copy of a superblock that is none."""
    at = choose(0, 8)
    crafted.footer[88 + at] ^= choose(1, 255)


@_breaks("VERSION-2", "format version", VersionError)
def major(crafted: Crafted, choose: Choose) -> None:
    """Have another major version."""
    crafted.footer[8:12] = _other(choose, 1, U32).to_bytes(4, "little")


def _change_footer(crafted: Crafted, choose: Choose, at: int) -> None:
    """Have another number in the footer than the archive had, and than it has once put together anew."""
    old, new = (
        int.from_bytes(footer[at : at + 8], "little")
        for footer in (crafted.footer, crafted.copy().assemble()[-FOOTER_BYTES:])
    )
    found = _other(choose, old, U64)
    crafted.footer[at : at + 8] = (found + (found == new)).to_bytes(8, "little")


def _other(choose: Choose, right: int, most: int) -> int:
    """Return a number that is not the right one: near it, small, or anything."""
    found = _one(choose, right + choose(1, 64), right - choose(1, 64), choose(0, 255), choose(0, most))
    return found if found != right and 0 <= found <= most else (right + 1 if right < most else right - 1)
