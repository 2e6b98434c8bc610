"""Changes to an archive in parts: what breaks one rule, and leaves digests right."""

# Each function is a change that the title of its vector puts into words.
# ruff: noqa: D103

from __future__ import annotations

from typing import Any

import numpy as np

import archive
from archive.format.digests import digest, name_hash
from spec.v1.vectors.accepted import F4, OWN, RAW, WEIGHTS, Change, counted, npy, record
from tests.crafting import Crafted

HUGE = 1 << 63
Place = dict[str, Any] | None


def base() -> archive.RecordSet:
    """Return records with a row of every sort."""
    own = archive.Array("float32", (2, 3), "numpy.ndarray", npy(OWN, F4.tobytes()))
    fields = np.array([(1, 2.5), (3, -1.0)], [("a", "<i4"), ("b", "<f8")])
    return archive.RecordSet(
        {
            "model": record(
                w=WEIGHTS, text=np.array(["a", "é中", ""]), columns=np.asfortranarray(counted("<f8", (2, 3))),
                fields=fields, empty=np.empty((0, 3)), raw=RAW, tied=RAW, head=own,
            ),
            "other": record(w=WEIGHTS + 1),
        },
        {"model": archive.MetricRecord({"loss": 0.5, "history": [n / 8 for n in range(40)]})},
        {"run": archive.ConfigRecord({"name": "x"})},
    )  # fmt: skip


def column(name: str, key: str, value: int, where: str = "model") -> Change:
    def change(crafted: Crafted) -> None:
        crafted.sections[name][crafted.row(where, key)] = value

    return change


def typed(key: str = "w", **fields: int) -> Change:
    def change(crafted: Crafted) -> None:
        for field, value in fields.items():
            crafted.type_of("model", key)[field] = value

    return change


