"""open and load check their arguments and call the engine.

Nothing of saving is imported here, and modules that few calls need are imported by these calls: a program
that opens an archive and looks at it starts in 15 ms beside numpy, with all imports in 60.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from archive.engine.progress import Bar, Progress
from archive.engine.read.containers import Records
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.storage.url import URL, Cache, local_path, parse_nbytes, parse_url

__all__ = ["Access", "Mode", "Verify", "load", "open"]

Mode = Literal["r", "c"]
Verify = Literal["first", "open", "off"]
Access = Literal["auto", "mmap", "pread"]
_MODES, _VERIFY, _ACCESS = map(get_args, (Mode, Verify, Access))


def open(
    url: URL,
    *,
    mode: Mode = "r",
    verify: Verify = "first",
    access: Access = "auto",
    foreign: bool = False,
    decoded_bytes: int | None = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
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
        FTP): only digests reveal that the object was replaced.
    access : {"auto", "mmap", "pread"}, default "auto"
        Map the file, or read it into memory of our own; ``auto`` maps unless it lies on a network file
        system.
    foreign : bool, default False
        Read the HDF5 tree of a file that is not, or no longer, an archive through h5py: unverified.
    decoded_bytes : int, optional
        Of a foreign file: bytes of compressed or converted datasets that may be decoded into a file of
        their own. If not given, 64 MiB or 20 times the length of the file, whichever is more.
    cache : folder or True, optional
        Of a remote URL: keep fetched bytes in a sparse file of this local folder (True: FEDARCHIVE_CACHE, or
        ``fedarchive`` in the user's cache folder), and map it. Bytes that any process fetched of this version
        are not fetched again; they are checked when first handed out, also with ``verify="off"``, and fetched
        again where they do not match. ``cache_bytes`` and ``fedarchive cache`` (``clear``, ``prune``) remove
        them. Nothing is kept where the store has no ETag for the version or the disk is full; ``info.access``
        then is ``remote``.
    cache_bytes : int, optional
        The most that the folder keeps. As an archive is opened and closed, files that were used longest ago
        are removed, but for those that a process reads: while archives are open the folder may keep more.
        Of an archive that is larger itself, so many bytes are kept, and the rest is fetched each time.
    storage_options : mapping, optional
        As for `save`.

    Returns
    -------
    Archive

    Raises
    ------
    NotAnArchiveError, TruncatedError, VersionError, DamagedError, HostileFileError
        As `archive.errors` says.
    UnsupportedDtypeError
        An element type for which the installed ml_dtypes is too old.
    MissingError, StorageError
        The file cannot be read.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-reading.h5")
    >>> with archive.open("/tmp/fedarchive-reading.h5") as a:
    ...     print(a["w"].shape, a["w"][2:4])
    (6,) [2. 3.]
    """
    if mode not in _MODES:
        raise TypeError(
            f'mode {mode!r}: archives are immutable, open them with "r" or "c" (copy on write) and save anew'
        )
    _one_of("verify", verify, _VERIFY)
    _one_of("access", access, _ACCESS)
    most = None if decoded_bytes is None else parse_nbytes("decoded_bytes", decoded_bytes)
    location = parse_url(url, storage_options, cache, cache_bytes)
    if foreign:
        from archive.engine.foreign.open import open_foreign  # 10 ms, for files that are not archives

        path, writable = local_path(url), mode == "c"
        return Archive(open_foreign(path, access=access, writable=writable, decoded_bytes=most))
    handle = Archive(open_reader(location, access=access, verify=verify, writable=mode == "c"))
    if verify == "open":
        handle.require_whole()
    return handle


def load(
    url: URL,
    *,
    keys: str | Iterable[str | tuple[str, str]] | None = None,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Records:
    """Read an archive into private writable memory: verified, in parallel, the file is closed afterwards.

    Parameters
    ----------
    url : str or path-like
    keys : str or iterable of str or (record, key), optional
        Only these arrays; a str may be a shell pattern (``"encoder.*"``, ``"model/*.bias"``), as for
        `Archive.load`. Metrics and configs always come along.
    cache, cache_bytes
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
        No array has one of ``keys``, or matches one of the patterns.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-reading.h5", metrics={"loss": 0.5})
    >>> records = archive.load("/tmp/fedarchive-reading.h5")
    >>> float(records["model"]["w"].numpy().sum()), records["metrics"]["loss"]
    (15.0, 0.5)
    """
    location = parse_url(url, storage_options, cache, cache_bytes)
    from archive.engine.read.load import load_records  # 2 ms that opening does without

    reader = open_reader(location, access="pread", verify="first")
    try:
        with Bar(progress, f"loading {location.name}") as report:
            return load_records(reader, keys, report)
    finally:
        reader.close()


def _one_of(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
