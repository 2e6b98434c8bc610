"""What is done with whole archives: verified, averaged, recovered, made of other files, copied."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from archive import reading, writing
from archive.engine.progress import Bar, Progress
from archive.engine.read.containers import Records
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.engine.report import SaveReport, VerifyReport
from archive.engine.write.create import ArchiveWriter
from archive.engine.write.seal import seal_partial
from archive.storage.url import URL, Cache, Location, local_path, parse_url
from archive.tools.average import average
from archive.tools.copy import copy

__all__ = ["copy", "mean", "recover", "reindex", "verify"]


def mean(
    urls: Iterable[URL],
    weights: Iterable[float] | None = None,
    *,
    out: URL,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    progress: Progress = None,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Average archives of equal schema into a new one, in a few megabytes of memory.

    Parameters
    ----------
    urls : iterable of str or path-like
        Archives whose arrays have the same names, dtypes and shapes.
    weights : iterable of float, optional
        One for each, not negative; equal weights if not given.
    out : str or path-like
        Where the mean goes. Metrics and configs are not averaged and not taken over.
    overwrite, durable, created, progress, storage_options
        As for `save`.

    Returns
    -------
    SaveReport

    Raises
    ------
    ValueError
        The archives differ in schema, or the weights make no mean.
    DigestError
        An input is damaged; nothing is published.

    Notes
    -----
    Products and sums are float64 (complex128, or longdouble for longdouble), rounded once to the input's
    dtype. Integers are rounded half to even. Arrays that are no numbers must be equal everywhere.

    Examples
    --------
    >>> import archive, numpy as np
    >>> for client in (1, 3):
    ...     _ = archive.save({"w": np.full(2, client, "f4")}, f"/tmp/fedarchive-doctest-{client}.h5")
    >>> urls = ["/tmp/fedarchive-doctest-1.h5", "/tmp/fedarchive-doctest-3.h5"]
    >>> _ = archive.mean(urls, [1, 3], out="/tmp/fedarchive-doctest.h5")
    >>> archive.load("/tmp/fedarchive-doctest.h5")["model"]["w"].numpy().tolist()
    [2.5, 2.5]
    """
    if isinstance(urls, (str, os.PathLike)):
        raise TypeError("mean takes a list of archives, not one path; glob.glob() makes one of a pattern")
    with ExitStack() as stack:
        readers = (open_reader(_locate(url, storage_options), access="auto", verify="first") for url in urls)
        handles = [stack.enter_context(Archive(reader)) for reader in readers]
        shares = [1.0] * len(handles) if weights is None else [float(weight) for weight in weights]
        report = stack.enter_context(Bar(progress, "averaging"))
        location = _locate(out, storage_options)
        writer = ArchiveWriter(location, overwrite=overwrite, durable=durable, created=created)
        with writer:
            average(handles, shares, writer, report)
    return writer.report


def recover(partial: URL) -> Records:
    """Open what a failed or killed ``save(..., keep_input=False)`` left behind.

    Parameters
    ----------
    partial : str or path-like
        The ``NAME.partial`` that the error named, no link to it. It is completed in place, and stays until
        you remove it.

    Returns
    -------
    RecordSet or RecordDict
        Every array that had arrived, verified; they are read when they are asked for.

    Raises
    ------
    MissingError, StorageError, DamagedError
        There is no such file, or it holds nothing that can be brought back.
    """
    path = local_path(partial)
    seal_partial(path)
    handle = Archive(open_reader(Location(path), access="auto", verify="first"))
    handle.require_whole()
    return handle.records


def verify(
    url: URL,
    *,
    progress: Progress = None,
    cache: Cache = None,
    storage_options: Mapping[str, Any] | None = None,
) -> VerifyReport:
    """Read every byte of an archive and compare it with its digest.

    With ``cache``, as for `open`, what is kept there is read there, and fetched again where it does not
    match.

    Returns
    -------
    VerifyReport
        Damaged arrays are listed, not raised.

    Raises
    ------
    As `open`, where the file cannot even be opened.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-doctest.h5")
    >>> bool(archive.verify("/tmp/fedarchive-doctest.h5"))
    True
    """
    location = parse_url(url, storage_options, cache)
    with (
        Archive(open_reader(location, access="auto", verify="first")) as handle,
        Bar(progress, f"verifying {location.name}") as report,
    ):
        return handle.verify(progress=report)


def reindex(url: URL, out: URL | None = None, *, progress: Progress = None) -> SaveReport:
    """Make an archive of an HDF5 file that another tool repacked, grew or wrote.

    Parameters
    ----------
    url : str or path-like
        The HDF5 file, read as ``open(url, foreign=True)`` reads it.
    out : str or path-like, optional
        Where the archive goes; ``url`` itself if not given, replaced at once.
    progress
        As for `save`.

    Returns
    -------
    SaveReport
    """
    with reading.open(url, foreign=True) as handle:
        created = handle.info.created or None
        records = handle.context if handle.info.container == "context" else handle.records
        return writing.save(records, url if out is None else out, created=created, progress=progress)


def _locate(url: URL, storage_options: Mapping[str, Any] | None) -> Location:
    """Return the location of one URL of several, whose options are not for local ones among them."""
    location = parse_url(url)
    return parse_url(url, storage_options) if location.remote else location
