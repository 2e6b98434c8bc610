"""Converts safetensors, NumPy's, torch's and Keras's files and any HDF5 to archives, and archives to them."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from archive.engine.progress import Bar, Progress
from archive.engine.read.open import open_reader
from archive.engine.write.create import ArchiveWriter
from archive.format.constants import STATE_RECORD
from archive.storage.remote.staging import Spool
from archive.storage.url import URL, Location, parse_mixed, parse_url
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.entries import Content, Hasher, LeftOut, compare
from archive.tools.formats.filelike import Target, require_apart
from archive.tools.formats.flatnames import choose
from archive.tools.formats.intake import renamed, require_distinct, write_content
from archive.tools.formats.kinds import (
    INDEX_SUFFIX,
    FileFormat,
    formats_of,
    is_index,
    open_content,
    writer_of,
)
from archive.tools.many import require_errors
from archive.tools.statetrees import StateTree

__all__ = ["ConvertReport", "convert"]


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What was converted."""

    source: str
    """Path or URL that was read."""
    url: str
    """Path or URL that was written."""
    format: str
    """FileFormat that was read: ``archive``, ``safetensors``, ``npz``, ..."""
    to: str
    """FileFormat that was written."""
    arrays: int
    """Arrays that were written."""
    array_bytes: int
    """Bytes of their elements; those of tied arrays are counted for each."""
    left_out: tuple[tuple[str, str], ...]
    """(name, reason) of everything in the source that the target does not hold."""
    verified: bool
    """Whether every array was read back from the target and compared."""
    seconds: float
    """Wall-clock time."""

    @property
    def lossless(self) -> bool:
        """Whether nothing was left out."""
        return not self.left_out


@dataclass(frozen=True, slots=True)
class _Job:
    """Arguments of one conversion."""

    source: Location
    target: Target
    kinds: tuple[str, str]
    """FileFormat that is read, and format that is written."""
    keys: str | Iterable[str | tuple[str, str]] | None
    names: list[str] | None
    verify: bool
    decoded_bytes: int | None
    shard_bytes: int | None
    errors: Literal["raise", "skip"]


def convert(
    url: URL,
    out: URL,
    *,
    format: FileFormat | None = None,  # noqa: A002 the word of the field
    to: FileFormat | None = None,
    keys: str | Iterable[str | tuple[str, str]] | None = None,
    names: URL | Iterable[str] | None = None,
    overwrite: bool = True,
    durable: bool = True,
    verify: bool = True,
    shard_bytes: int | None = None,
    decoded_bytes: int | None = None,
    errors: Literal["raise", "skip"] = "raise",
    spool: Spool = True,
    progress: Progress = None,
    storage_options: Mapping[str, Any] | None = None,
    out_options: Mapping[str, Any] | None = None,
) -> ConvertReport:
    """Convert a file of another format to an archive, or an archive to one.

    Elements stream through a few megabytes of memory, from and to local files and objects. What was written
    is read back and compared, a file before it takes the place of an older one, an object after. It appears
    complete or not at all; the report lists what it cannot hold.

    Parameters
    ----------
    url, out : str or path-like
        Local paths or URLs of fsspec; one of them is an archive. ``url`` may be the folder in which Flower's
        ``round-N-weights.npz`` lie, and ``out`` then is the folder of a `CheckpointStore`. A round of it that
        has the arrays of its file is done: the same call goes on after one that failed.
    format, to : str, optional
        ``archive``, ``safetensors``, ``npz``, ``npy``, ``pt``, ``keras``, ``hdf5``, ``rounds``; by suffix if
        not given. ``.safetensors.index.json`` is a model in shards, and ``.weights.h5`` one of Keras; any
        HDF5 file that is not an archive is ``hdf5``, which is only read.
    keys : str or iterable, optional
        Only these arrays, and neither metrics nor configs; keys and patterns as for `Archive.load`.
    names : iterable of str, or path or URL of an archive, optional
        Of a ``.npz`` of ``numpy.savez(file, *arrays)``: the names of ``arr_0``, ``arr_1``, ...
    overwrite, durable, spool, progress
        As for `archive.save`. Shards are never overwritten.
    verify : bool, default True
        False does not read back what was written.
    shard_bytes : int, optional
        Bytes of elements in a shard of safetensors, at most, but for an array that is larger; 5 GB if not
        given.
    decoded_bytes : int, optional
        Bytes that compressed arrays of ``url`` may have, as for `archive.open`.
    errors : {"raise", "skip"}, default "raise"
        What a bad file in a folder of rounds does: it ends the call, before a round is saved where opening it
        tells; or its round is left out, and ``left_out`` names it.
    storage_options, out_options : mapping, optional
        Keyword arguments of the remote file system of ``url``, and of that of ``out``.

    Returns
    -------
    ConvertReport

    Raises
    ------
    HostileFileError, TruncatedError
        ``url`` breaks a rule of its format, or is cut; nothing was written.
    DamagedError
        What was read back is not what was written: an older file is still there, an older object is not. Or
        an archive's bytes are not what was saved.
    UnsupportedURLError
        No suffix says the format, or neither side is an archive.
    ValueRangeError, UnsupportedDtypeError
        A name or type that the other side cannot hold, and that cannot be left out; ``out`` is ``url``.
    KeyError
        No array has one of ``keys``.
    ReplacedError
        ``url`` was written to while it was read.
    ExistsError, MissingError, StorageError

    Examples
    --------
    >>> import archive, numpy as np
    >>> from archive.tools import convert
    >>> np.savez("/tmp/fedarchive-converting.npz", w=np.ones((2, 3), "f4"), b=np.zeros(3))
    >>> report = convert("/tmp/fedarchive-converting.npz", "/tmp/fedarchive-converting.h5")
    >>> report.arrays, report.array_bytes, report.left_out, report.verified
    (2, 48, (), True)
    >>> report = convert("/tmp/fedarchive-converting.h5", "/tmp/fedarchive-converting.safetensors", keys="w")
    >>> report.to, report.arrays
    ('safetensors', 1)
    """
    source, place = parse_url(url, storage_options), parse_url(out, out_options)
    started = time.perf_counter()
    kind, target_kind = formats_of(source, place, format, to)
    _require_sense(source, place, (kind, target_kind), keys, shard_bytes, errors)
    job = _Job(
        source,
        Target(place, overwrite, durable, spool),
        (kind, target_kind),
        keys,
        _names(names, storage_options),
        verify,
        decoded_bytes,
        shard_bytes,
        errors,
    )
    with Bar(progress, f"converting {source.name}") as report:
        hasher = Hasher(report, passes=1 + verify)
        if kind == "rounds":
            left_out = _import_rounds(job, hasher)
        elif kind == "archive":
            left_out = _export(job, hasher)
        else:
            left_out = _import(job, hasher)
    found = hasher.found.values()
    return ConvertReport(
        source.display,
        place.display,
        kind,
        target_kind,
        len(found),
        hasher.array_bytes,
        tuple(left_out),
        verify,
        time.perf_counter() - started,
    )


