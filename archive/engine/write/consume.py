"""Saves that consume their input: what was written is noted in a journal, then taken from the caller.

Nothing is taken before its bytes and its journal entry are written, so that at every moment each
array is in the caller's hands or in the partial file ([M] P7 of the fault plan).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archive.engine.attributes import EncodedValue, encode_context, encode_record
from archive.engine.storagespec import StorageSpec, stored_spec
from archive.engine.write.plan import Preamble
from archive.engine.write.schema import Rows
from archive.errors import DamagedError
from archive.format.constants import CONTEXT_NUMBERS, DIGEST_BYTES, KIND_ARRAYS, NO_ALIAS
from archive.format.elements import ArrayType
from archive.format.index import RecordName
from archive.format.values import decode_value
from archive.storage.local.journal import Journal

__all__ = ["Consumption", "JournalEntry", "read_entries"]

Take = Callable[[int], object]
"""Takes a row from the caller."""


class Consumption:
    """The journal of one save, and the taking of what it lists.

    Parameters
    ----------
    journal : Journal
    rows : Rows
        Rows that are being written.
    names : list of RecordName
        Records by number; may still grow.
    take : callable
        Takes a row from the caller.
    gc_threshold : int
        Bytes taken between two garbage collections.
    """

    def __init__(
        self, journal: Journal, rows: Rows, names: list[RecordName], take: Take, gc_threshold: int
    ) -> None:
        self._journal = journal
        self._rows = rows
        self._names = names
        self._take = take
        self._gc_threshold = gc_threshold
        self._since_collection = 0
        self._segments = 0

    def begin(self, preamble: Preamble, values: Mapping[RecordName, list[EncodedValue]]) -> None:
        """Note what is known before the first array: metrics, configs, attributes of array records."""
        listed = [
            [name.kind, name.name, [[value.key, value.spell()] for value in found]]
            for name, found in values.items()
        ]
        self._append([{"head": preamble.document(), "values": listed}])

    def on_written(self, rows: list[int], digests: list[bytes]) -> None:
        """Note rows whose bytes are written, then take them from the caller.

        Not those of metrics and configs, which come last: these are in the first line, and stay the caller's.
        """
        rows = [row for row in rows if self._names[self._rows.record[row]].kind == KIND_ARRAYS]
        if not rows:
            return
        self._append([self._entry(row, digests) for row in rows])
        for row in rows:
            self._take(row)
            self._since_collection += self._rows.specs[self._rows.spec[row]].nbytes
            # Counted by array: the arrays of one batch may have several times the threshold.
            if self._since_collection > self._gc_threshold:
                gc.collect()
                self._since_collection = 0

    def _entry(self, row: int, digests: list[bytes]) -> dict[str, Any]:
        rows = self._rows
        spec, kind = rows.specs[rows.spec[row]], rows.specs[rows.spec[row]].type
        entry: dict[str, Any] = {
            "record": self._names[rows.record[row]].name,
            "key": rows.keys[row],
            "dtype": kind.dtype,
            "stype": kind.stype,
            "description": kind.description,
            "mode": kind.mode,
            "itemsize": kind.itemsize,
            "npy_header": kind.npy_header.hex(),
            "shape": list(spec.shape),
            "flags": spec.flags,
            "nbytes": spec.nbytes,
        }
        if rows.alias[row] != NO_ALIAS:
            return entry | {"alias_of": rows.alias[row]}
        count = spec.segments
        found = digests[self._segments : self._segments + count]
        self._segments += count
        return entry | {"digests": b"".join(found).hex()}

    def _append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._journal.append([json.dumps(entry, ensure_ascii=True).encode() for entry in entries])


class JournalEntry:
    """One array that arrived in a partial file."""

    __slots__ = ("alias_of", "digests", "key", "record", "spec")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        kind = ArrayType(
            fields["dtype"],
            fields["stype"],
            fields["description"],
            fields["mode"],
            fields["itemsize"],
            bytes.fromhex(fields["npy_header"]),
        )
        self.record: str = fields["record"]
        self.key: str = fields["key"]
        self.spec: StorageSpec = stored_spec(kind, tuple(fields["shape"]), fields["flags"], fields["nbytes"])
        self.alias_of: int = fields.get("alias_of", NO_ALIAS)
        found = bytes.fromhex(fields.get("digests", ""))
        self.digests: list[bytes] = [
            found[at : at + DIGEST_BYTES] for at in range(0, len(found), DIGEST_BYTES)
        ]


def read_entries(
    payloads: Sequence[bytes], path: str
) -> tuple[Preamble, dict[RecordName, list[EncodedValue]], list[JournalEntry]]:
    """Return what `Consumption.begin` noted, and the arrays that arrived.

    Raises
    ------
    DamagedError
        No save of ours wrote this journal.
    """
    try:
        head, *arrays = [json.loads(payload) for payload in payloads]
        names = [RecordName(kind, name) for kind, name, _ in head["values"]]
        found = [_decoded(entries) for _, _, entries in head["values"]]
        values = {name: encode_record(name, record) for name, record in zip(names, found, strict=True)}
        return _preamble(head["head"]), values, [JournalEntry(fields) for fields in arrays]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DamagedError("the journal of the partial file cannot be read", path=path) from error


def _preamble(members: Mapping[str, Any]) -> Preamble:
    context = members.get("context")
    if context is None:
        return Preamble(members["container"], members["created"])
    fields = {field: _decoded(context[field]) for field in ("node_config", "run_config")}
    numbers = _decoded([[field, context[field]] for field in CONTEXT_NUMBERS if field in context])
    encoded = encode_context({"series_id": 0} | numbers | fields | {"state": context["state"]})
    return Preamble(members["container"], members["created"], encoded)


def _decoded(entries: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {key: decode_value(encoded) for key, encoded in entries}
