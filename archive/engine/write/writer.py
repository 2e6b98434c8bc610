"""A plan onto the disk: array bytes copied, hashed and written piece by piece, then metadata, index, footer.

Only private copies are hashed and written, because a training loop may change arrays while they are saved.
What is saved may then be partly old and partly new, but its digests are those of the bytes in the file.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import xxhash

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.progress import Report
from archive.engine.storagespec import StorageSpec
from archive.engine.write.finiteness import FinitenessCheck, Look
from archive.engine.write.inputs import Source
from archive.engine.write.plan import Plan
from archive.engine.write.stretches import (
    Cut,
    Part,
    Prefetch,
    Write,
    copy_stretch,
    cut_array,
    group_parts,
    read_together,
    slices_of,
    stretch_of,
    write_pieces,
)
from archive.errors import StorageError
from archive.format.constants import DATA_AT, DIGEST_BYTES, MODE_TEXT, PAGE
from archive.format.digests import digest
from archive.format.elements import opaque_view, pack_text
from archive.format.footer import Footer
from archive.format.layout import segment_bytes
from archive.storage.protocols import Sink
from archive.workers import run_parallel

__all__ = ["ArrayStream", "stored_buffer", "write_head", "write_plan", "write_tail"]

OnWritten = Callable[[list[int], list[bytes]], object]
"""Called with rows whose bytes have been written, and the digests of all segments so far."""


# Types whose arrays numpy exports as a buffer; the others (ml_dtypes, times, text) are viewed as bytes.
_BUFFER_KINDS = frozenset("biufcS")


class ArrayStream:
    """Array bytes in file order, every segment hashed; parts are written side by side where a sink allows it.

    Parameters
    ----------
    sink : Sink
    parallel : bool
        Use threads where the sink takes bytes in any order.
    total : int
        Bytes in all, for ``progress``; 0 where that is not known.
    progress : callable, optional
        Called with (bytes written, bytes in all).
    on_written : callable, optional
        Called with the rows of each part once it is written, in file order, from the calling thread.
    check : FinitenessCheck, optional
        Looks at what is written.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        parallel: bool = True,
        total: int = 0,
        progress: Report | None = None,
        on_written: OnWritten | None = None,
        check: FinitenessCheck | None = None,
    ) -> None:
        self.digests: list[bytes] = []
        """Digest of every segment so far, in file order."""
        self._sink = sink
        self._parallel = parallel and sink.any_order
        self._total = total
        self._progress = progress
        self._on_written = on_written
        self._look_at: Callable[[int], Look | None] = (lambda row: None) if check is None else check.look_at
        self._done = 0
        self._held: _Memory | None = None  # copies of small buffers, to be written together
        self._rows: list[int] = []
        self._begin = self._position = 0

    def put(self, row: int, offset: int, buffer: Any, nbytes: int) -> None:
        """Write the stored bytes of a row; when this returns its memory may change."""
        if nbytes > tuning.PIECE_BYTES:
            self.put_stretches(row, offset, nbytes, slices_of(_flat(buffer)))
        else:
            copy, size = self._hold([buffer], nbytes, offset), segment_bytes(nbytes)
            if (look := self._look_at(row)) is not None:
                look(copy, offset)
            self.digests += [digest(copy[start : start + size]) for start in range(0, nbytes, size)]
            self._rows.append(row)

    def put_stretches(self, row: int, offset: int, nbytes: int, cut: Cut) -> None:
        """Write the stored bytes of a row a few segments at a time."""
        self.flush(offset)
        self.put_parts(cut_array(row, offset, nbytes, cut, self._look_at(row)))

    def put_pieces(self, row: int, offset: int, pieces: Iterable[NDArray], nbytes: int) -> None:
        """Write a row whose bytes (uint8) come in pieces; each may change when the next is asked for."""
        part = Part(offset, nbytes, pieces, segment_bytes(nbytes), [row], None, self._look_at(row))
        self.digests += _write_copies(self.write, part, segment_bytes(nbytes))
        self._rows.append(row)

    def put_parts(self, parts: Iterable[Part]) -> None:
        """Write parts that follow one another, which are asked for as they are begun."""
        if not self._parallel:
            for part in parts:
                if isinstance(part.spans, int):
                    found = _write_copies(self.write, part, part.spans)
                else:
                    found = _digests(part, self._hold(part.buffers, part.nbytes, part.offset))
                if part.require is not None:
                    part.require(found)
                self.digests += found
                self._rows += part.rows
            return
        self.flush()
        with closing(run_parallel(self._write_all, group_parts(parts), ahead=tuning.WRITE_GROUPS)) as written:
            for digests, nbytes, rows in written:
                self.digests += digests
                self.seek(self._position + nbytes)
                self._report(nbytes, rows)

    def note(self, row: int) -> None:
        """Pass a row along that has no bytes of its own."""
        self._rows.append(row)

    def seek(self, position: int) -> None:
        """Go on after arrays that are already written."""
        self._begin = self._position = position

    def write(self, buffer: Any, offset: int) -> None:
        """Write bytes; few are held as a copy: each system call is 2 % of the save of a small model."""
        if len(buffer) < tuning.PIECE_BYTES:
            self._hold([buffer], len(buffer), offset)
            return
        self.flush(offset)
        self._sink.write(buffer, offset)
        self.seek(offset + len(buffer))
        self._report(len(buffer), [])

    def flush(self, until: int = 0) -> None:
        """Write what is held, and zeros up to an offset."""
        if until > self._position:
            self._hold([], 0, until)
        held, self._held = self._held, None
        rows, self._rows = self._rows, []
        begin, self._begin = self._begin, self._position
        if held is not None:
            self._sink.write(held.view[: self._position - begin], begin)
            _give_back(held)
        if held is not None or rows:
            self._report(self._position - begin, rows)

    def _hold(self, buffers: Iterable[Any], nbytes: int, offset: int) -> memoryview:
        """Copy small buffers, and return the copy; there are zeros between it and what was held before."""
        if offset + nbytes > self._begin + tuning.PIECE_BYTES or offset < self._position:
            self.flush()
        if offset < self._position:
            self.seek(offset)
        if self._held is None:
            self._held = _take()
        start, end = self._position - self._begin, offset - self._begin
        self._held.view[start:end] = bytes(end - start)
        self._position = offset + nbytes
        return self._held.copy(buffers, end)

    def _write_all(self, parts: list[Part]) -> tuple[list[bytes], int, list[int]]:
        """Write parts, and return digests, length and rows of all of them."""
        digests: list[bytes] = []
        for part in parts:
            if isinstance(part.spans, int):
                found = _write_copies(self._sink.write, part, part.spans, self._sink)
            else:
                memory = _take()
                copy = memory.copy(part.buffers)
                found = _digests(part, copy)
                self._sink.write(copy, part.offset)
                _give_back(memory)
            if part.require is not None:
                part.require(found)
            digests += found
        return digests, sum(part.nbytes for part in parts), [row for part in parts for row in part.rows]

    def _report(self, nbytes: int, rows: list[int]) -> None:
        self._sink.push_to(self._position)
        self._done += nbytes
        if rows and self._on_written is not None:
            self._on_written(rows, self.digests)
        if self._progress is not None:
            self._progress(self._done, self._total or self._done)


