"""The front door: save, create, open and load check their arguments and call the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from archive.engine.archive import Archive
from archive.engine.containers import Records
from archive.engine.create import ArchiveWriter
from archive.engine.foreign import open_foreign
from archive.engine.inputs import gather
from archive.engine.load import load_records
from archive.engine.plan import timestamp
from archive.engine.progress import Bar, Progress
from archive.engine.reader import open_reader
from archive.engine.report import SaveReport
from archive.engine.saving import SaveOptions, save_inputs
from archive.records import GC_THRESHOLD
from archive.storage.spool import Spool
from archive.storage.url import URL, Cache, local_path, parse_url

__all__ = ["create", "load", "open", "save"]


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

    Parameters
    ----------
    records : RecordSet, RecordDict, ArrayRecord, mapping, list or iterable
        What to save. A mapping of names to ndarrays, torch tensors or Arrays, a list of ndarrays (keys
        ``"0"``, ``"1"``, ...) and an iterable of ``(key, array)`` become the record ``name``.
    url : str or path-like
        A local path or any URL of fsspec; the file or object is replaced at once when everything is written.
    name : str, default "model"
        Name of the record where ``records`` is not a container of named records.
    metrics, configs : mapping, optional
        Values saved beside: of one record called ``"metrics"`` or ``"configs"``, or of several by name
        (a mapping of mappings).
    keep_input : bool, default True
        False takes every array out of its record, dict or list when it is written, so that memory falls
        as the file grows; iterators are written as they come. What a failed save consumed is in
        ``NAME.partial`` (of a URL: in ``spool``), which the error names and `recover` opens.
    overwrite : bool, default True
        False raises ExistsError where a file is already there, also one that appears meanwhile.
    durable : bool, default True
        Return only when the archive survives a power cut. False leaves the writing to the system; the
        archive still appears complete or not at all, unless the machine stops.
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
        Something no archive holds; nothing was written.
    UnsupportedDtypeError, ValueRangeError
        Likewise, naming record and key. (An iterator is found out as it goes: nothing is published.)
    ExistsError, MissingError, StorageError
        The disk refused; an older file at ``url`` is untouched.

    Examples
    --------
    >>> import archive, numpy as np
    >>> report = archive.save(
    ...     {"w": np.ones((2, 3), "f4")}, "/tmp/fedarchive-doctest.h5", metrics={"loss": 0.5}
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
    >>> with archive.create("/tmp/fedarchive-doctest.h5") as writer:
    ...     for number in range(3):
    ...         writer.add("model", f"layer{number}", np.full(4, number))
    >>> archive.load("/tmp/fedarchive-doctest.h5")["model"]["layer2"].numpy().tolist()
    [2, 2, 2, 2]
    """
    location = parse_url(url, storage_options)
    return ArchiveWriter(location, overwrite=overwrite, durable=durable, created=created, spool=spool)


def open(
    url: URL,
    *,
    mode: str = "r",
    verify: str = "first",
    access: str = "auto",
    foreign: bool = False,
    cache: Cache = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Archive:
    """Open an archive without reading its arrays.

    Parameters
    ----------
    url : str or path-like
        A local path or any URL of fsspec, such as ``s3://bucket/key``.
    mode : {"r", "c"}, default "r"
        ``"r"``: ``Array.numpy()`` is a read-only view of the file's pages. ``"c"``: it is writable, and
        pages are copied when written; the file never changes.
    verify : {"first", "open", "off"}, default "first"
        Check an array's bytes when they are first handed out, all of them now, or never. Metadata and
        index are always checked; array bytes too where a store does not name versions (``memory://``,
        FTP): nothing else tells that the object was replaced meanwhile.
    access : {"auto", "mmap", "pread"}, default "auto"
        Map the file, or read it into memory of our own; ``auto`` maps unless it lies on a network file
        system.
    foreign : bool, default False
        Read the HDF5 tree of a file that is no archive (any more) through h5py: unverified.
    cache : folder or True, optional
        Of a remote URL: keep what is fetched in a sparse file of this local folder (True: FEDARCHIVE_CACHE,
        or ``fedarchive`` in the user's cache folder), and map it. What any process fetched of this version
        is not fetched again; it is checked when first handed out, also with ``verify="off"``, and fetched
        again where it does not match. Only ``fedarchive cache clear`` removes any. Nothing is kept, and
        bytes are memory, where the store has no ETag for the version or the disk is full; ``info.access``
        then says ``remote``.
    storage_options : mapping, optional
        As for `save`.

    Returns
    -------
    Archive

    Raises
    ------
    NotAnArchiveError, TruncatedError, VersionError, DamagedError, HostileFileError
        As `archive.errors` says.
    MissingError, StorageError
        The file cannot be read.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-doctest.h5")
    >>> with archive.open("/tmp/fedarchive-doctest.h5") as a:
    ...     print(a["w"].shape, a["w"][2:4])
    (6,) [2. 3.]
    """
    if mode not in ("r", "c"):
        raise TypeError(
            f'mode {mode!r}: archives are immutable, open them with "r" or "c" (copy on write) and save anew'
        )
    _one_of("verify", verify, ("first", "open", "off"))
    _one_of("access", access, ("auto", "mmap", "pread"))
    location = parse_url(url, storage_options, cache)
    if foreign:
        return Archive(open_foreign(local_path(url), access=access, writable=mode == "c"))
    handle = Archive(open_reader(location, access=access, verify=verify, writable=mode == "c"))
    if verify == "open":
        handle.require_whole()
    return handle


def load(
    url: URL,
    *,
    keys: Iterable[str | tuple[str, str]] | None = None,
    progress: Progress = None,
    cache: Cache = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Records:
    """Read an archive into private writable memory: verified, in parallel, the file is closed afterwards.

    Parameters
    ----------
    url : str or path-like
    keys : iterable of str or (record, key), optional
        Only these arrays; metrics and configs always come along.
    cache
        As for `open`.
    progress, storage_options
        As for `save`.

    Returns
    -------
    RecordSet or RecordDict
        As it was saved. ``Array.numpy()`` of its arrays is the memory itself, writable.

    Raises
    ------
    DigestError
        Bytes do not match their digest; nothing is returned.
    KeyError
        One of ``keys`` is not there.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-doctest.h5", metrics={"loss": 0.5})
    >>> records = archive.load("/tmp/fedarchive-doctest.h5")
    >>> records["model"]["w"].numpy().sum(), records["metrics"]["loss"]
    (np.float64(15.0), 0.5)
    """
    location = parse_url(url, storage_options, cache)
    if isinstance(keys, str):
        raise TypeError("keys must be an iterable of keys, not one str")
    reader = open_reader(location, access="pread", verify="first")
    try:
        with Bar(progress, f"loading {location.name}") as report:
            return load_records(reader, keys, report)
    finally:
        reader.close()


def _one_of(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
