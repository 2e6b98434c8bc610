"""Writes some arrays of an archive as a file that other programs read: one layer as ``.npy`` or CSV."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from archive.engine.progress import Bar, Progress
from archive.engine.read.open import open_reader
from archive.storage.remote.staging import Spool
from archive.storage.url import URL, parse_url
from archive.tools.converting import ConvertReport, convert
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.csvtext import write
from archive.tools.formats.entries import Hasher
from archive.tools.formats.filelike import Target, require_apart

__all__ = ["extract"]


def extract(
    url: URL,
    out: URL,
    keys: str | Iterable[str | tuple[str, str]] | None = None,
    *,
    overwrite: bool = True,
    durable: bool = True,
    verify: bool = True,
    spool: Spool = True,
    progress: Progress = None,
    storage_options: Mapping[str, Any] | None = None,
    out_options: Mapping[str, Any] | None = None,
) -> ConvertReport:
    """Write arrays of an archive as ``.npy``, ``.csv``, ``.npz``, ``.safetensors`` or ``.pt``.

    Only the bytes of these arrays are read. As `convert` does, it streams, compares what was written, and
    leaves nothing half-written.

    Parameters
    ----------
    url : str or path-like
        The archive.
    out : str or path-like
        Its suffix says the format. ``.npy`` and ``.csv`` take one array; a row of CSV is a row of the array,
        or one element of an array with one axis, and each number is the shortest text that stands for it.
    keys : str or iterable, optional
        Keys and patterns as for `Archive.load`; all arrays if not given.
    overwrite, durable, verify, spool, progress, storage_options, out_options
        As for `convert`.

    Returns
    -------
    ConvertReport

    Raises
    ------
    KeyError
        No array has one of ``keys``.
    ValueRangeError
        Several arrays for a format of one; three axes for CSV.
    ArchiveError
        As for `convert`.

    Examples
    --------
    >>> import archive, numpy as np
    >>> from archive.tools import extract
    >>> _ = archive.save({"fc": np.float32([[1, 2.5], [0.1, -3]])}, "/tmp/fedarchive-extraction.h5")
    >>> report = extract("/tmp/fedarchive-extraction.h5", "/tmp/fedarchive-extraction.csv", "fc")
    >>> with open(report.url) as file:
    ...     print(file.read())
    1.0,2.5
    0.1,-3.0
    """
    source, place = parse_url(url, storage_options), parse_url(out, out_options)
    if not place.name.lower().endswith(".csv"):
        return convert(
            source,
            place,
            format="archive",
            keys=keys or "*",
            overwrite=overwrite,
            durable=durable,
            verify=verify,
            spool=spool,
            progress=progress,
        )
    require_apart(source, place)
    started = time.perf_counter()
    reader = open_reader(source, access="pread", verify="first")
    with Bar(progress, f"extracting from {source.name}") as report:
        hasher = Hasher(report)
        with ArchiveContent(reader, source, keys or "*") as content:
            write(content, Target(place, overwrite, durable, spool), hasher, verify=verify)
    return ConvertReport(
        source.display,
        place.display,
        "archive",
        "csv",
        1,
        hasher.array_bytes,
        (),
        verify,
        time.perf_counter() - started,
    )
