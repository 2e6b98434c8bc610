"""Facts about many files of a run as columns; pure. A row has the facts exactly as its file has them.

Values are of any type, in any order, under any names. So each row names its *schema*, the list of its names
in their order, and the values of all rows stand one after the other: numbers as they are, anything else as
the JSON that a values section has for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from archive.checkpoints.curve import CURVE
from archive.checkpoints.paths import RESUME
from archive.dtypes import NDArray
from archive.format.constants import DIGEST_BYTES
from archive.format.document import parse_json
from archive.format.values import (
    INT64_MAX,
    INT64_MIN,
    decode_value,
    encode_value,
    validate_value,
)
from archive.tools.archivefacts import Facts
from archive.tools.columns import Name, Row
from archive.tools.spelling import CHECKPOINT

__all__ = ["ARRAYS", "COLUMNS", "FileTable", "KnownFile", "TableRow", "make_table", "proof_of", "schema_of"]

PROOF_BYTES = 16
INT, FLOAT, BOOL, TEXT = range(4)
"""Kinds of values: integers of 64 bits, floats, bools, and the numbers of texts that have the JSON."""
_LEFT_OUT = frozenset({("configs", CHECKPOINT), ("configs", CURVE), ("configs", RESUME)})
_KEPT = ("configs", CURVE, "length")
"""The one value of the store's own records that a history asks for."""

COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "round": ("<i8", ()),
    "name": ("<i4", ()),
    "write": ("<i4", ()),
    "digest": ("|u1", (DIGEST_BYTES,)),
    "known": ("|b1", ()),
    "proof": ("|u1", (PROOF_BYTES,)),
    "nbytes": ("<i8", ()),
    "tail": ("<i8", ()),
    "arrays": ("<i8", ()),
    "created": ("<i4", ()),
    "schema": ("<i4", ()),
}
"""Type of each column, and shape of a row of it. Names, writes, times and schemas are numbers of texts."""
ARRAYS = (*COLUMNS, "kinds", "values", "texts", "ends")
"""Names of all arrays of a table."""
TEXT_COLUMNS = ("name", "write", "created", "schema")
FLAT: dict[str, str] = {"kinds": "|u1", "values": "<i8", "texts": "|u1", "ends": "<i8"}
"""Arrays that have no row a file: kinds and values one by one, the bytes of all texts, and their ends."""

Columns: TypeAlias = dict[str, NDArray]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What was read of a file, and what proves that it is the same still."""

    facts: Facts
    """With the number of its arrays in any case."""
    tail_bytes: int
    """Bytes from its index on: they decide whether `read_facts` counts the arrays of a remote file."""
    tag: str
    """`Source.tag` as it was read; empty where nothing would tell another version."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A file, and what is known of it."""

    round: int
    """Number of its round."""
    spelled: str
    """Name of its client, as `spell` has it; empty for the file of the round."""
    write: str
    """As that of a `ClientFile`."""
    digest: str
    """Digest that it has, or that its round says it has."""
    known: KnownFile | None
    """None where it could not be read, or may change without anything that tells."""


def proof_of(nbytes: int, tag: str) -> bytes:
    """Return what a table keeps of length and tag of a file; empty where there is no tag."""
    if not tag:
        return b""
    return hashlib.blake2b(f"{nbytes} {tag}".encode(), digest_size=PROOF_BYTES).digest()


