"""Byte ranges of one pinned version of an object, over whatever sends a GET request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from archive.storage.protocols import Take
from archive.storage.remote.clients.bodies import new_memory
from archive.storage.remote.clients.failures import failure_of, replaced_error
from archive.storage.remote.clients.replies import (
    Body,
    Reply,
    expect_range,
    expect_suffix,
    range_header,
    suffix_header,
)
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import Buffer, ObjectVersion

__all__ = ["RangedStore"]


class RangedStore(ABC):
    """What the clients of S3 and of web servers share: how a range is asked for, checked and reported."""

    @abstractmethod
    def url(self, path: str) -> str:
        """Return what messages call an object."""

    @abstractmethod
    def head(self, path: str) -> ObjectVersion:
        """Return the current version."""

    @abstractmethod
    def _get(
        self, path: str, header: str, tag: str, check: Callable[[Reply], Body], nbytes: int, take: Take
    ) -> ObjectVersion:
        """Take the body of one GET whose head ``check`` has accepted, sent again where that helps.

        Parameters
        ----------
        header : str
            Value of the header Range.
        tag : str
            ETag that the object must have; empty: any.
        nbytes : int
            Bytes that are expected.

        Returns
        -------
        ObjectVersion
            The version that the body is of.

        Raises
        ------
        Fault
        """

    def get_suffix(self, path: str, nbytes: int) -> tuple[Buffer, ObjectVersion]:
        """Return the last bytes, at most ``nbytes``, and the version they are of; one request."""
        came: list[Buffer] = []

        def check(reply: Reply) -> Body:
            came.clear()
            return expect_suffix(reply, nbytes)

        try:
            version = self._get(
                path, suffix_header(nbytes), "", check, nbytes, lambda at, chunk: came.append(chunk)
            )
        except Fault as fault:
            if fault.kind is not Kind.RANGE:
                raise failure_of(fault, self.url(path)) from fault
            # an empty object has no last bytes; some servers refuse more bytes than there are, too
            version = self.head(path)
            return self.get_range(path, max(version.nbytes - nbytes, 0), version.nbytes, version), version
        # a server that ignores ranges, and says no length, sends more than was asked for
        return memoryview(b"".join(came))[-nbytes:], version

    def get_range(self, path: str, start: int, stop: int, version: ObjectVersion) -> Buffer:
        """Return bytes ``start`` to ``stop``, exactly, of that version; one request unless it fails."""
        if stop <= start:
            return b""
        data = new_memory(stop - start)

        def place(at: int, chunk: Buffer) -> None:
            # numpy lets other threads run as it copies
            data[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)

        self.stream_range(path, start, stop, version, place)
        return data.data.toreadonly()

    def stream_range(self, path: str, start: int, stop: int, version: ObjectVersion, take: Take) -> None:
        """Hand over bytes ``start`` to ``stop``, exactly, of that version, as they come."""
        if stop <= start:
            return
        try:
            self._get(
                path,
                range_header(start, stop),
                version.tag,
                lambda reply: expect_range(reply, start, stop, version),
                stop - start,
                take,
            )
        except Fault as fault:
            if fault.kind in (Kind.CONFLICT, Kind.MISSING, Kind.RANGE):
                raise replaced_error(self.url(path), removed=fault.kind is Kind.MISSING) from fault
            raise failure_of(fault, self.url(path)) from fault
