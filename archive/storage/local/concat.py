"""Two files read as one: the file itself, and after its end the bytes that were decoded from it."""

from __future__ import annotations

from archive.dtypes import NDArray
from archive.storage.local.source import FileSource
from archive.storage.protocols import Take

__all__ = ["SplicedSource"]


class SplicedSource:
    """Routes each range to one of two files; no range reaches over the seam.

    Parameters
    ----------
    file : FileSource
        Its offsets are its own; path and length of the whole are its too.
    spool : FileSource
        Read at ``seam`` and above.
    seam : int
        At least the length of ``file``.
    """

    def __init__(self, file: FileSource, spool: FileSource, seam: int) -> None:
        self.path: str = file.path
        self.nbytes: int = file.nbytes
        self.mapped: bool = file.mapped
        self.pinned: bool = file.pinned
        self.pins: bool = file.pins
        self.keeps: bool = file.keeps
        self.tag: str = file.tag
        self.parallel: int = file.parallel
        self._file = file
        self._spool = spool
        self._seam = seam

    def extend_tail(self, offset: int) -> None:
        """Nothing to prepare: the system reads ahead."""

    def reread(self, offset: int, nbytes: int) -> NDArray | None:
        """Return None: a disk gives the same bytes again."""
        return None

    def read(self, offset: int, nbytes: int) -> NDArray:
        """Return a range as uint8, not to be written to."""
        source, at = self._route(offset)
        return source.read(at, nbytes)

    def read_into(self, offset: int, out: NDArray) -> None:
        """Fill ``out`` from ``offset``."""
        source, at = self._route(offset)
        source.read_into(at, out)

    def stream(self, offset: int, nbytes: int, take: Take) -> None:
        """Hand over a range at once."""
        take(0, self.read(offset, nbytes))

    def private(self, offset: int, nbytes: int) -> NDArray:
        """Return a writable range that no other caller sees."""
        source, at = self._route(offset)
        return source.private(at, nbytes)

    def release(self, offset: int, nbytes: int) -> None:
        """Say that a range is not needed for now."""
        source, at = self._route(offset)
        source.release(at, nbytes)

    def share(self) -> SplicedSource:
        """Return both open files once more."""
        return SplicedSource(self._file.share(), self._spool.share(), self._seam)

    def close(self) -> None:
        """Let go of both files; views already handed out stay valid."""
        self._file.close()
        self._spool.close()

    def _route(self, offset: int) -> tuple[FileSource, int]:
        return (self._file, offset) if offset < self._seam else (self._spool, offset - self._seam)
