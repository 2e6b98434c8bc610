"""Archives whose arrays arrive one by one: placed as they come, the index made when all are there.

The bytes are those of a planned save of the same arrays: both place by the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.attributes import EncodedValue
from archive.engine.progress import Report
from archive.engine.storagespec import StorageSpec
from archive.engine.write.consume import Consumption, JournalEntry
from archive.engine.write.finiteness import FinitenessCheck
from archive.engine.write.inputs import Source
from archive.engine.write.plan import Plan, Preamble, place
from archive.engine.write.schema import Rows
from archive.engine.write.stretches import neighbours_of, requirement_of, stretch_of
from archive.engine.write.writer import ArrayStream, stored_buffer, write_head, write_tail
from archive.errors import DamagedError
from archive.format.constants import DATA_AT, KIND_ARRAYS, NO_ALIAS
from archive.format.footer import Footer
from archive.format.index import RecordName
from archive.format.layout import place_next
from archive.format.names import escape_name, link_name, name_error
from archive.storage.protocols import Sink

__all__ = ["ArchiveStream"]


RESERVE_AHEAD = 64 << 20
TAIL_PER_ARRAY = 2048
"""Bytes of metadata and index kept free for every array, so that what arrived can always be indexed."""
TAIL_BASE = 1 << 20


class ArchiveStream:
    """An archive in the making.

    Parameters
    ----------
    sink : Sink
    preamble : Preamble
        What the archive says of itself as a whole.
    progress : callable, optional
        Called with (bytes written, the same).
    check : FinitenessCheck, optional
        Looks at what is written.
    """

    def __init__(
        self,
        sink: Sink,
        preamble: Preamble,
        progress: Report | None = None,
        check: FinitenessCheck | None = None,
    ) -> None:
        self.rows: Rows = Rows()
        self.names: list[RecordName] = []
        self.consumption: Consumption | None = None
        """Where rows that are written are noted and taken from the caller."""
        self._sink = sink
        self._preamble = preamble
        self._numbers: dict[str, int] = {}
        self._seen: dict[tuple[int, str], int] = {}  # row by record and key
        self._position = DATA_AT
        self._reserved = 0
        self._ahead = RESERVE_AHEAD
        if check is not None:
            check.begin(self.rows, self.names)
        self._arrays = ArrayStream(sink, progress=progress, on_written=self._on_written, check=check)
        self._arrays.seek(DATA_AT)  # the head comes last

    def resume(self, entries: Iterable[JournalEntry], path: str) -> None:
        """Take up arrays that a partial file already holds."""
        for entry in entries:
            if entry.alias_of != NO_ALIAS and not 0 <= entry.alias_of < len(self.rows.keys):
                raise DamagedError("the journal of the partial file contradicts itself", path=path)
            if len(entry.digests) != (entry.spec.segments if entry.alias_of == NO_ALIAS else 0):
                raise DamagedError("the journal of the partial file contradicts itself", path=path)
            row = self._append(entry.record, entry.key, entry.spec)
            self.rows.alias[row] = entry.alias_of
            if entry.alias_of == NO_ALIAS:
                _, self._position = place_next(self._position, entry.spec.nbytes)
                self._arrays.digests += entry.digests
        self._arrays.seek(self._position)

    def add(self, record: str, key: str, spec: StorageSpec, source: Source) -> None:
        """Write an array; when this returns its memory may be changed.

        Arrays that share their bytes in another archive, which does not change, share them here.
        """
        identity = None if isinstance(source, np.ndarray) else source.identity
        row = self._append(record, key, spec, identity)
        if spec.nbytes and self.rows.alias[row] == NO_ALIAS:
            self._put(row, spec, source)
        else:
            self._arrays.note(row)
        if self.consumption is not None:  # it is listed before the next array is asked for
            self._arrays.flush()

    def _put(self, row: int, spec: StorageSpec, source: Source) -> None:
        """Write the bytes of a row."""
        offset, stored = self._take_room(spec), not isinstance(source, np.ndarray)
        cut = stretch_of(source) if stored and spec.nbytes > tuning.PIECE_BYTES else None
        if cut is not None:
            self._arrays.put_stretches(row, offset, spec.nbytes, cut)
            return
        buffer = stored_buffer(spec, source, row, self._name)
        self._arrays.put(row, offset, buffer, spec.nbytes)
        require = requirement_of(neighbours_of([source]), [spec]) if stored else None
        if require is not None:
            require(self._arrays.digests[-spec.segments :])

    def _name(self, row: int) -> tuple[str, str]:
        return self.names[self.rows.record[row]].name, self.rows.keys[row]

    def add_pieces(
        self, record: str, key: str, spec: StorageSpec, pieces: Iterable[NDArray], identity: object = None
    ) -> None:
        """Write an array whose bytes (uint8) come in pieces; each may change when the next is asked for.

        Arrays of one storage spec and one identity share their bytes: the pieces of the first are written.
        """
        row = self._append(record, key, spec, identity)
        if self.rows.alias[row] != NO_ALIAS:
            self._arrays.note(row)
            return
        if not spec.nbytes:
            for _ in pieces:  # the caller's checks are in the iterator
                pass
            self._arrays.note(row)
            return
        offset = self._take_room(spec)
        self._arrays.put_pieces(row, offset, pieces, spec.nbytes)

    def tie(self, record: str, key: str, to: tuple[str, str]) -> None:
        """Give an array that was written another name; KeyError where there is none."""
        number = self._numbers.get(to[0], -1)
        target = self._seen.get((number, to[1]))
        if target is None:
            raise KeyError(f"no array {to!r} was added yet")
        rows = self.rows
        row = self._append(record, key, rows.specs[rows.spec[target]])
        if rows.specs[rows.spec[target]].nbytes:
            rows.alias[row] = target if rows.alias[target] == NO_ALIAS else rows.alias[target]
        self._arrays.note(row)

    def add_record(self, name: str) -> int:
        """Return the number of an array record, new or known."""
        number = self._numbers.get(name)
        if number is None:
            link_name(name)
            number = self._numbers[name] = len(self.names)
            self.names.append(RecordName(KIND_ARRAYS, name))
        return number

    def finish(self, values: Mapping[RecordName, list[EncodedValue]]) -> tuple[Plan, Footer]:
        """Write metrics, configs, attributes of array records, metadata, index, values and footer."""
        arrays = len(self.rows.keys)
        encoded = {}
        for name in sorted(values, key=lambda name: name.kind != KIND_ARRAYS):
            number = self.add_record(name.name) if name.kind == KIND_ARRAYS else len(self.names)
            if number == len(self.names):
                self.names.append(name)
            encoded[number] = values[name]
        plan = place(self.rows, self.names, encoded, self._preamble)
        self._sink.reserve(plan.file_bytes)
        self._arrays.flush()
        self.consumption, consumption = None, self.consumption
        for row in range(arrays, len(self.rows.keys)):
            spec = plan.spec(row)
            if spec.nbytes:
                buffer = stored_buffer(spec, plan.table.sources[row], row, plan.name)
                self._arrays.put(row, int(plan.schema.offset[row]), buffer, spec.nbytes)
        self._arrays.flush(plan.schema.data_end)
        footer = write_tail(plan, self._arrays)
        write_head(plan, self._arrays)
        self._arrays.flush()
        self._sink.truncate(plan.file_bytes)
        self.consumption = consumption
        return plan, footer

    def require_new(self, record: str, key: str) -> None:
        """Raise unless a key is a str and new in its record."""
        for text in (record, key):
            if not isinstance(text, str):
                raise TypeError(f"record and key are str, not {type(text).__name__}")
        try:
            escape_name(key)
        except ValueError as error:
            raise name_error(error, record, key) from error
        number = self._numbers.get(record)
        if number is None:
            link_name(record)
        elif (number, key) in self._seen:
            raise ValueError(f"record {record!r}: two arrays with the key {key!r}")

    def _append(self, record: str, key: str, spec: StorageSpec, identity: object = None) -> int:
        number = self.add_record(record)
        row = self._seen[number, key] = self.rows.append(number, key, spec, None, identity)
        return row

    def _take_room(self, spec: StorageSpec) -> int:
        offset, end = place_next(self._position, spec.nbytes)
        needed = end + TAIL_BASE + TAIL_PER_ARRAY * len(self.rows.keys)
        if needed > self._reserved:
            # found full here, nothing of this array is written and what arrived can still be indexed
            self._sink.reserve(needed)
            self._reserved = needed
            ahead = min(self._ahead, needed)  # of a small archive, 64 MiB took longer than all else
            if ahead and self._sink.reserve_if_possible(needed + ahead):
                self._reserved += ahead
            else:
                self._ahead = 0  # from now on no more than each array needs
        self._position = end
        return offset

    def _on_written(self, rows: list[int], digests: list[bytes]) -> None:
        if self.consumption is not None:
            self.consumption.on_written(rows, digests)
