"""Makes an archive of what a failed or killed consuming save left behind."""

from __future__ import annotations

from archive.engine.read.containers import Records
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.engine.write.seal import seal_partial
from archive.storage.url import URL, Location, local_path

__all__ = ["recover"]


def recover(partial: URL) -> Records:
    """Open what a failed or killed ``save(..., keep_input=False)`` left behind.

    Parameters
    ----------
    partial : str or path-like
        The ``NAME.partial`` that the error named, not a link. It is completed in place, and stays until you
        remove it.

    Returns
    -------
    RecordSet or RecordDict
        Every array that had arrived, verified, and read when asked for.

    Raises
    ------
    MissingError, StorageError, DamagedError
        There is no such file, or it holds nothing that can be recovered.
    """
    path = local_path(partial)
    seal_partial(path)
    handle = Archive(open_reader(Location(path), access="auto", verify="first"))
    handle.require_whole()
    return handle.records
