"""Objects behind a network: what every client can do, whatever speaks the protocol underneath.

`archive.storage.remote.clients` has the clients. They translate: exact ranges of one pinned version, whole
objects that appear at once, typed errors. What is asked of them, in which order, is decided elsewhere
(`archive.storage.remote.source`, `archive.storage.remote.upload`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from archive.storage.protocols import Take

__all__ = ["Entry", "ObjectStore", "ObjectVersion", "PendingUpload", "Upload", "bare_tag", "strong_tag"]

Buffer = Any
"""Contiguous bytes: bytes, bytearray, memoryview or ndarray of uint8."""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object: its content never changes."""

    nbytes: int
    """Length."""
    tag: str = ""
    """What the store calls this version (an ETag); empty where it does not say."""
    modified: str = ""
    """Where it has no tag, when it was written, as the store says it: two versions may share that."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing."""

    path: str
    """Path below the folder that was listed."""
    nbytes: int
    """Length."""
    modified: float
    """Seconds since 1970; 0.0 where the store does not say."""
    tag: str = ""
    """What no other version of it has, as `Source.tag`; empty where the store does not say."""


PROBE_PREFIX = ".fedarchive-probe-"
"""Names of objects that test whether a store creates exclusively; a killed process leaves its own there."""
PROBES = (b"fedarchive", b"fedarchive again")
"""What they hold: at first, and where the store replaced it."""


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload that was begun and neither completed nor aborted."""

    path: str
    """Where its object would appear."""
    upload: str
    """What the store calls it."""
    started: float
    """Seconds since 1970."""


def bare_tag(tag: object) -> str:
    """Return an ETag without its quotes, which servers leave out here and there."""
    return str(tag or "").strip().strip('"')


def strong_tag(tag: object) -> str:
    """Return the same; empty of a weak ETag, which two versions may share.

    Examples
    --------
    >>> strong_tag('"a"'), strong_tag('W/"a"')
    ('a', '')
    """
    return "" if str(tag or "").strip().startswith("W/") else bare_tag(tag)


class Upload(Protocol):
    """An object that is sent in parts and appears when it is completed. Safe to use from several threads."""

    def put_part(self, number: int, data: Buffer) -> None:
        """Send part ``number``, from 1; every part but the last has at least `ObjectStore.min_part_bytes`."""
        ...

    def complete(self, *, exclusive: bool) -> None:
        """Make the object appear. ``exclusive``: ExistsError where one is there already."""
        ...

    def abort(self) -> None:
        """Drop what was sent; nothing appears. Harmless when repeated, and after `complete`."""
        ...


class ObjectStore(Protocol):
    """Objects of one server, by path. Safe to use from several threads, and in the child of a fork.

    Every method raises MissingError, ExistsError, ReplacedError, TruncatedError or StorageError, each
    naming the object and never a credential, within a bounded number of requests and a bounded time.
    Each returns only after the server has shown its success; a success that shows nothing is a StorageError.
    """

    name: str
    """Which client it is: ``s3fs``, ``http`` or ``fsspec``."""
    parallel: int
    """Requests worth having under way at once."""
    multipart: bool
    """Whether `create_multipart` works; where not, objects are put whole."""
    min_part_bytes: int
    """Smallest part but the last."""
    pins: bool
    """Whether a request for a range itself notices another version; where not, digests and `head` do."""
    writable: bool
    """Whether there is any way to make an object appear."""

    def url(self, path: str) -> str:
        """Return what messages call an object."""
        ...

    def head(self, path: str) -> ObjectVersion:
        """Return the current version."""
        ...

    def get_suffix(self, path: str, nbytes: int) -> tuple[Buffer, ObjectVersion]:
        """Return the last bytes, at most ``nbytes``, and the version they are of; one request."""
        ...

    def get_range(self, path: str, start: int, stop: int, version: ObjectVersion) -> Buffer:
        """Return bytes ``start`` to ``stop``, exactly, of that version; one request unless it fails."""
        ...

    def stream_range(self, path: str, start: int, stop: int, version: ObjectVersion, take: Take) -> None:
        """Hand over what `get_range` returns as it comes, in the calling thread."""
        ...

    def put(self, path: str, data: Buffer, *, exclusive: bool = False) -> None:
        """Make an object of ``data`` appear whole. ``exclusive``: ExistsError where one is there already."""
        ...

    def create_multipart(self, path: str) -> Upload:
        """Begin an upload in parts."""
        ...

    def is_exclusive(self, path: str, *, multipart: bool) -> bool:
        """Tell whether the store keeps its word about ``exclusive``; asks it once with objects of our own."""
        ...

    def list(self, path: str, *, below: bool = True, span: tuple[str, str] | None = None) -> Iterator[Entry]:
        """Yield every object below a folder; nothing where there is no such folder.

        ``below=False``: those of the folder itself at least, which may take fewer requests. ``span``: at
        least those whose paths are after the first text and before the second, by their bytes.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove an object; MissingError where there is none."""
        ...

    def list_multipart(self, path: str) -> Iterator[PendingUpload]:
        """Yield uploads of an object, or below a folder, that were begun and not ended."""
        ...

    def abort(self, pending: PendingUpload) -> None:
        """End an upload that somebody began."""
        ...
