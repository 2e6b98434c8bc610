"""A plan onto the disk: array bytes written and hashed side by side, then metadata, index, footer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import xxhash

from archive.dtypes import NDArray
from archive.engine.read.storedpayload import StoredPayload
from archive.engine.storagespec import Form
from archive.engine.write.inputs import Source
from archive.engine.write.plan import Plan
from archive.engine.write.schema import BATCH_BYTES, BATCH_ROWS, Run
from archive.errors import StorageError
from archive.format.constants import DATA_AT, DIGEST_BYTES, MODE_TEXT, PAGE, SEGMENT_BYTES
from archive.format.digests import digest
from archive.format.elements import opaque_view, pack_text
from archive.format.footer import Footer

__all__ = [
    "ArrayStream",
    "Batches",
    "Progress",
    "Sink",
    "stored_buffer",
    "write_head",
    "write_plan",
    "write_tail",
]

Progress = Callable[[int, int], object]
Landed = Callable[[list[int]], object]
"""Called with the rows whose bytes have been written."""
Consumed = Callable[[list[int], list[bytes]], object]
"""Called with the rows that have been written, and the digests of all segments so far."""

IN_FLIGHT = 2
"""Batches written or waiting while the next is hashed; none is a copy, so memory does not grow."""
_ZEROS = bytes(PAGE)
"""Padding: arrays begin at a page at the latest."""
THREAD_FROM = 4 << 20
"""Bytes from which a writing thread pays."""
# Types whose arrays numpy exports as a buffer; the others (ml_dtypes, times, text) are viewed as bytes.
_BUFFER_KINDS = frozenset("biufcS")


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, buffers: list[Any], offset: int, nbytes: int) -> None:
        """Write buffers of ``nbytes`` in all, one after the other."""


class Batches:
    """Batches of buffers on their way to the sink, by a thread of their own where that pays.

    Parameters
    ----------
    sink : Sink
    threaded : bool
        Write in a thread while the caller hashes.
    total : int
        Bytes in all, for ``progress``; 0 where that is not known.
    progress : callable, optional
        Called with (bytes written, bytes in all) from the calling thread.
    landed : callable, optional
        Called with the rows of a batch once it is written, from the calling thread.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        threaded: bool,
        total: int = 0,
        progress: Progress | None = None,
        landed: Landed | None = None,
    ) -> None:
        self._sink = sink
        self._total = total
        self._progress = progress
        self._landed = landed
        self._done = 0
        self._pool = ThreadPoolExecutor(1, "fedarchive-write") if threaded else None
        self._flying: deque[tuple[Future[None], int, list[int]]] = deque()
        self._buffers: list[Any] = []
        self._rows: list[int] = []
        self._begin = self._end = 0

    def write(self, buffers: list[Any], offset: int, nbytes: int, rows: list[int]) -> None:
        """Take a batch, whose buffers must stay as they are until it has landed.

        What follows what was taken before is written along with it, up to a multiple of `BATCH_BYTES` in the
        file: the page cache takes long aligned writes in large folios. 1.1 GB in pieces that end where
        arrays do: 162 to 1,159 ms while a thread hashes, half of the runs above 450; aligned: 159 to 285.
        """
        if offset != self._end:
            self._hand_over()
            self._begin = self._end = offset
        boundary = (self._begin // BATCH_BYTES + 1) * BATCH_BYTES
        for buffer in buffers if offset + nbytes >= boundary else ():
            view = memoryview(buffer).cast("B")
            while self._end + len(view) >= boundary:
                part, view = view[: boundary - self._end], view[boundary - self._end :]
                self._buffers.append(part)
                self._end = boundary
                self._hand_over()
                boundary += BATCH_BYTES
            if len(view):
                self._buffers.append(view)
                self._end += len(view)
        if self._end < offset + nbytes:
            self._buffers += buffers
            self._end = offset + nbytes
        self._rows += rows
        if len(self._buffers) > BATCH_ROWS:
            self._hand_over()

    def settle(self) -> None:
        """Wait until everything that was taken is written."""
        self._hand_over()
        while self._flying:
            self._land()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Finish and end the thread; after an error too what it has begun is waited for."""
        try:
            if kind is None:
                self.settle()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)

    def _hand_over(self) -> None:
        """Write what was taken, or have the thread write it."""
        if not self._buffers and not self._rows:
            return
        buffers, offset, nbytes, rows = self._buffers, self._begin, self._end - self._begin, self._rows
        self._buffers, self._rows, self._begin = [], [], self._end
        if self._pool is None:
            self._sink.write(buffers, offset, nbytes)
            self._report(nbytes, rows)
            return
        while len(self._flying) >= IN_FLIGHT:
            self._land()
        self._flying.append((self._pool.submit(self._sink.write, buffers, offset, nbytes), nbytes, rows))

    def _land(self) -> None:
        future, nbytes, rows = self._flying.popleft()
        future.result()
        self._report(nbytes, rows)

    def _report(self, nbytes: int, rows: list[int]) -> None:
        self._done += nbytes
        if rows and self._landed is not None:
            self._landed(rows)
        if self._progress is not None:
            self._progress(self._done, self._total or self._done)


class ArrayStream:
    """Array bytes in file order: small arrays gathered, large ones in pieces, every segment hashed.

    Set ``batches`` before the first array.
    """

    batches: Batches
    """Where they go."""

    def __init__(self) -> None:
        self._batch: list[Any] = []
        self._rows: list[int] = []
        self._begin = self._position = DATA_AT
        self.digests: list[bytes] = []
        """Digest of every segment so far, in file order."""

    def put(self, row: int, offset: int, buffer: Any, nbytes: int) -> None:
        """Write the stored bytes of a row; ``buffer`` must stay as it is until it has landed."""
        if nbytes > SEGMENT_BYTES:
            flat = _flat(buffer)
            pieces = (flat[start : start + BATCH_BYTES] for start in range(0, nbytes, BATCH_BYTES))
            self.put_pieces(row, offset, pieces, nbytes)
            return
        if offset > self._position:
            self._batch.append(bytes(offset - self._position))
        self._batch.append(buffer)
        self._rows.append(row)
        self._position = offset + nbytes
        self.digests.append(digest(buffer))
        if self._position - self._begin >= BATCH_BYTES or len(self._batch) >= BATCH_ROWS:
            self.flush()

    def put_run(self, run: Run, buffers: list[Any]) -> None:
        """Write rows none of which is larger than a segment.

        Parameters
        ----------
        run : Run
        buffers : list
            The bytes of its ``stored`` rows, which must stay as they are until they have landed.
        """
        self._rows += run.rows
        if buffers:
            self.digests += map(digest, buffers)
            if run.gaps is None:
                self._batch += buffers
            else:
                for gap, buffer in zip(run.gaps, buffers, strict=True):
                    if gap:
                        self._batch.append(_ZEROS[:gap])
                    self._batch.append(buffer)
            self._position = run.end
        self.flush()

    def seek(self, position: int) -> None:
        """Go on behind arrays that are already written."""
        self._begin = self._position = position

    def note(self, row: int) -> None:
        """Pass a row along that has no bytes of its own."""
        self._rows.append(row)

    def put_pieces(
        self, row: int, offset: int, pieces: Iterable[NDArray], nbytes: int, *, settle: bool = False
    ) -> None:
        """Write a row whose bytes (uint8) come in pieces.

        ``settle``: each is written before the next is asked for, because its memory may be used again.
        """
        self.flush(offset)
        hasher = xxhash.xxh3_128()
        at = 0
        for piece in pieces:
            for part in _cut(piece, at):
                if len(part) == SEGMENT_BYTES:
                    self.digests.append(digest(part))  # twice the speed of the incremental one
                else:
                    hasher.update(part.data)
                    if (at + len(part)) % SEGMENT_BYTES == 0 or at + len(part) == nbytes:
                        self.digests.append(hasher.digest())
                        hasher.reset()
                at += len(part)
            last = [row] if at == nbytes else []
            self.batches.write([piece], offset + at - len(piece), len(piece), last)
            if settle:
                self.batches.settle()
        self._begin = self._position = offset + nbytes

    def flush(self, until: int = 0) -> None:
        """Hand over what was gathered, and zeros up to an offset."""
        if until > self._position:
            self._batch.append(bytes(until - self._position))
            self._position = until
        if self._batch or self._rows:
            self.batches.write(self._batch, self._begin, self._position - self._begin, self._rows)
            self._batch, self._rows = [], []
        self._begin = self._position


def write_plan(
    plan: Plan, sink: Sink, progress: Progress | None = None, consumed: Consumed | None = None
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
    """
    total = plan.file_bytes
    stream = ArrayStream()
    landed = None if consumed is None else lambda rows: consumed(rows, stream.digests)
    with Batches(
        sink, threaded=total >= THREAD_FROM, total=total, progress=progress, landed=landed
    ) as batches:
        write_head(plan, batches)
        stream.batches = batches
        for run in plan.schema.runs:
            buffers = [
                stored_buffer(form, plan.sources[row], row, plan.name)
                for row, form in zip(run.stored, run.forms, strict=True)
            ]
            if run.large:
                nbytes = run.forms[0].nbytes
                stream.put(run.rows[0], run.end - nbytes, buffers[0], nbytes)
            else:
                stream.put_run(run, buffers)
            del buffers
            if consumed is not None:
                for row in run.rows:
                    plan.sources[row] = None
        stream.flush(plan.data_end)
        if consumed is not None:
            batches.settle()  # what arrived is known before the tail can fail
        return write_tail(plan, stream.digests, batches)


def write_tail(plan: Plan, digests: list[bytes], batches: Batches) -> Footer:
    """Write metadata, index and footer of a plan whose arrays are written."""
    index = plan.index
    index.digests[:] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
    parts = list(plan.metadata.parts)
    meta = xxhash.xxh3_128()
    for part in parts:
        meta.update(part)
    footer = Footer(
        file_bytes=plan.file_bytes,
        meta_at=plan.data_end,
        meta_bytes=plan.metadata.nbytes,
        index_at=plan.index_at,
        index_bytes=len(index),
        superblock=plan.metadata.superblock,
        meta_digest=meta.digest(),
        index_digest=digest(index.buffer),
    )
    tail = [*parts, index.buffer, footer.pack()]
    batches.write(tail, plan.data_end, plan.file_bytes - plan.data_end, [])
    return footer


def write_head(plan: Plan, batches: Batches) -> None:
    """Write the superblock and its padding."""
    superblock = plan.metadata.superblock
    batches.write([superblock + bytes(DATA_AT - len(superblock))], 0, DATA_AT, [])


def stored_buffer(form: Form, source: Source | None, row: int, name: Callable[[int], tuple[str, str]]) -> Any:
    """Return the stored bytes of an array as one C-contiguous buffer; copied only where they are not.

    ``name`` tells record and key of a row, for errors.
    """
    if isinstance(source, StoredPayload):
        return source.stored()
    if source is None:
        raise StorageError("the array was consumed before it was written", key="/".join(name(row)))
    if form.type.mode == MODE_TEXT:
        source = pack_text(source, form.type.itemsize)
    if not source.flags.c_contiguous:
        source = np.ascontiguousarray(opaque_view(source))
    if source.nbytes != form.nbytes:
        raise StorageError("the array changed its size while it was saved", key="/".join(name(row)))
    if source.dtype.kind in _BUFFER_KINDS and source.dtype.isbuiltin == 1:
        return source
    return _flat(source)


def _flat(source: Any) -> NDArray:
    return np.asarray(source).reshape(-1).view(np.uint8)


def _cut(piece: NDArray, at: int) -> Iterator[NDArray]:
    """Cut a piece that begins at byte ``at`` of its array where segments end."""
    start = 0
    while start < len(piece):
        stop = min(len(piece), start + SEGMENT_BYTES - (at + start) % SEGMENT_BYTES)
        yield piece[start:stop]
        start = stop