def write_plan(
    plan: Plan,
    sink: Sink,
    progress: Report | None = None,
    consumed: OnWritten | None = None,
    check: FinitenessCheck | None = None,
) -> Footer:
    """Write a whole archive, front to back, and return its footer.

    Parameters
    ----------
    plan : Plan
    sink : Sink
    progress : callable, optional
        Called with (bytes written, bytes in all) from this thread.
    consumed : callable, optional
        Called with rows that are written; the plan lets go of each array as it is handed over.
    check : FinitenessCheck, optional
        Looks at what is written.
    """
    if check is not None:
        check.begin(plan.table, plan.records)
    total = plan.file_bytes
    stream = ArrayStream(
        sink,
        parallel=total >= tuning.WRITE_PARALLEL_BYTES,
        total=total,
        progress=progress,
        on_written=consumed,
    )
    write_head(plan, stream)
    stream.put_parts(_parts(plan, consume=consumed is not None, check=check))
    if consumed is not None:
        stream.flush()  # what arrived is known before the tail can fail
    footer = write_tail(plan, stream)
    stream.flush()
    return footer


def write_tail(plan: Plan, stream: ArrayStream) -> Footer:
    """Write metadata, index, values and footer of a plan whose arrays are written."""
    index = plan.index
    index.digests[:] = np.frombuffer(b"".join(stream.digests), np.uint8).reshape(-1, DIGEST_BYTES)
    parts = list(plan.metadata.parts)
    meta = xxhash.xxh3_128()
    for part in parts:
        meta.update(part)
    footer = Footer(
        file_bytes=plan.file_bytes,
        meta_at=plan.schema.data_end,
        meta_bytes=plan.metadata.nbytes,
        index_at=plan.index_at,
        index_bytes=len(index),
        values_at=plan.index_at + len(index),
        values_bytes=len(plan.values),
        superblock=plan.metadata.superblock,
        meta_digest=meta.digest(),
        index_digest=digest(index.buffer),
        values_digest=digest(plan.values),
    )
    position = plan.schema.data_end
    for buffer in (*parts, index.buffer, plan.values, footer.pack()):
        stream.write(buffer, position)
        position += len(buffer)
    return footer


def write_head(plan: Plan, stream: ArrayStream) -> None:
    """Write the superblock and its padding."""
    superblock = plan.metadata.superblock
    stream.write(superblock + bytes(DATA_AT - len(superblock)), 0)