def described(text: str | bytes, itemsize: int, key: str = "fields") -> Change:
    def change(crafted: Crafted) -> None:
        crafted.describe("model", key, text)
        crafted.type_of("model", key)["itemsize"] = itemsize
        crafted.reshape("model", key, (24 // itemsize,))  # its 24 bytes, where they are whole elements

    return change


def counts(**fields: int) -> Change:
    return lambda crafted: crafted.counts.update(fields)


def table(section: str, field: str, value: int, row: int = 0) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.sections[section][field][row] = value

    return change


def document(**members: Any) -> Change:
    """Change the JSON document; None removes a member."""

    def change(crafted: Crafted) -> None:
        merged = crafted.document | members
        crafted.document = {name: value for name, value in merged.items() if value is not None}

    return change


def spelled(text: str) -> Change:
    def change(crafted: Crafted) -> None:
        crafted.json = text.encode()

    return change


def metric(value: Any) -> Change:
    """Give the metrics one value beside the stored one."""

    def change(crafted: Crafted) -> None:
        crafted.document["values"][0][2][0] = ["loss", value]

    return change


def history(value: Any) -> Change:
    """Change the value that is a dataset."""

    def change(crafted: Crafted) -> None:
        crafted.document["values"][0][2][1] = ["history", value]

    return change


def config(value: Any) -> Change:
    return lambda crafted: crafted.document["values"][1].__setitem__(2, [["name", value]])


def footer(at: int, data: bytes) -> Change:
    return lambda crafted: crafted.footer.__setitem__(slice(at, at + len(data)), data)


def shaped(key: str, *shape: int, where: str = "model") -> Change:
    return lambda crafted: crafted.reshape(where, key, shape)


def stored(key: str, data: bytes) -> Change:
    """Write other array bytes, with their digest."""
    return lambda crafted: crafted.write_elements("model", key, data)


def both(*changes: Change) -> Change:
    def change(crafted: Crafted) -> None:
        for one in changes:
            one(crafted)

    return change


def twin_keys(crafted: Crafted) -> None:
    """Spell ``tied`` as ``text``, the name table right."""
    row, hashes = crafted.row("model", "tied"), crafted.sections["name_hash"]
    end = int(crafted.sections["key_end"][row])
    crafted.sections["pool"][end - 4 : end] = np.frombuffer(b"text", np.uint8)
    hashes[list(crafted.sections["name_row"]).index(row)] = name_hash(b"text")
    order = np.argsort(hashes, kind="stable")
    for name in ("name_hash", "name_row"):
        crafted.sections[name] = crafted.sections[name][order]


def twin_records(crafted: Crafted) -> None:
    rows = crafted.sections["records"]
    rows[1]["name_at"], rows[1]["name_bytes"] = rows[0]["name_at"], rows[0]["name_bytes"]


def overlapping_strings(crafted: Crafted) -> None:
    row = crafted.type_of("model", "w")
    row["dtype_at"], row["dtype_bytes"] = int(row["description_at"]) + 1, int(row["description_bytes"])


def appended(section: str) -> Change:
    return lambda crafted: crafted.sections.update(
        {section: np.resize(crafted.sections[section], (len(crafted.sections[section]) + 1,))}
    )


def reversed_names(crafted: Crafted) -> None:
    for name in ("name_hash", "name_row"):
        crafted.sections[name] = crafted.sections[name][::-1].copy()


def wrong_hash(crafted: Crafted) -> None:
    crafted.sections["name_hash"][-1:] += np.uint64(1)  # in numpy 1 a scalar would become a float


def empty_alias(crafted: Crafted) -> None:
    """Share what has no bytes."""
    one, two = crafted.row("model", "empty"), crafted.row("model", "tied")
    for name in ("offset", "nbytes", "type", "flags", "segment_at"):
        crafted.sections[name][two] = crafted.sections[name][one]
    crafted.reshape("model", "tied", (0, 3))
    crafted.sections["alias_of"][two] = one


def alias_of_alias(crafted: Crafted) -> None:
    one, two = crafted.row("model", "tied"), crafted.row("other", "w")
    for name in ("offset", "nbytes", "type", "flags", "segment_at"):
        crafted.sections[name][two] = crafted.sections[name][one]
    crafted.reshape("other", "w", (2,))
    crafted.sections["alias_of"][two] = one
    crafted.sections["digests"] = np.delete(crafted.sections["digests"], two - 2)
    crafted.sections["segment_at"][two + 1 :] -= np.uint64(1)


def value_alias(crafted: Crafted) -> None:
    """Make the stored value an alias of an array of equal bytes and type row."""
    one, two = crafted.row("model", "raw"), crafted.row("model", "history")
    last = len(crafted.sections["digests"]) - 1
    for name in ("offset", "nbytes", "type", "flags", "segment_at"):
        crafted.sections[name][two] = crafted.sections[name][one]
    crafted.reshape("model", "history", (2,))
    crafted.sections["alias_of"][two] = one
    crafted.sections["digests"] = crafted.sections["digests"][:last]


def swapped_places(crafted: Crafted) -> None:
    one, two = crafted.row("model", "w"), crafted.row("other", "w")
    at = crafted.sections["offset"]
    at[one], at[two] = int(at[two]), int(at[one])


def overlapping_rows(crafted: Crafted) -> None:
    crafted.sections["offset"][crafted.row("model", "fields")] -= 64


def padded_index(crafted: Crafted) -> None:
    crafted.index_tail = bytes(64)


def without_rows(crafted: Crafted) -> None:
    """Take all rows away, and let a record say that it has one."""
    for name in ("offset", "nbytes", "key_end", "dims_end", "segment_at", "name_hash", "dims", "digests",
                 "record", "type", "alias_of", "flags", "name_row"):  # fmt: skip
        crafted.sections[name] = crafted.sections[name][:0]
    crafted.sections["records"]["arrays"] = [1, 0, 0, 0]
    del crafted.document["values"]


def rowless(crafted: Crafted) -> None:
    """Take all rows away, and all values that are rows."""
    without_rows(crafted)
    crafted.sections["records"]["arrays"] = 0
    crafted.document["values"] = []


def metadata_from(start: int) -> Change:
    """Have the metadata begin elsewhere, its digest right."""

    def change(crafted: Crafted) -> None:
        rowless(crafted)
        nbytes = len(crafted.data) - start
        crafted.footer[40:56] = start.to_bytes(8, "little") + nbytes.to_bytes(8, "little")
        crafted.footer[136:152] = digest(bytes(crafted.data[start:]))

    return change


def emptied(key: str) -> Change:
    """Take the bytes of an array away."""

    def change(crafted: Crafted) -> None:
        row, sections = crafted.row("model", key), crafted.sections
        first = sections["segment_at"][row]
        sections["digests"] = np.delete(sections["digests"], int(first))
        sections["segment_at"][sections["segment_at"] > first] -= np.uint64(1)
        sections["nbytes"][row] = sections["offset"][row] = 0
        crafted.reshape("model", key, (0,))

    return change


def headed_data(crafted: Crafted) -> None:
    row = crafted.type_of("model", "raw")
    row["npy_header_at"], row["npy_header_bytes"] = crafted.add_text(b"a header")


def last_beyond(crafted: Crafted) -> None:
    """Have the last array lie where the metadata are."""
    crafted.sections["offset"][-1] = int.from_bytes(crafted.footer[40:48], "little")


def stored_attribute(crafted: Crafted) -> None:
    """Have an attribute be the bytes of an array."""
    document(attributes=[["model", [["raw", ["bytes", {"row": 5}]]]]])(crafted)
    both(shaped("raw", 9), shaped("tied", 9))(crafted)
    crafted.describe("model", "raw", "|u1")


def stored_as(name: str, data: bytes) -> Change:
    """Make a config of the stored value: 320 bytes as bools, under a name of its own."""

    def change(crafted: Crafted) -> None:
        crafted.sections["records"]["kind"][2] = 2
        crafted.describe("model", "history", "|b1")
        crafted.reshape("model", "history", (320,))
        crafted.write_elements("model", "history", data)
        crafted.document["values"][0][0] = "configs"
        crafted.document["values"][0][2][1][1][0] = name

    return change


def context(**fields: Any) -> Change:
    """Make a Context of the records; None removes a field."""
    whole = {
        "run_id": ["int", 1],
        "node_id": ["int", 2],
        "state": "recordset",
        "node_config": [],
        "run_config": [],
    }
    merged = {name: value for name, value in (whole | fields).items() if value is not None}
    return document(container="context", context=merged)


def nested(levels: int, inside: Any = ()) -> Any:
    """Return lists in lists, so many levels."""
    return [nested(levels - 1)] if levels > 1 else list(inside)


def nested_type(levels: int) -> str:
    """Return the description of a byte in so many structured types."""
    return "[('a', " * levels + "'|i1'" + ")]" * levels


def later(*changes: Change) -> Change:
    """Break a rule in an archive of a later minor version."""
    return both(footer(12, b"\1"), *changes)


def deep_structure(crafted: Crafted) -> None:
    described("[" * 500 + "]" * 500, 12)(crafted)


def unsettled_major(crafted: Crafted) -> None:
    """Everything but what stays in later versions is something else."""
    crafted.footer[16:232] = b"\xff" * 216
    crafted.footer[8] = 2


Crafting = tuple[str, str, str, Change, str, str, Place]


def case(name: str, title: str, proves: str, change: Change, error: str = "Hostile", when: str = "open",
         place: Place = None) -> Crafting:  # fmt: skip
    return name, title, proves, change, error, when, place
