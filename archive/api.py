"""The front door: functions that check their arguments and call the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from archive.engine.archive import Archive
from archive.engine.containers import Records
from archive.engine.create import ArchiveWriter
from archive.engine.foreign import open_foreign
from archive.engine.inputs import gather
from archive.engine.load import load_records
from archive.engine.mean import average
from archive.engine.plan import timestamp
from archive.engine.progress import Bar, Progress
from archive.engine.reader import open_reader
from archive.engine.report import SaveReport, VerifyReport
from archive.engine.saving import SaveOptions, save_inputs, seal_partial
from archive.records import GC_THRESHOLD
from archive.storage.url import URL, Location, local_path, parse_url

__all__ = ["create", "load", "mean", "open", "recover", "reindex", "save", "verify"]


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
        ``NAME.partial``, which the error names and `recover` opens.
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
            location, timestamp(created), overwrite, durable, keep_input, gc_threshold, report
        )
        return save_inputs(inputs, options)


def create(
    url: URL,
    *,
    overwrite: bool = True,
    durable: bool = True,
    created: datetime | str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> ArchiveWriter:
    """Write an archive array by array, or an array piece by piece.

    Parameters
    ----------
    url, overwrite, durable, created, storage_options
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
    return ArchiveWriter(
        parse_url(url, storage_options), overwrite=overwrite, durable=durable, created=created
    )


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
    with ExitStack() as stack:
        locations = [parse_url(url, storage_options) for url in urls]
        handles = [
            stack.enter_context(Archive(open_reader(location, access="auto", verify="first")))
            for location in locations
        ]
        shares = [1.0] * len(handles) if weights is None else [float(weight) for weight in weights]
        report = stack.enter_context(Bar(progress, "averaging"))
        writer = ArchiveWriter(
            parse_url(out, storage_options), overwrite=overwrite, durable=durable, created=created
        )
        with writer:
            average(handles, shares, writer, report)
    return writer.report


def recover(partial: URL) -> Records:
    """Open what a failed or killed ``save(..., keep_input=False)`` left behind.

    Parameters
    ----------
    partial : str or path-like
        The ``NAME.partial`` that the error named. It is completed in place, and stays until you remove it.

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


def open(
    url: URL,
    *,
    mode: str = "r",
    verify: str = "first",
    access: str = "auto",
    foreign: bool = False,
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
        index are always checked.
    access : {"auto", "mmap", "pread"}, default "auto"
        Map the file, or read it into memory of our own; ``auto`` maps unless it lies on a network file
        system.
    foreign : bool, default False
        Read the HDF5 tree of a file that is no archive (any more) through h5py: unverified.
    storage_options : mapping, optional
        Keyword arguments of the remote file system, such as ``endpoint_url`` or ``anon``.

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
    location = parse_url(url, storage_options)
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
    storage_options: Mapping[str, Any] | None = None,
) -> Records:
    """Read an archive into private writable memory: verified, in parallel, the file is closed afterwards.

    Parameters
    ----------
    url : str or path-like
    keys : iterable of str or (record, key), optional
        Only these arrays; metrics and configs always come along.
    progress : True or callable, optional
        As for `save`.
    storage_options : mapping, optional
        Keyword arguments of the remote file system, such as ``endpoint_url`` or ``anon``.

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
    location = parse_url(url, storage_options)
    if isinstance(keys, str):
        raise TypeError("keys must be an iterable of keys, not one str")
    reader = open_reader(location, access="pread", verify="first")
    try:
        with Bar(progress, f"loading {location.name}") as report:
            return load_records(reader, keys, report)
    finally:
        reader.close()


def verify(
    url: URL, *, progress: Progress = None, storage_options: Mapping[str, Any] | None = None
) -> VerifyReport:
    """Read every byte of an archive and compare it with its digest.

    Returns
    -------
    VerifyReport
        Damaged arrays are listed, not raised.

    Raises
    ------
    NotAnArchiveError, TruncatedError, VersionError, DamagedError, HostileFileError
        The file cannot even be opened.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-doctest.h5")
    >>> bool(archive.verify("/tmp/fedarchive-doctest.h5"))
    True
    """
    location = parse_url(url, storage_options)
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
    progress : True or callable, optional
        As for `save`.

    Returns
    -------
    SaveReport
    """
    with open(url, foreign=True) as handle:
        created = handle.info.created or None
        records = handle.context if handle.info.container == "context" else handle.records
        return save(records, url if out is None else out, created=created, progress=progress)


def _one_of(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
