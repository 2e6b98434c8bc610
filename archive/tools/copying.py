"""Copies an archive byte for byte between any two places, and checks every byte on the way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from archive.engine.progress import Bar, Progress
from archive.engine.read.open import open_reader
from archive.engine.read.scan import read_whole
from archive.engine.report import SaveReport
from archive.format.constants import NO_ALIAS
from archive.storage.location import locate_sink
from archive.storage.remote.staging import Spool
from archive.storage.url import URL, Cache, parse_url

__all__ = ["copy"]


def copy(
    url: URL,
    out: URL,
    *,
    overwrite: bool = True,
    durable: bool = True,
    spool: Spool = True,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    out_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Copy an archive byte for byte; the copy appears complete and verified, or not at all.

    Parameters
    ----------
    url, out : str or path-like
        Local paths or URLs of fsspec.
    overwrite, durable, spool, progress
        As for `archive.save`.
    cache, cache_bytes
        Of ``url``, as for `archive.open`.
    storage_options, out_options : mapping, optional
        Keyword arguments of the remote file system of ``url``, and of that of ``out``.

    Returns
    -------
    SaveReport

    Raises
    ------
    NotAnArchiveError, TruncatedError, VersionError, DamagedError, HostileFileError
        ``url`` is not an archive, or its bytes are not what was saved; there is no copy.
    ReplacedError
        ``url`` was replaced meanwhile.
    ExistsError, MissingError, StorageError, UnsupportedURLError
        ``url`` cannot be read, or ``out`` cannot be written.

    Examples
    --------
    >>> import archive, numpy as np
    >>> saved = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-copying.h5")
    >>> copy("/tmp/fedarchive-copying.h5", "memory://fedarchive-doctest.h5").digest == saved.digest
    True
    """
    source, target = parse_url(url, storage_options, cache, cache_bytes), parse_url(out, out_options)
    started = time.perf_counter()
    # no map: bytes that somebody changes after they were checked would be written
    reader = open_reader(source, access="pread", verify="first")
    try:
        nbytes = reader.source.nbytes
        sink = locate_sink(
            target, overwrite=overwrite, durable=durable, push=True, nbytes=nbytes, spool=spool
        )
        try:
            sink.reserve(nbytes)
            with Bar(progress, f"copying {source.name}") as report:
                for stretch in read_whole(reader):
                    if stretch.failures:
                        remedy = "take another copy, or an earlier round; nothing was written"
                        raise stretch.failures[0].error(reader.path, remedy)
                    sink.write(stretch.data, stretch.start)
                    sink.push_to(stretch.start + len(stretch.data))
                    reader.source.release(stretch.start, len(stretch.data))
                    if report is not None:
                        report(stretch.start + len(stretch.data), nbytes)
            sink.publish()
        finally:
            sink.discard()
    finally:
        reader.close()
    index = reader.index
    return SaveReport(
        url=sink.path,
        arrays=index.arrays,
        array_bytes=int(index.stored_nbytes[index.alias_of == NO_ALIAS].sum()),
        file_bytes=nbytes,
        seconds=time.perf_counter() - started,
        digest=reader.identity.hex(),
    )
