"""Makes an archive of an HDF5 file that another tool changed or wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archive import reading, writing
from archive.engine.progress import Progress
from archive.engine.report import SaveReport
from archive.storage.url import URL

__all__ = ["reindex"]


def reindex(
    url: URL,
    out: URL | None = None,
    *,
    decoded_bytes: int | None = None,
    progress: Progress = None,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Make an archive of an HDF5 file that another tool repacked, grew or wrote.

    Parameters
    ----------
    url : str or path-like
        The HDF5 file, read as ``open(url, foreign=True)`` reads it.
    out : str or path-like, optional
        Where the archive goes; ``url`` itself if not given, replaced at once.
    decoded_bytes : int, optional
        As for `open`.
    progress
        As for `save`.
    storage_options : mapping, optional
        Keyword arguments of the file system that a remote ``out`` is on.

    Returns
    -------
    SaveReport
    """
    with reading.open(url, foreign=True, decoded_bytes=decoded_bytes) as handle:
        created = handle.info.created or None
        records = handle.context if handle.info.container == "context" else handle.records
        return writing.save(
            records,
            url if out is None else out,
            created=created,
            progress=progress,
            storage_options=storage_options,
        )