@dataclass(frozen=True)
class FileTable:
    """Files of a run and what is known of them, in columns."""

    columns: Columns
    """`COLUMNS` by name, and ``kinds`` and ``values``."""
    texts: tuple[str, ...]
    """Each once."""

    def __len__(self) -> int:
        return len(self.columns["round"])

    def arrays(self) -> Columns:
        """Return the arrays that `archive.checkpoints.tablecheck.parse_table` takes."""
        encoded = [text.encode() for text in self.texts]
        return self.columns | {
            "texts": np.frombuffer(b"".join(encoded), np.uint8),
            "ends": np.cumsum([len(text) for text in encoded], dtype="<i8"),
        }

    def proofs(self) -> list[bytes]:
        """Return what proves each row: `proof_of` its file; empty where nothing is known."""
        joined = self.columns["proof"].tobytes()
        found = (joined[at : at + PROOF_BYTES] for at in range(0, len(joined), PROOF_BYTES))
        known = self.columns["known"].tolist()
        return [proof if there else b"" for proof, there in zip(found, known, strict=True)]

    def digests(self) -> list[str]:
        """Return the digest of each row."""
        text = self.columns["digest"].tobytes().hex()
        return [text[at : at + 2 * DIGEST_BYTES] for at in range(0, len(text), 2 * DIGEST_BYTES)]

    def facts(self, *, count_all: bool, most_tail: int) -> list[Facts]:
        """Return the facts of each row; those of a row that is not known mean nothing.

        Parameters
        ----------
        count_all : bool
            Say the number of arrays of every file.
        most_tail : int
            Else of those whose index and what is after it have at most so many bytes.
        """
        columns, values, at = self.columns, self._values(), 0
        schemas = {number: schema_of(self.texts[number]) for number in set(columns["schema"].tolist())}
        told = np.ones(len(self), bool) if count_all else columns["tail"] <= most_tail
        rows = zip(
            *(columns[name].tolist() for name in ("schema", "created", "nbytes", "arrays")),
            told.tolist(),
            self.digests(),
            strict=True,
        )
        found = []
        for schema, created, nbytes, arrays, counted, digest in rows:
            names = schemas[schema]
            row: Row = dict(zip(names, values[at : at + len(names)], strict=True))
            at += len(names)
            found.append(Facts(row, self.texts[created], nbytes, arrays if counted else None, digest))
        return found

    def select(self, keep: NDArray) -> FileTable:
        """Return the rows of a mask, with the texts of these alone."""
        names = self._lengths()
        flat = np.repeat(keep, names)
        columns = {name: self.columns[name][keep] for name in COLUMNS}
        columns |= {name: self.columns[name][flat] for name in ("kinds", "values")}
        texts = columns["kinds"] == TEXT
        numbers = [*(columns[name] for name in TEXT_COLUMNS), columns["values"][texts]]
        used = np.unique(np.concatenate(numbers)).astype(np.int64)
        places = np.zeros(len(self.texts), np.int64)
        places[used] = np.arange(len(used))
        return _renumbered(columns, places, tuple(self.texts[number] for number in used.tolist()))

    def join(self, other: FileTable) -> FileTable:
        """Return these rows and then those of another table."""
        numbers = {text: number for number, text in enumerate(self.texts)}
        places = np.array([numbers.setdefault(text, len(numbers)) for text in other.texts], np.int64)
        theirs = _renumbered(other.columns, places, ()).columns
        joined = {name: np.concatenate([mine, theirs[name]]) for name, mine in self.columns.items()}
        return FileTable(joined, tuple(numbers))

    def ordered(self) -> FileTable:
        """Return the rows by number of round; those of one round stay in their order."""
        order = np.argsort(self.columns["round"], kind="stable")
        if (order[1:] > order[:-1]).all():
            return self
        lengths = self._lengths()
        starts = np.cumsum(lengths) - lengths
        shifts = np.repeat(starts[order] - (np.cumsum(lengths[order]) - lengths[order]), lengths[order])
        flat = np.arange(len(shifts)) + shifts
        columns = {name: self.columns[name][order] for name in COLUMNS}
        return FileTable(
            columns | {name: self.columns[name][flat] for name in ("kinds", "values")}, self.texts
        )

    def _lengths(self) -> NDArray:
        """Return how many values each row has."""
        schemas, places = np.unique(self.columns["schema"], return_inverse=True)
        lengths = np.array([len(schema_of(self.texts[number])) for number in schemas.tolist()], np.int64)
        return lengths[places]

    def _values(self) -> list[Any]:
        """Return all values, as Python has them."""
        kinds, numbers = self.columns["kinds"], self.columns["values"]
        values: list[Any] = numbers.view("<f8").tolist()
        for kind in (INT, BOOL):
            places = np.flatnonzero(kinds == kind)
            made: Iterable[Any] = numbers[places].tolist()
            for place, value in zip(places.tolist(), made if kind == INT else map(bool, made), strict=True):
                values[place] = value
        texts: dict[int, Any] = {}
        for place in np.flatnonzero(kinds == TEXT).tolist():
            number = int(numbers[place])
            if number not in texts:
                texts[number] = decode_value(parse_json(self.texts[number].encode()))
            value = texts[number]
            values[place] = list(value) if isinstance(value, list) else value
        return values


