"""Arrays read into private memory of their own, in parallel, every segment checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.engine.archive import select_rows
from archive.engine.check import run_parallel
from archive.engine.containers import Records, build_records
from archive.engine.payload import elements_of, npy_data
from archive.engine.reader import Reader
from archive.errors import HostileFileError
from archive.format.constants import FLAG_FORTRAN, KIND_ARRAYS, MODE_DATA, NO_ALIAS
from archive.format.digests import digest
from archive.format.elements import opaque_view
from archive.records import Array
from archive.records.payload import BytesPayload, NdarrayPayload, private_copy

__all__ = ["OwnedPayload", "load_records"]

NDArray = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], object]

RUN_BYTES = 16 << 20
"""Arrays that follow one another are read at once up to this size: 20,000 arrays of 4 KiB take 5
reads instead of 20,000."""
MERGE_GAP = 4096
"""Padding that is read along rather than skipped."""
OWN_FROM = 1 << 20
"""Arrays from this size have memory of their own; smaller ones share that of their run."""


class OwnedPayload(NdarrayPayload):
    """Memory that was read for the caller: `numpy` hands it out as it is, writable, without a copy.

    `torch` copies it all the same: tensors of a loaded record that are trained in place leave it alone.
    """

    __slots__ = ()

    def numpy(self, copy: bool = False) -> NDArray:
        """Return the memory itself, or a copy of it."""
        return super().numpy() if copy else self.array

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnedPayload:
        """Copy the memory: it may be written to, so that copies must not share it."""
        return OwnedPayload(private_copy(self.array))


def load_records(
    reader: Reader, keys: Iterable[str | tuple[str, str]] | None, progress: Progress | None
) -> Records:
    """Read all arrays, or those of ``keys``, and return the container that was saved.

    Raises
    ------
    DigestError
        Bytes do not match; nothing is returned.
    """
    index = reader.index
    in_arrays = index.record_rows["kind"][index.record] == KIND_ARRAYS
    rows = None if keys is None else np.array(select_rows(reader, keys), np.intp)
    wanted = np.flatnonzero(in_arrays) if rows is None else np.unique(rows)
    memory = _read(reader, wanted, progress)

    def make(rows: list[int]) -> list[Array]:
        return [_array(reader, row, memory) for row in rows]

    return build_records(reader, make, None if keys is None else set(wanted.tolist()))


@dataclass(slots=True)
class _Task:
    """One read, and the segments that it brings."""

    offset: int
    """File offset."""
    out: NDArray
    """Memory to fill."""
    segments: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(row, segment, first byte, end byte) within ``out``."""


def _read(reader: Reader, wanted: NDArray, progress: Progress | None) -> dict[int, NDArray]:
    """Return the stored bytes of rows, by row; tied rows share them."""
    index = reader.index
    targets = np.where(index.alias_of[wanted] == NO_ALIAS, wanted, index.alias_of[wanted])
    rows = np.unique(targets)
    rows = rows[index.stored_nbytes[rows] > 0]
    memory: dict[int, NDArray] = {}
    tasks = _tasks(reader, rows.tolist(), memory)
    total = sum(task.out.nbytes for task in tasks)
    done = 0

    def read(task: _Task) -> int:
        reader.source.read_into(task.offset, task.out)
        if reader.verify != "off":
            for row, segment, start, stop in task.segments:
                if digest(task.out[start:stop]) != index.segment_digests(row)[segment].tobytes():
                    raise reader.digest_error(row, segment)
        return task.out.nbytes

    for nbytes in run_parallel(read, tasks):
        done += nbytes
        if progress is not None:
            progress(done, total)
    for row, target in zip(wanted.tolist(), targets.tolist(), strict=True):
        memory[row] = memory.get(target, np.empty(0, np.uint8))
    return memory


def _tasks(reader: Reader, rows: list[int], memory: dict[int, NDArray]) -> list[_Task]:
    """Allocate memory for rows and decide who reads what into it."""
    index = reader.index
    size = index.segment_bytes
    offsets, sizes = index.offset.tolist(), index.stored_nbytes.tolist()
    tasks: list[_Task] = []
    run: list[int] = []

    def end_run() -> None:
        if run:
            begin = offsets[run[0]]
            buffer = np.empty(offsets[run[-1]] + sizes[run[-1]] - begin, np.uint8)
            task = _Task(begin, buffer)
            for row in run:
                at, nbytes = offsets[row] - begin, sizes[row]
                memory[row] = buffer[at : at + nbytes]
                task.segments += [
                    (row, number, at + low, at + min(low + size, nbytes))
                    for number, low in enumerate(range(0, nbytes, size))
                ]
            tasks.append(task)
            run.clear()

    for row in rows:
        nbytes = sizes[row]
        if nbytes >= OWN_FROM:
            out = memory[row] = np.empty(nbytes, np.uint8)
            for number, low in enumerate(range(0, nbytes, size)):
                part = out[low : low + size]
                tasks.append(_Task(offsets[row] + low, part, [(row, number, 0, len(part))]))
            continue
        if run and (
            offsets[row] - offsets[run[-1]] - sizes[run[-1]] > MERGE_GAP
            or offsets[row] + nbytes - offsets[run[0]] > RUN_BYTES
        ):
            end_run()
        run.append(row)
    end_run()
    return tasks


def _array(reader: Reader, row: int, memory: dict[int, NDArray]) -> Array:
    index = reader.index
    kind, shape = index.types[int(index.type[row])], index.shape(row)
    stored = memory[row]
    if kind.mode == MODE_DATA:
        return Array.from_payload(kind.dtype, shape, kind.stype, BytesPayload(stored.tobytes(), kind.dtype))
    elements = elements_of(kind, shape, stored)
    if int(index.flags[row]) & FLAG_FORTRAN:
        elements = np.asfortranarray(opaque_view(elements)).view(elements.dtype)
    if kind.npy_header:
        try:
            data = npy_data(kind, elements, bool(int(index.flags[row]) & FLAG_FORTRAN))
        except HostileFileError as error:
            error.path = reader.path
            raise
        return Array.from_payload(kind.dtype, shape, kind.stype, BytesPayload(data, kind.dtype))
    return Array.from_payload(kind.dtype, shape, kind.stype, OwnedPayload(elements))