def _require_sense(
    source: Location,
    place: Location,
    kinds: tuple[str, str],
    keys: object,
    shard_bytes: int | None,
    errors: str,
) -> None:
    """Raise for arguments that this conversion cannot heed."""
    if shard_bytes is not None and kinds[1] != "safetensors":
        raise ValueError(f"shard_bytes is of safetensors, not of {kinds[1]}")
    if shard_bytes is not None and (shard_bytes < 1 or not is_index(place.name)):
        raise ValueError(f"shard_bytes is a number of bytes, and of a {INDEX_SUFFIX}, not of {place.name}")
    if keys is not None and kinds[0] == "rounds":
        raise ValueError("keys is of one file; of a folder of rounds all arrays are converted")
    require_errors(errors, ("raise", "skip"))
    if errors == "skip" and kinds[0] != "rounds":
        raise ValueError("errors is of a folder of rounds; of one file nothing is left out")
    if kinds[0] != "rounds":  # whose store may lie in the folder of its files
        require_apart(source, place)


def _names(names: URL | Iterable[str] | None, options: Mapping[str, Any] | None) -> list[str] | None:
    """Return the names that were given, or the keys of the archive that was."""
    if names is None:
        return None
    if isinstance(names, (str, os.PathLike)):
        location = parse_mixed(names, options)
        with ArchiveContent(open_reader(location, access="pread", verify="first"), location) as content:
            return [entry.key for entry in content.entries]
    return list(names)


def _export(job: _Job, hasher: Hasher) -> list[LeftOut]:
    """Write an archive as a file of another format."""
    write = writer_of(job.kinds[1], job.shard_bytes)
    reader = open_reader(job.source, access="pread", verify="first")
    goal = job.target.location

    def check(place: Location) -> None:
        with open_content(place, job.kinds[1], name=goal.name) as back:
            _require_same(hasher, back, goal)

    target = replace(job.target, check=check) if job.verify else job.target
    with ArchiveContent(reader, job.source, job.keys) as content:
        left_out = [] if job.kinds[1] == "pt" else _without_state(content, job.source.display)
        left_out += [*content.left_out, *write(content, target, hasher)]
    return left_out


def _without_state(content: Content, path: str) -> list[LeftOut]:
    """Take the tree of a saved state out of content: torch's format alone holds one."""
    values = content.configs.pop(STATE_RECORD, None)
    if values is None or StateTree(values, path).flat:
        return []
    return [(STATE_RECORD, "the nesting of a saved state, and its values that are no arrays")]


def _import(job: _Job, hasher: Hasher) -> list[LeftOut]:
    """Write a file of another format as an archive."""
    with open_content(job.source, job.kinds[0], job.decoded_bytes) as content:
        if job.names is not None:
            content.entries = renamed(content.entries, job.names, job.source)
        content.entries = choose(content.entries, job.keys)
        if job.keys is not None:
            content.metrics, content.configs, content.attributes = {}, {}, {}
        require_distinct(content, job.source)
        hasher.total = sum(entry.nbytes for entry in content.entries)

        def check(place: Location) -> None:
            reader = open_reader(place, access="pread", verify="first")
            with ArchiveContent(reader, place) as back:
                _require_same(hasher, back, job.target.location)

        target = replace(job.target, check=check) if job.verify else job.target
        with ArchiveWriter(
            target.location,
            overwrite=target.overwrite,
            durable=target.durable,
            created=None,
            spool=target.spool,
            publish=target.publish,
        ) as writer:
            write_content(content, writer, hasher)
            content.require_unchanged()
    return content.left_out


def _import_rounds(job: _Job, hasher: Hasher) -> list[LeftOut]:
    """Save the files of a folder as rounds of a store."""
    rounds = importlib.import_module("archive.checkpoints.npzrounds")
    left_out: list[LeftOut] = rounds.convert_rounds(
        job.source,
        job.target.location,
        job.names,
        hasher,
        verify=job.verify,
        decoded_bytes=job.decoded_bytes,
        errors=job.errors,
    )
    return left_out


def _require_same(hasher: Hasher, back: Content, location: Location) -> None:
    """Read back what was written, and compare it."""
    again = Hasher(hasher.report, hasher.total, hasher.done, passes=hasher.passes)
    again.watch_all(back)
    compare(hasher.found, again.found, location.display)
