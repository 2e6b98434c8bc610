"""Reads arrays into private memory, in parallel, and checks every segment."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.progress import Report
from archive.engine.read.containers import Records, build_records
from archive.engine.read.fill import Fill, cut_fill, run_fills
from archive.engine.read.handle import select_rows
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import elements_of
from archive.format.constants import (
    FLAG_FORTRAN,
    KIND_ARRAYS,
    MAX_SEGMENT_BYTES,
    MODE_DATA,
    MODE_ELEMENTS,
    NO_ALIAS,
    STATE_RECORD,
)
from archive.format.elements import NUMPY_MAX_RANK, ArrayType, column_major, stored_dtype
from archive.format.segments import segments_of_rows
from archive.records import Array
from archive.records.payload import BytesPayload, NdarrayPayload, Payload, private_copy

__all__ = ["OwnedPayload", "load_records"]

Place = tuple[NDArray, int]
"""Memory, and where in it an array begins."""


class OwnedPayload(NdarrayPayload):
    """Memory that was read for the caller: `numpy` hands it out, writable, without a copy.

    `torch` copies it: training a tensor in place must not change the loaded record.
    """

    __slots__ = ()

    def numpy(self, copy: bool = False) -> NDArray:
        """Return the memory itself, or a copy of it."""
        return super().numpy() if copy else self.array

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnedPayload:
        """Copy the memory: it is writable, so copies must not share it."""
        return OwnedPayload(private_copy(self.array), self.given_header)


def load_records(
    reader: Reader, keys: str | Iterable[str | tuple[str, str]] | None, progress: Report | None
) -> Records:
    """Read all arrays, or those of keys or of a pattern, and return the container that was saved.

    Raises
    ------
    DigestError
        Bytes do not match; nothing is returned.
    """
    reader.require_open()
    index = reader.index
    in_arrays = index.record_rows["kind"][index.record] == KIND_ARRAYS
    rows = None if keys is None else np.array(select_rows(reader, keys), np.intp)
    wanted = np.flatnonzero(in_arrays) if rows is None else np.unique(rows)
    memory = _read(reader, wanted, progress)

    # tied rows share one payload: text, data and column-major elements are copies of the bytes read
    payloads: dict[int, Payload] = {}

    def make(rows: list[int]) -> list[Array]:
        return _arrays(reader, rows, memory, payloads)

    records = build_records(reader, make, None if keys is None else set(wanted.tolist()))
    if len(wanted) < int(in_arrays.sum()):
        # the tree of a saved state names arrays that are not there
        records.config_records.pop(STATE_RECORD, None)
    return records


def _read(reader: Reader, wanted: NDArray, progress: Report | None) -> dict[int, Place]:
    """Return the memory of the stored bytes of rows; tied rows have that of one of them."""
    index = reader.index
    alias_of = index.alias_of[wanted]
    tied = alias_of != NO_ALIAS
    targets = np.where(tied, alias_of, wanted) if tied.any() else wanted
    rows = wanted if targets is wanted else np.unique(targets)
    rows = rows[index.stored_nbytes[rows] > 0]
    memory: dict[int, Place] = {}
    tasks = _tasks(reader, rows, memory)
    total = sum(task.out.nbytes for task in tasks)
    done = 0
    for nbytes in run_fills(reader, tasks):
        done += nbytes
        if progress is not None:
            progress(done, total)
    return memory


def _tasks(reader: Reader, rows: NDArray, memory: dict[int, Place]) -> list[Fill]:
    """Allocate memory for rows and decide who reads what into it, in file order."""
    index = reader.index
    # a request ends with the read that makes it 16 MiB long, so reads must be short
    run_bytes = MAX_SEGMENT_BYTES if reader.network else tuning.RUN_BYTES
    begins, nbytes = index.offset[rows].astype(np.int64), index.stored_nbytes[rows].astype(np.int64)
    ends = begins + nbytes
    large = nbytes >= tuning.OWN_BYTES
    apart = begins[1:] - ends[:-1] > tuning.GAP_BYTES
    breaks = np.flatnonzero(apart | large[1:] | large[:-1]) + 1
    tasks: list[Fill] = []
    first, n = 0, len(rows)
    while first < n:
        begin = int(begins[first])
        found = int(np.searchsorted(breaks, first, "right"))
        last = int(breaks[found]) if found < len(breaks) else n
        last = min(last, max(first + 1, int(np.searchsorted(ends, begin + run_bytes, "right"))))
        out = np.empty(int(ends[last - 1]) - begin, np.uint8)
        run = rows[first:last]
        places = zip(repeat(out, len(run)), (begins[first:last] - begin).tolist(), strict=True)
        memory.update(zip(run.tolist(), places, strict=True))
        segments = segments_of_rows(index, run)
        if large[first]:
            tasks += cut_fill(Fill(begin, out, segments))
        else:
            tasks.append(Fill(begin, out, segments))
        first = last
    return tasks


def _arrays(
    reader: Reader, rows: list[int], memory: dict[int, Place], payloads: dict[int, Payload]
) -> list[Array]:
    index = reader.index
    types, type_of, flags, alias_of = (
        index.types,
        index.type.tolist(),
        index.flags.tolist(),
        index.alias_of.tolist(),
    )
    shapes = index.shapes() if len(rows) > 1 else {row: index.shape(row) for row in rows}
    plain = [kind.mode == MODE_ELEMENTS and not kind.npy_header for kind in types]
    dtypes = [stored_dtype(kind) for kind in types]
    made = []
    for row in rows:
        number, shape = type_of[row], shapes[row]
        kind, owner = types[number], row if alias_of[row] == NO_ALIAS else alias_of[row]
        payload = payloads.get(owner)
        if payload is None:
            place = memory.get(owner)
            if plain[number] and place is not None and not flags[row] and len(shape) <= NUMPY_MAX_RANK:
                payload = OwnedPayload(np.ndarray(shape, dtypes[number], *place))
            else:
                payload = _payload(reader, row, kind, shape, _stored(reader, row, place))
            payloads[owner] = payload
        made.append(Array.from_payload(kind.dtype, shape, kind.stype, payload))
    return made


def _stored(reader: Reader, row: int, place: Place | None) -> NDArray:
    if place is None:
        return np.empty(0, np.uint8)
    out, at = place
    return out[at : at + int(reader.index.stored_nbytes[row])]


def _payload(reader: Reader, row: int, kind: ArrayType, shape: tuple[int, ...], stored: NDArray) -> Payload:
    index = reader.index
    if kind.mode == MODE_DATA:
        return BytesPayload(stored.tobytes(), kind.dtype)
    if len(shape) > NUMPY_MAX_RANK:
        raise reader.too_many_axes(row)
    fortran = bool(int(index.flags[row]) & FLAG_FORTRAN)
    try:
        elements = elements_of(kind, shape, stored)
        if fortran:
            elements = column_major(elements)
    except ValueError as error:
        raise reader.invalid(row, error) from error
    return OwnedPayload(elements, kind.npy_header)