def stored_buffer(
    spec: StorageSpec, source: Source | None, row: int, name: Callable[[int], tuple[str, str]]
) -> Any:
    """Return the stored bytes of an array as one C-contiguous buffer; copied only where they are not.

    ``name`` tells record and key of a row, for errors.
    """
    if source is None:
        raise StorageError("the array was consumed before it was written", key="/".join(name(row)))
    if not isinstance(source, np.ndarray):
        return source.stored()
    if spec.type.mode == MODE_TEXT:
        try:
            source = pack_text(source, spec.type.itemsize)
        except ValueError as error:
            raise StorageError(
                "the text changed while it was saved", key="/".join(name(row)), remedy="save a copy of it"
            ) from error
    if not source.flags.c_contiguous:
        source = np.ascontiguousarray(opaque_view(source))
    if source.nbytes != spec.nbytes:
        raise StorageError("the array changed its size while it was saved", key="/".join(name(row)))
    if source.dtype.kind in _BUFFER_KINDS and source.dtype.isbuiltin == 1:
        return source
    return _flat(source)


def _parts(plan: Plan, *, consume: bool, check: FinitenessCheck | None) -> Iterator[Part]:
    """Yield all arrays of a plan, in file order, and the zeros between them."""
    sources, runs, ahead = plan.table.sources, plan.schema.runs, None
    for run in runs:
        given = [sources[row] for row in run.stored]
        cut = require = None
        if set(map(type, given)) == {np.ndarray}:
            rows = zip(run.stored, run.specs, given, strict=True)
            buffers = [stored_buffer(spec, source, row, plan.name) for row, spec, source in rows]
        elif run.large and (cut := stretch_of(given[0])) is not None:
            buffers = []
        else:
            ahead = ahead or Prefetch(sources[row] for run in runs if not run.large for row in run.stored)
            read, require = ({}, None) if run.large else read_together(given, run.specs, ahead)
            buffers = [
                read.pop(number) if number in read else stored_buffer(spec, source, row, plan.name)
                for number, (row, spec, source) in enumerate(zip(run.stored, run.specs, given, strict=True))
            ]
        del given
        if consume:
            for row in run.rows:
                sources[row] = None
        if run.large:
            cut = cut or slices_of(_flat(buffers[0]))
            look = None if check is None else check.look_at(run.stored[0])
            yield from cut_array(run.rows[0], run.begin, run.specs[0].nbytes, cut, look)
            if run.zeros is not None:
                yield Part(run.end - len(run.zeros[0]), len(run.zeros[0]), [*run.zeros], [], [])
        else:
            if run.zeros is not None:
                buffers = [part for pair in zip(buffers, run.zeros, strict=True) for part in pair]
            look = None if check is None else check.look_at_all(run.stored, plan.schema.offset)
            yield Part(run.begin, run.end - run.begin, buffers, run.spans, run.rows, require, look)
        del buffers, cut  # or they would live on while the next array is read


def _digests(part: Part, copy: memoryview) -> list[bytes]:
    """Return the digests of small arrays in their private copy, after looking at it."""
    if part.look is not None:
        part.look(copy, part.offset)
    return [digest(copy[span]) for span in part.spans]  # type: ignore[union-attr]


def _write_copies(write: Write, part: Part, segment: int, sink: Sink | None = None) -> list[bytes]:
    """Copy and write an array, by the system where a sink can, and return the digests of its segments."""
    memory, what = _take(), (part.offset, part.buffers, part.nbytes, segment, part.look)
    digests = [] if sink is None else copy_stretch(memory.array, sink, *what)
    digests = digests or write_pieces(memory.array, write, *what)
    _give_back(memory)
    return digests


class _Memory:
    """Private memory for a piece, and for the zeros before or after a small array."""

    __slots__ = ("_map", "array", "view")

    def __init__(self) -> None:
        # private: a forked child must not share it
        self._map = mmap.mmap(-1, tuning.PIECE_BYTES + PAGE, access=mmap.ACCESS_COPY)
        self.view = memoryview(self._map)
        self.array: NDArray = np.frombuffer(self._map, np.uint8)

    def copy(self, buffers: Iterable[Any], at: int = 0) -> memoryview:
        """Copy contiguous buffers to position ``at``, one after the other, and return the copy.

        In one loop of C: a loop of Python would take 10 of the 100 ms of 20,000 small arrays.
        """
        self._map.seek(at)
        deque(map(self._map.write, buffers), 0)
        return self.view[at : self._map.tell()]


_spare: list[_Memory] = []


def _take() -> _Memory:
    """Return memory that nobody else uses: used before, as page faults cost as much as copying into it."""
    try:
        return _spare.pop()
    except IndexError:
        return _Memory()


def _give_back(memory: _Memory) -> None:
    if len(_spare) < tuning.WRITE_MEMORIES:
        _spare.append(memory)


def _flat(source: Any) -> NDArray:
    return np.asarray(source).reshape(-1).view(np.uint8)
