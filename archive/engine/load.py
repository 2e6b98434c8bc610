"""Arrays read into private memory of their own, in parallel, every segment checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archive.engine.archive import select_rows
from archive.engine.check import run_parallel
from archive.engine.containers import Records, build_records
from archive.engine.payload import elements_of, npy_data
from archive.engine.reader import Reader, Segment
from archive.errors import HostileFileError
from archive.format.constants import FLAG_FORTRAN, KIND_ARRAYS, MODE_DATA, NO_ALIAS
from archive.format.elements import ArrayType, column_major
from archive.records import Array
from archive.records.payload import BytesPayload, NdarrayPayload, Payload, private_copy
from archive.storage.ranges import GAP_BYTES, Piece, Request, plan_requests

__all__ = ["OwnedPayload", "load_records"]

NDArray = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[int, int], object]

RUN_BYTES = 16 << 20
"""Arrays that follow one another are read at once up to this size: 20,000 arrays of 4 KiB take 5
reads instead of 20,000."""
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

    # one for all rows that are tied: text, data and column-major elements are copies of what was read
    payloads: dict[int, Payload] = {}

    def make(rows: list[int]) -> list[Array]:
        return [_array(reader, row, memory, payloads) for row in rows]

    return build_records(reader, make, None if keys is None else set(wanted.tolist()))


@dataclass(slots=True)
class _Task:
    """One read, and the segments that it brings."""

    offset: int
    """File offset."""
    out: NDArray
    """Memory to fill."""
    segments: list[Piece[Segment]] = field(default_factory=list)
    """Where they are in the file."""


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
    for nbytes in _run(reader, tasks):
        done += nbytes
        if progress is not None:
            progress(done, total)
    for row, target in zip(wanted.tolist(), targets.tolist(), strict=True):
        memory[row] = memory.get(target, np.empty(0, np.uint8))
    return memory


def _run(reader: Reader, tasks: list[_Task]) -> Iterator[int]:
    """Carry out reads in parallel, and yield how many bytes each brought."""

    def read(task: _Task) -> int:
        reader.source.read_into(task.offset, task.out)
        if reader.verify != "off":
            for row, segment in reader.failed(task.out, task.offset, task.segments):
                raise reader.digest_error(row, segment)
        return task.out.nbytes

    def fetch(request: Request[_Task]) -> int:
        # checked where it came to, then copied to where it belongs: what a failed check refuses is never seen
        segments = [segment for _, _, task in request.pieces for segment in task.segments]
        data = reader.fetch(Request(request.start, request.stop, segments))
        for offset, nbytes, task in request.pieces:
            task.out[:] = data[offset - request.start : offset - request.start + nbytes]
        return sum(nbytes for _, nbytes, _ in request.pieces)

    if not reader.remote:
        return run_parallel(read, tasks)
    requests = plan_requests((task.offset, len(task.out), task) for task in tasks)
    return run_parallel(fetch, requests, network=reader.network)


def _tasks(reader: Reader, rows: list[int], memory: dict[int, NDArray]) -> list[_Task]:
    """Allocate memory for rows and decide who reads what into it."""
    index = reader.index
    size = index.segment_bytes
    # a request ends with the read that makes it 16 MiB long: none may add much to it
    run_bytes = size if reader.remote else RUN_BYTES
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
                    (begin + at + low, min(size, nbytes - low), (row, number))
                    for number, low in enumerate(range(0, nbytes, size))
                ]
            tasks.append(task)
            run.clear()

    for row in rows:
        nbytes = sizes[row]
        if nbytes >= OWN_FROM:
            end_run()  # reads are in file order, for the sake of requests that bring several
            out = memory[row] = np.empty(nbytes, np.uint8)
            for number, low in enumerate(range(0, nbytes, size)):
                part = out[low : low + size]
                segment = offsets[row] + low, len(part), (row, number)
                tasks.append(_Task(segment[0], part, [segment]))
            continue
        if run and (
            offsets[row] - offsets[run[-1]] - sizes[run[-1]] > GAP_BYTES
            or offsets[row] + nbytes - offsets[run[0]] > run_bytes
        ):
            end_run()
        run.append(row)
    end_run()
    return tasks


def _array(reader: Reader, row: int, memory: dict[int, NDArray], payloads: dict[int, Payload]) -> Array:
    index = reader.index
    kind, shape, target = index.types[int(index.type[row])], index.shape(row), int(index.alias_of[row])
    owner = row if target == NO_ALIAS else target
    payload = payloads.get(owner)
    if payload is None:
        payload = payloads[owner] = _payload(reader, row, kind, shape, memory[row])
    return Array.from_payload(kind.dtype, shape, kind.stype, payload)


def _payload(reader: Reader, row: int, kind: ArrayType, shape: tuple[int, ...], stored: NDArray) -> Payload:
    index = reader.index
    if kind.mode == MODE_DATA:
        return BytesPayload(stored.tobytes(), kind.dtype)
    fortran = bool(int(index.flags[row]) & FLAG_FORTRAN)
    try:
        elements = elements_of(kind, shape, stored)
        if fortran:
            elements = column_major(elements)
        data = npy_data(kind, elements, fortran) if kind.npy_header else b""
    except HostileFileError as error:
        error.path = reader.path
        error.key = f"{index.records[int(index.record[row])].name}/{index.key(row)}"
        raise
    return BytesPayload(data, kind.dtype) if kind.npy_header else OwnedPayload(elements)