def make_table(rows: Sequence[TableRow]) -> FileTable:
    """Return rows as a table."""
    texts: dict[str, int] = {}

    def number_of(text: str) -> int:
        return texts.setdefault(text, len(texts))

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    values: list[tuple[int, int]] = []
    nothing = KnownFile(Facts({}, "", 0, 0, ""), 0, "")
    for row in rows:
        known = row.known or nothing
        kept = {name: value for name, value in known.facts.row.items() if _is_kept(name)}
        values += [_encode(value, number_of) for value in kept.values()]
        fields = {
            "round": row.round,
            "name": number_of(row.spelled),
            "write": number_of(row.write),
            "digest": list(bytes.fromhex(row.digest)),
            "known": row.known is not None,
            "proof": list(proof_of(known.facts.file_bytes or 0, known.tag) or bytes(PROOF_BYTES)),
            "nbytes": known.facts.file_bytes or 0,
            "tail": known.tail_bytes,
            "arrays": known.facts.arrays or 0,
            "created": number_of(known.facts.created),
            "schema": number_of(json.dumps(list(kept), ensure_ascii=False)),
        }
        for name, field in fields.items():
            columns[name].append(field)
    made = {
        name: np.array(columns[name], dtype).reshape(-1, *shape) for name, (dtype, shape) in COLUMNS.items()
    }
    made["kinds"] = np.array([kind for kind, _ in values], "|u1")
    made["values"] = np.array([value for _, value in values], "<i8")
    return FileTable(made, tuple(texts))


def schema_of(text: str) -> tuple[Name, ...]:
    """Return the names of a row's values.

    Raises
    ------
    ValueError, TypeError
        The text spells no names.
    """
    found = parse_json(text.encode())
    names = tuple(tuple(name) for name in found)
    for name in names:
        kind, record, key = name
        if kind not in ("metrics", "configs") or not isinstance(record, str) or not isinstance(key, str):
            raise ValueError("an invalid name of a value")
    if len(set(names)) != len(names):
        raise ValueError("two values of one name")
    return names


def _renumbered(columns: Columns, places: NDArray, texts: tuple[str, ...]) -> FileTable:
    """Return columns whose numbers of texts are others: ``places`` has the new number of each."""
    made = dict(columns)
    for name in TEXT_COLUMNS:
        made[name] = places[columns[name]].astype("<i4")
    is_text = columns["kinds"] == TEXT
    made["values"] = columns["values"].copy()
    made["values"][is_text] = places[columns["values"][is_text]]
    return FileTable(made, texts)


def _encode(value: Any, number_of: Any) -> tuple[int, int]:
    """Return kind and number of a value."""
    if type(value) is bool:
        return BOOL, int(value)
    if type(value) is float:
        return FLOAT, int(np.float64(value).view(np.int64))
    if type(value) is int and INT64_MIN <= value <= INT64_MAX:
        return INT, value
    text = json.dumps(encode_value(value, validate_value(value, metric=False)), ensure_ascii=False)
    return TEXT, number_of(text)


def _is_kept(name: Name) -> bool:
    return name == _KEPT or name[:2] not in _LEFT_OUT
