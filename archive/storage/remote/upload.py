"""Writes a remote object in parts; it appears complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import weakref
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.errors import ArchiveError, ExistsError, MissingError, StorageError, UnsupportedURLError
from archive.owner import Owner
from archive.storage.remote.objectstore import ObjectStore, Upload
from archive.workers import Job, Pool, run_apart

__all__ = ["RemoteSink", "part_size", "require_creatable"]

MiB = 1 << 20
MAX_PARTS = 10_000
"""What S3 and its kin allow."""
_PLANNED_PARTS = 9_000
"""Parts that a size known in advance is divided into, at most: room for what was estimated too low."""
_DOUBLE_EVERY = 1_000
_ABORTS = 3
"""How often ending an upload is tried: what is not ended is paid for until somebody notices."""


def part_size(number: int, total: int = 0) -> int:
    """Return the length of a part, so that all fit the number of parts that a store allows.

    Parameters
    ----------
    number : int
        Of the part, from 1.
    total : int
        Bytes in all; 0 where that is not known yet: then parts double every 1,000, and 9,000 of them have
        8 TiB.

    Examples
    --------
    >>> [part_size(number) >> 20 for number in (1, 1000, 1001, 2001)], part_size(1, 5 * 10**12) >> 20
    ([16, 16, 32, 64], 530)
    """
    if not total:
        return tuning.PART_BYTES << (number - 1) // _DOUBLE_EVERY
    return max(tuning.PART_BYTES, -(-total // _PLANNED_PARTS // MiB) * MiB)


def require_creatable(store: ObjectStore, path: str, *, multipart: bool) -> None:
    """Raise unless an object can be created where there is none, and only there.

    Raises
    ------
    ExistsError
        One is there already.
    UnsupportedURLError
        The store does not promise to refuse the second of two writers.
    """
    try:
        store.head(path)
    except MissingError:
        pass
    else:
        raise ExistsError(
            "an object is already there",
            path=store.url(path),
            errno=errno.EEXIST,
            remedy="choose another name, or overwrite=True",
        )
    if not store.is_exclusive(path, multipart=multipart):
        raise UnsupportedURLError(
            "this store, or the client of it, does not keep two writers from replacing each other's object, "
            "so overwrite=False cannot be promised",
            path=store.url(path),
            remedy="use overwrite=True under a name that nobody else writes to; nothing was written",
        )


class RemoteSink:
    """An object that appears when it is published. Written front to back, but for its head.

    What is written is copied into parts, which are sent while the next is filled. An object of one part is
    put whole. Where a stream leaves the head for the end, the first part waits for it.

    Parameters
    ----------
    store : ObjectStore
    path : str
        Path of the object in its store.
    overwrite : bool
        False: an existing object is an error, also one that appears while we write.
    nbytes : int
        Length of the object, 0 where it is not known yet.

    Raises
    ------
    ExistsError, UnsupportedURLError
        As `require_creatable` says.
    """

    any_order = False
    temporary = ""

    def __init__(self, store: ObjectStore, path: str, *, overwrite: bool, nbytes: int = 0) -> None:
        self.path: str = store.url(path)
        self.owner: Owner = Owner(self.path)
        self._store = store
        self._object = path
        self._overwrite = overwrite
        self._total = nbytes
        self._position = 0
        self._head = 0  # bytes at the front that are still to come
        self._held: NDArray | None = None  # the first part, full but for its head
        self._parts = _Parts(store, path, self.owner)
        self._number = 1
        self._filled = 0
        self._buffer = self._new_buffer()
        if not overwrite:
            small = not store.multipart or 0 < nbytes <= len(self._buffer)
            require_creatable(store, path, multipart=not small)
        # at exit too: a program that ends within a save leaves no upload behind
        self._ending = weakref.finalize(self, _abandon, self._parts)

    def reserve(self, nbytes: int) -> None:
        """Nothing to reserve: a store tells that it is full when it is."""

    def reserve_if_possible(self, nbytes: int) -> bool:
        """Nothing to reserve."""
        return True

    def truncate(self, nbytes: int) -> None:
        """Nothing was reserved."""

    def copy(self, source: int, start: int, offset: int, nbytes: int) -> bool:
        """Return False: a store copies nothing of local files."""
        return False

    def read_into(self, offset: int, out: NDArray) -> None:
        """Read nothing back: nothing was copied."""

    def write(self, buffer: Any, offset: int) -> None:
        """Write a contiguous buffer at ``offset``; it is copied, and parts are sent from the copy.

        Raises
        ------
        StorageError
            A part could not be sent; or a write that is neither the next nor the head.
        ClosedError
            The object belongs to the process that forked this one.
        """
        self.owner.require_here()
        # frombuffer and not a cast of the memoryview: that knows neither byte orders nor complex numbers
        array = np.frombuffer(buffer, np.uint8)
        if not offset and 0 < self._head == len(array):
            self._fill_head(array)
            return
        if offset and not self._position and offset <= len(self._buffer):
            self._head = self._position = self._filled = offset
        if offset != self._position:
            raise StorageError(
                f"an object is written front to back, and byte {self._position} is next",
                path=self.path,
                offset=offset,
                errno=errno.ESPIPE,
            )
        self._append(array)
        self._position += len(array)

    def push_to(self, end: int) -> None:
        """Nothing to push: parts are sent when they are full."""

    def publish(self) -> None:
        """Make the object appear; after an error `discard` it."""
        self.owner.require_here()
        if self._head:
            raise StorageError("the head was never written", path=self.path, errno=errno.EINVAL)
        last = self._buffer[: self._filled]
        if self._parts.begun:
            if len(last):
                self._parts.send(self._number, last)
            self._parts.complete(exclusive=not self._overwrite)
        else:
            self._store.put(self._object, last, exclusive=not self._overwrite)
        self._ending.detach()
        self._let_go()
        self._parts.close()

    def discard(self) -> None:
        """Drop what is not published and let go; harmless after `publish`."""
        self._let_go()
        if self._ending.detach() is not None:
            self._parts.abort()

    def _new_buffer(self) -> NDArray:
        """Return memory for the next part; what is never filled takes none."""
        if not self._store.multipart:
            return np.empty(self._total or tuning.PART_BYTES, np.uint8)
        nbytes = max(part_size(self._number, self._total), self._store.min_part_bytes)
        return self._parts.buffer(nbytes)

    def _append(self, array: NDArray) -> None:
        while len(array):
            if self._filled == len(self._buffer):
                self._make_room()
            taken = array[: len(self._buffer) - self._filled]
            self._buffer[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            array = array[len(taken) :]

    def _make_room(self) -> None:
        """Send the part that is full; where there are no parts, take more memory."""
        if not self._store.multipart:
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
            return
        if self._head and self._number == 1:
            self._held = self._buffer
        else:
            self._parts.send(self._number, self._buffer)
        self._number += 1
        self._filled = 0
        self._buffer = self._new_buffer()

    def _fill_head(self, head: NDArray) -> None:
        held, self._held = self._held, None
        first = self._buffer if held is None else held
        first[: len(head)] = head
        self._head = 0
        if held is not None:
            self._parts.send(1, held)

    def _let_go(self) -> None:
        self._buffer = np.empty(0, np.uint8)
        self._held = None
        self._filled = 0


def _abandon(parts: _Parts) -> None:
    """End an upload whose sink was collected as garbage, or that is there when the program ends."""
    if parts.begun:
        run_apart(parts.abort, "fedarchive-abort")


class _Parts:
    """The upload of a sink: begun with the first part that is sent, ended in any case."""

    def __init__(self, store: ObjectStore, path: str, owner: Owner) -> None:
        self._store = store
        self._object = path
        self._owner = owner
        self._upload: Upload | None = None
        self._flying: dict[int, tuple[Job[None], NDArray]] = {}
        self._sent: SimpleQueue[int] = SimpleQueue()  # numbers of parts under way that have ended
        self._spare: list[NDArray] = []
        self._pool = Pool(tuning.PARTS, "fedarchive-upload")

    @property
    def begun(self) -> bool:
        """Whether this process has sent a part."""
        return self._upload is not None and self._owner.is_here

    def buffer(self, nbytes: int) -> NDArray:
        """Return memory for a part, that of one which was sent if it fits."""
        while self._spare:
            spare = self._spare.pop()
            if len(spare) == nbytes:
                return spare
        return np.empty(nbytes, np.uint8)

    def send(self, number: int, part: NDArray) -> None:
        """Send a part in a thread; wait where too many are under way, raise where one has failed."""
        self._owner.require_here()  # or a child that was forked since would begin an upload of its own
        if self._upload is None:
            self._upload = self._store.create_multipart(self._object)
        upload, sent = self._upload, self._sent
        self._settle(min(tuning.PARTS, max(tuning.PARTS_BYTES // len(part), 1)) - 1)

        def send() -> None:
            try:
                upload.put_part(number, part)
            finally:
                sent.put(number)

        self._flying[number] = self._pool.submit(send), part

    def complete(self, *, exclusive: bool) -> None:
        """Make the object appear, once everything is there."""
        self._settle(0)
        if self._upload is not None:
            self._upload.complete(exclusive=exclusive)

    def abort(self) -> None:
        """End the upload, after what is under way: a part that came later would be left behind."""
        if not self._owner.is_here:
            return
        self.close()
        upload, self._upload = self._upload, None
        if upload is None:
            return
        for _ in range(_ABORTS):
            with contextlib.suppress(ArchiveError):
                upload.abort()
                return

    def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        self._pool.close()
        self._flying.clear()
        self._spare.clear()

    def _settle(self, most: int) -> None:
        """Wait until so many parts are under way, at most; raise what any of the others raised."""
        with contextlib.suppress(Empty):
            while self._flying:
                self._owner.require_here()  # in a child that was forked since, nothing would ever be sent
                number = self._sent.get(block=len(self._flying) > most)
                job, part = self._flying.pop(number)
                job.result()
                self._spare.append(part)
