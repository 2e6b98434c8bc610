"""What bytes are read from and written to: the seams between the engine and every kind of storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from archive.dtypes import NDArray
from archive.owner import Owner

__all__ = ["Sink", "Source", "Take"]

Take = Callable[[int, Any], None]
"""What is called with bytes as they come, and where in their range they begin. They come in order. At 0 they
begin anew: the request was sent again."""


class Source(Protocol):
    """A file of fixed length whose bytes are read by offset; one version for the life of the handle."""

    path: str
    """Absolute path, for errors and for pickling by reference."""
    nbytes: int
    """Length of the file."""
    mapped: bool
    """Whether `read` gives views of a map rather than memory of its own."""
    pinned: bool
    """Whether the storage itself keeps to one version, so that the superblock need not be compared."""
    pins: bool
    """Whether it is found out, without digests, when another version lies there by now."""
    parallel: int
    """Reads worth having under way at once."""

    @property
    def keeps(self) -> bool:
        """Whether what is fetched is kept in a local file."""
        ...

    @property
    def tag(self) -> str:
        """What no other version of the file has, as it was before anything was read of it.

        A listing has the same (`Entry.tag`). Empty where nothing tells versions apart.
        """
        ...

    def extend_tail(self, offset: int) -> None:
        """Say that everything from ``offset`` to the end is read next, and what is before it is not."""
        ...

    def reread(self, offset: int, nbytes: int) -> NDArray | None:
        """Return a range that failed its digest, read again; None where that gives the same bytes."""
        ...

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range as uint8, shape (nbytes,); not to be written to."""
        ...

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` (contiguous uint8) from ``offset``."""
        ...

    def stream(self, offset: int, nbytes: int, take: Take) -> None:
        """Hand over a range as it comes, in the calling thread."""
        ...

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a writable range that no other caller sees: copied, or copied when written."""
        ...

    def release(self, offset: int, nbytes: int) -> None:
        """Say that a range is not needed for now."""
        ...

    def share(self) -> Source:
        """Return the same open file once more, to be closed on its own."""
        ...

    def close(self) -> None:
        """Let go of the file; views already handed out stay valid."""
        ...


class Sink(Protocol):
    """A file or object in the making: it appears complete when it is published, or not at all."""

    path: str
    """Where it will appear, for messages."""
    owner: Owner
    """The process that made it. In any other, writing and publishing raise ClosedError; discarding does
    nothing."""
    any_order: bool
    """Whether bytes may be written in any order and from several threads, or front to back by one."""

    @property
    def temporary(self) -> str:
        """Path of a local file that has the bytes until they are published; empty where there is none."""
        ...

    def reserve(self, nbytes: int) -> None:
        """Reserve the first ``nbytes``, so that a full disk is found early."""
        ...

    def reserve_if_possible(self, nbytes: int) -> bool:
        """Reserve ahead, and tell whether that worked."""
        ...

    def truncate(self, nbytes: int) -> None:
        """Cut what was reserved and not needed."""
        ...

    def write(self, buffer: Any, offset: int) -> None:
        """Write a contiguous buffer at ``offset``; the memory is the caller's again when this returns."""
        ...

    def copy(self, source: int, start: int, offset: int, nbytes: int) -> bool:
        """Have the system copy bytes from ``start`` of another file; False: they must be written."""
        ...

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` (contiguous uint8) with what was copied."""
        ...

    def push_to(self, end: int) -> None:
        """Take note that all bytes before ``end`` are written."""
        ...

    def publish(self) -> None:
        """Make it appear; after an error `discard` it."""
        ...

    def discard(self) -> None:
        """Drop what is not published and let go; harmless after `publish`."""
        ...
