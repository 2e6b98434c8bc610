"""save and create check their arguments and call the engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from archive.engine.progress import Bar, Progress
from archive.engine.report import SaveReport
from archive.engine.write.create import ArchiveWriter
from archive.engine.write.inputs import gather
from archive.engine.write.plan import timestamp
from archive.engine.write.saving import SaveOptions, save_inputs
from archive.records import GC_THRESHOLD
from archive.storage.remote.staging import Spool
from archive.storage.url import URL, parse_url

__all__ = ["create", "save"]


def save(
    records: Any,
    url: URL,
    *,
    name: str = "model",
    metrics: Mapping[str, Any] | None = None,
    configs: Mapping[str, Any] | None = None,
    keep_input: bool = True,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    gc_threshold: int = GC_THRESHOLD,
    progress: Progress = None,
    spool: Spool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> SaveReport:
    """Save records as one archive, which appears complete or not at all.

    Arrays that another thread changes meanwhile may be saved partly old, partly new; the archive verifies.

    Parameters
    ----------
    records : RecordSet, RecordDict, ArrayRecord, mapping, list or iterable
        What to save. A mapping of names to ndarrays, torch tensors or Arrays, a list of ndarrays (keys
        ``"0"``, ``"1"``, ...) and an iterable of ``(key, array)`` become the record ``name``.
    url : str or path-like
        A local path or any URL of fsspec; the file or object is replaced at once when everything is written.
        A new file follows the umask. A file that is replaced hands on its owner, group, mode, access control
        list and extended attributes, as far as the process may set them. Pipes, sockets and devices are not
        replaced; links are followed, in a folder that all may write to only one's own and those of root.
    name : str, default "model"
        Name of the record where ``records`` is not a container of named records.
    metrics, configs : mapping, optional
        Values saved beside: of one record called ``"metrics"`` or ``"configs"``, or of several by name
        (a mapping of mappings). Numpy scalars, and ndarrays and tensors without axes, are the number they
        hold.
    keep_input : bool, default True
        False takes every array out of its record, dict or list when it is written, so that memory falls
        as the file grows; iterators are written as they come. What a failed save consumed is in
        ``NAME.partial`` (of a URL: in ``spool``), which the error names and `recover` opens. The file
        of either is written to the disk as it grows: at most 64 MiB of it stay in the page cache.
    overwrite : bool, default True
        False raises ExistsError where a file exists, also one that appears meanwhile. On a file system
        without exclusive renames and hard links (exFAT, mounts of object stores) it sees the saves of this
        machine with ``overwrite=False``; others it may replace.
    durable : bool, default True
        Return only when the archive survives a power cut. False leaves the writing to the system (of
        iterators and with ``keep_input=False`` that of the last 64 MiB); the archive still appears complete
        or not at all, unless the machine stops.
    created : datetime or ISO 8601 str, optional
        Creation time; now if not given. Equal input and equal ``created`` give equal bytes.
    gc_threshold : int
        Bytes consumed between two garbage collections with ``keep_input=False``.
    progress : True or callable, optional
        True draws a bar (needs tqdm); a callable gets (bytes written, bytes in all).
    spool : bool or folder, default True
        For remote URLs. Where the store takes no uploads in parts, and with ``keep_input=False``, the archive
        is written to a local file first, in this folder or that for temporary files. False declines: the
        first then takes memory for the whole archive, and the second **loses** what a failed save consumed.
    storage_options : mapping, optional
        Keyword arguments of the remote file system, such as ``endpoint_url`` or ``anon``.

    Returns
    -------
    SaveReport

    Raises
    ------
    TypeError, ValueError
        A value that no archive can hold; nothing was written.
    UnsupportedDtypeError, ValueRangeError
        Likewise, with record and key. (For an iterator this is detected while streaming: nothing is
        published.)
    ExistsError, MissingError, StorageError
        The disk refused; an older file at ``url`` is untouched.

    Examples
    --------
    >>> import archive, numpy as np
    >>> report = archive.save(
    ...     {"w": np.ones((2, 3), "f4")}, "/tmp/fedarchive-writing.h5", metrics={"loss": 0.5}
    ... )
    >>> report.arrays, report.array_bytes
    (1, 24)
    """
    location = parse_url(url, storage_options)
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    inputs = gather(records, name, metrics, configs)
    with Bar(progress, f"saving {location.name}") as report:
        options = SaveOptions(
            location, timestamp(created), overwrite, durable, keep_input, spool, gc_threshold, report
        )
        return save_inputs(inputs, options)


def create(
    url: URL,
    *,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    spool: Spool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> ArchiveWriter:
    """Write an archive array by array, or an array piece by piece.

    Tied weights are stored once where `ArchiveWriter.tie` gives the second its name; two calls of
    `ArchiveWriter.add` store them twice (``help(archive.types.ArchiveWriter)``).

    Parameters
    ----------
    url, overwrite, durable, created, spool, storage_options
        As for `save`.

    Returns
    -------
    ArchiveWriter
        To be used in a ``with`` statement: the archive appears when its block ends, and not at all
        after an exception.

    Examples
    --------
    >>> import archive, numpy as np
    >>> with archive.create("/tmp/fedarchive-writing.h5") as writer:
    ...     for number in range(3):
    ...         writer.add("model", f"layer{number}", np.full(4, number))
    ...     writer.tie("model", "head", ("model", "layer0"))
    >>> archive.load("/tmp/fedarchive-writing.h5")["model"]["layer2"].numpy().tolist()
    [2, 2, 2, 2]
    """
    location = parse_url(url, storage_options)
    return ArchiveWriter(location, overwrite=overwrite, durable=durable, created=created, spool=spool)
