"""Arrays on their way between an archive and another format, and what is told about them."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from archive import tuning
from archive.dtypes import NDArray
from archive.errors import DamagedError, ReplacedError
from archive.records import Array, SType
from archive.records.payload import memory_of
from archive.storage.url import Location

__all__ = [
    "ArraysContent",
    "Content",
    "Entry",
    "Fingerprint",
    "Hasher",
    "LeftOut",
    "Stamp",
    "chunks_of",
    "compare",
    "left_of_ties",
    "left_of_values",
]

LeftOut = tuple[str, str]
"""What the other side cannot hold, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One array: what is known of it before its elements are read."""

    record: str
    key: str
    dtype: np.dtype[Any] | None
    """Element type; None where the array is bytes of another serialisation."""
    shape: tuple[int, ...]
    nbytes: int
    """Bytes of the elements in C order."""
    place: Any = None
    """Where the content finds it: a range, a row, an Array."""
    identity: object = None
    """Equal for arrays that share their bytes; None: it shares them with no other."""
    fortran: bool = False
    """Whether its elements come, and are written, in column-major order."""

    @property
    def name(self) -> tuple[str, str]:
        """Record and key."""
        return self.record, self.key

    def assemble(self, chunks: Iterable[NDArray]) -> NDArray:
        """Return all elements as one array; it takes memory for the whole."""
        buffer, filled = np.empty(self.nbytes, np.uint8), 0
        for chunk in chunks:
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        if not self.nbytes:
            return np.empty(self.shape, self.dtype)
        return buffer.view(self.dtype or np.uint8).reshape(self.shape, order="F" if self.fortran else "C")


class Stamp:
    """By what it is found out that a local file was written to while it was read; an object has versions."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._found = self._look()

    def require_unchanged(self) -> None:
        """Raise ReplacedError for a file that was written to; another file of its name does not matter."""
        found = self._look()
        if found != self._found and found[:1] == self._found[:1]:
            raise ReplacedError(
                "it was written to while it was read",
                path=self._location.display,
                errno=errno.ESTALE,
                remedy="convert it again when it is complete",
            )

    def _look(self) -> tuple[int, ...]:
        if self._location.remote:
            return ()
        try:
            status = Path(self._location.path).stat()
        except OSError:  # it is opened next, or is still open
            return ()
        return status.st_ino, status.st_size, status.st_mtime_ns


class Content:
    """A file of any format, open for reading; a context manager."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.metrics: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.attributes: dict[str, dict[str, Any]] = {}
        self.left_out: list[LeftOut] = []
        """What is in the file and not in ``entries``, ``metrics`` and ``configs``."""
        self.stamps: list[Stamp] = []
        """Of local files that have no digests."""

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[NDArray]]]:
        """Yield each entry with its bytes (uint8), a few megabytes at a time, in this order.

        All chunks of an entry have to be taken before the next entry is asked for.
        """
        raise NotImplementedError

    def require_unchanged(self) -> None:
        """Raise ReplacedError where what was read is of two versions of a file."""
        for stamp in self.stamps:
            stamp.require_unchanged()

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ArraysContent(Content):
    """Content whose arrays are Arrays: in memory, in a map, or in a foreign file."""

    def add(self, record: str, key: str, array: Array) -> None:
        """Add an array."""
        if array.stype == SType.NUMPY:
            # an element of an empty shape is read, and nothing of the array
            dtype = array.payload.numpy(False).dtype
            nbytes = math.prod(array.shape) * dtype.itemsize
            entry = Entry(record, key, dtype, tuple(array.shape), nbytes, array, memory_of(array.payload))
        else:
            entry = Entry(record, key, None, tuple(array.shape), array.nbytes, array)
        self.entries.append(entry)

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[NDArray]]]:
        """Yield each entry with its bytes."""
        for entry in entries:
            array: Array = entry.place
            yield (
                entry,
                chunks_of(np.frombuffer(array.data, np.uint8) if entry.dtype is None else array.numpy()),
            )


def left_of_values(content: Content) -> list[LeftOut]:
    """Return what a format does not hold that has arrays and nothing else."""
    found = [(name, "metrics") for name in content.metrics]
    found += [(name, "configs") for name in content.configs]
    return found + [(name, "attributes of a record") for name in content.attributes]


def left_of_ties(entries: Iterable[Entry]) -> list[LeftOut]:
    """Return what a format does not hold that writes the elements of tied arrays twice."""
    seen: dict[object, Entry] = {}
    return [
        ("/".join(entry.name), f"that it is tied to {'/'.join(first.name)}: the elements are there twice")
        for entry in entries
        if entry.identity is not None and (first := seen.setdefault(entry.identity, entry)) is not entry
    ]


def chunks_of(elements: NDArray) -> Iterator[NDArray]:
    """Yield the bytes of elements in C order; views where they lie in that order."""
    if not elements.nbytes:
        return
    flat = np.ascontiguousarray(elements).reshape(-1).view(np.uint8)
    for start in range(0, len(flat), tuning.SCAN_BYTES):
        yield flat[start : start + tuning.SCAN_BYTES]


class Fingerprint(NamedTuple):
    """What an array is compared by."""

    dtype: str
    shape: tuple[int, ...]
    digest: bytes
    """xxh3-128 of its elements in C order."""


@dataclass(slots=True)
class Hasher:
    """Takes note of the bytes that pass, and how many there were in all."""

    report: Any = None
    """Called with (bytes so far, bytes in all)."""
    total: int = 0
    done: int = 0
    array_bytes: int = 0
    passes: int = 1
    """Times that all bytes pass: 2 where they are read back."""
    found: dict[tuple[str, str], Fingerprint] = field(default_factory=dict)

    def watch(
        self, entry: Entry, chunks: Iterable[NDArray], name: tuple[str, str] | None = None
    ) -> Iterator[NDArray]:
        """Yield chunks in C order, and keep their fingerprint under a name when the last is taken."""
        digest = xxhash.xxh3_128()
        for chunk in chunks:
            digest.update(chunk.data)
            yield chunk
            self.done += len(chunk)
            if self.report is not None:
                self.report(self.done, self.passes * self.total)
        self.array_bytes += entry.nbytes
        self.found[name or entry.name] = Fingerprint(str(entry.dtype), entry.shape, digest.digest())

    def watch_all(self, content: Content) -> None:
        """Read all that a content has."""
        for entry, chunks in content.read(content.entries):
            if entry.fortran:
                chunks = chunks_of(entry.assemble(chunks))
            for _ in self.watch(entry, chunks):
                pass


def compare(
    written: dict[tuple[str, str], Fingerprint], back: dict[tuple[str, str], Fingerprint], path: str
) -> None:
    """Raise DamagedError unless what was read back is what was written."""
    for name in written.keys() | back.keys():
        if written.get(name) != back.get(name):
            raise DamagedError(
                "read back after it was written, this array is another",
                path=path,
                key="/".join(name),
                remedy="convert again; check the disk or the store",
            )
