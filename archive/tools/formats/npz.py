"""NumPy's files: ``.npz``, a zip of ``.npy``, and ``.npy`` alone.

The zip is read and written by `zipfile`, as numpy does; arrays go through it in pieces, which `numpy.savez`
and `numpy.load` cannot. Nothing is unpickled: an array of Python objects is left out.
"""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn

import numpy as np

from archive import tuning
from archive.dtypes import NDArray, is_ml_dtype
from archive.errors import ArchiveError, HostileFileError, TruncatedError, ValueRangeError
from archive.npy import NPY_BEGINNING_BYTES, NPY_MAGIC, NpyLayout, npy_header, split_npy
from archive.storage.location import locate_source
from archive.storage.protocols import Source
from archive.storage.url import Location
from archive.tools.formats.entries import Content, Entry, Hasher, LeftOut, left_of_ties, left_of_values
from archive.tools.formats.filelike import SinkFile, SourceFile, Target, stream_ranges
from archive.tools.formats.flatnames import MODEL, flat_names

__all__ = ["read_npy", "read_npz", "write_npy", "write_npz"]

BUFFER_BYTES = 4 << 20
"""What is read of the zip at a time: one request of an object."""
_AGAIN = "take another copy"
_OBJECTS = "Python objects, which are never unpickled"
_BAD = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    OSError,
    LookupError,
)
"""What `zipfile` and what it decompresses with raise for a file that is no zip, or a damaged one."""


class _Members(Content):
    """The arrays of a zip."""

    def __init__(self, source: Source, decoded_bytes: int) -> None:
        super().__init__()
        self._source = source
        self._zip = zipfile.ZipFile(io.BufferedReader(SourceFile(source), BUFFER_BYTES))
        members = self._zip.infolist()
        packed = sum(member.compress_size for member in members)
        unpacked = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
        if packed > source.nbytes:
            _refuse(source, f"members of {packed} bytes in a file of {source.nbytes}")
        if unpacked > decoded_bytes:
            raise HostileFileError(
                f"{unpacked} bytes when decompressed, more than the {decoded_bytes} that are allowed",
                path=source.path,
                remedy=f"allow them: decoded_bytes={unpacked}, --decoded-bytes {unpacked}",
            )
        for member in members:
            if member.compress_type == zipfile.ZIP_STORED and member.file_size > member.compress_size:
                _refuse(source, f"{member.file_size} bytes in {member.compress_size}", member.filename)
            self._add(member)

    def _add(self, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        with self._zip.open(member) as file:
            beginning = file.read(min(NPY_BEGINNING_BYTES, member.file_size))
        if name == member.filename or beginning[:6] != NPY_MAGIC:
            if name != member.filename:
                _refuse(self._source, "a member that is no .npy", name)
            self.left_out.append((name[:80], "a member that is no array"))
            return
        layout = _layout(self._source, beginning, member.file_size, name, self.left_out)
        if layout is not None:
            self.entries.append(_entry(name, layout, member.file_size, (member, layout.header_bytes)))

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[NDArray]]]:
        """Yield each entry with its bytes."""
        for entry in entries:
            yield entry, self._chunks(entry)

    def _chunks(self, entry: Entry) -> Iterator[NDArray]:
        member, start = entry.place
        try:
            with self._zip.open(member) as file:
                file.read(start)
                left = entry.nbytes
                while left:
                    data = file.read(min(left, tuning.SCAN_BYTES))
                    if not data:
                        raise EOFError("it ends early")
                    left -= len(data)
                    yield np.frombuffer(data, np.uint8)
                file.read(1)  # at its end `zipfile` compares the checksum
        except ArchiveError:
            raise
        except _BAD as error:
            problem = f"damaged in the zip: {error}"
            raise HostileFileError(
                problem, path=self._source.path, key=entry.key[:80], remedy=_AGAIN
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._source.close()


class _Single(Content):
    """The array of a ``.npy``."""

    def __init__(self, source: Source, name: str) -> None:
        super().__init__()
        self._source = source
        beginning = source.read(0, min(NPY_BEGINNING_BYTES, source.nbytes)).tobytes()
        layout = _layout(source, beginning, source.nbytes, name, self.left_out)
        if layout is not None:
            self.entries.append(_entry(name, layout, source.nbytes, layout.header_bytes))

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[NDArray]]]:
        """Yield the entry with its bytes."""
        for entry in entries:
            yield entry, (part for _, part in stream_ranges(self._source, [(entry.place, entry.nbytes)]))

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def read_npz(location: Location, *, decoded_bytes: int | None = None) -> Content:
    """Open a ``.npz``; its arrays are the record ``model``.

    Parameters
    ----------
    location : Location
    decoded_bytes : int, optional
        Bytes that compressed members may have; 64 MiB or 20 times the length of the file if not given.

    Raises
    ------
    HostileFileError, TruncatedError
        It is no zip of arrays, damaged, or larger than that.
    """
    source = locate_source(location, "pread")
    most = max(64 << 20, 20 * source.nbytes) if decoded_bytes is None else decoded_bytes
    with ExitStack() as undo:
        undo.callback(source.close)
        try:
            content = _Members(source, most)
        except ArchiveError:
            raise
        except _BAD as error:
            if isinstance(error.__context__, ArchiveError) and isinstance(error, zipfile.BadZipFile):
                raise error.__context__ from None  # `zipfile` takes any OSError for a bad zip
            raise HostileFileError(f"not a .npz: {error}", path=source.path, remedy=_AGAIN) from error
        undo.pop_all()
    return content


def read_npy(location: Location, *, name: str) -> Content:
    """Open a ``.npy``; its array is called by the name of the file.

    Raises
    ------
    HostileFileError, TruncatedError
    """
    source = locate_source(location, "pread")
    with ExitStack() as undo:
        undo.callback(source.close)
        content = _Single(source, name.removesuffix(".npy"))
        undo.pop_all()
    return content


def _layout(
    source: Source, beginning: bytes, nbytes: int, name: str, left_out: list[LeftOut]
) -> NpyLayout | None:
    """Return the header of a .npy; None, and what is left out, for objects."""
    try:
        return split_npy(beginning, nbytes=nbytes)
    except ValueError as error:
        if "pickled objects" in str(error):
            left_out.append((name[:80], _OBJECTS))
            return None
        kind = TruncatedError if nbytes < len(NPY_MAGIC) + 4 else HostileFileError
        raise kind(str(error), path=source.path, key=name[:80], remedy=_AGAIN) from error


def _entry(name: str, layout: NpyLayout, nbytes: int, place: Any) -> Entry:
    fortran = layout.fortran_order and len(layout.shape) > 1
    return Entry(MODEL, name, layout.dtype, layout.shape, nbytes - layout.header_bytes, place, None, fortran)


def _refuse(source: Source, problem: str, name: str | None = None) -> NoReturn:
    key = None if name is None else name[:80]
    raise HostileFileError(f"not a .npz: {problem}", path=source.path, key=key, remedy=_AGAIN)


def write_npz(content: Content, target: Target, hasher: Hasher) -> list[LeftOut]:
    """Write content as `numpy.savez` does, and return what was left out."""
    chosen, left_out = _held(content, members=True)
    names, escaped = flat_names(chosen)
    if escaped:
        left_out.append(
            ("/".join(sorted({entry.record for entry in chosen})), "records: names are RECORD/KEY")
        )
    hasher.total = sum(entry.nbytes for entry in chosen)
    with target.open() as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as made:
        for entry, chunks in content.read(chosen):
            member = zipfile.ZipInfo(f"{names[entry.name]}.npy", (1980, 1, 1, 0, 0, 0))
            with made.open(member, "w", force_zip64=True) as out:
                out.write(npy_header(_dtype(entry), entry.shape))
                for chunk in hasher.watch(entry, chunks, (MODEL, names[entry.name])):
                    out.write(chunk.data)
    return left_out


def write_npy(content: Content, target: Target, hasher: Hasher) -> list[LeftOut]:
    """Write the only array of content as `numpy.save` does, and return what was left out.

    Raises
    ------
    ValueRangeError
        There are several.
    """
    chosen, left_out = _held(content, members=False)
    if len(content.entries) != 1 or not chosen:
        raise ValueRangeError(
            f"{len(content.entries)} arrays for one .npy" if chosen else left_out[0][1],
            path=target.location.display,
            remedy="name one of its keys",
        )
    entry = chosen[0]
    hasher.total = entry.nbytes
    header = npy_header(_dtype(entry), entry.shape)
    with target.open(len(header) + entry.nbytes) as file:
        file.write(header)
        _write_chunks(content, entry, file, hasher, (MODEL, target.location.name.removesuffix(".npy")))
    return left_out


def _write_chunks(
    content: Content, entry: Entry, file: SinkFile, hasher: Hasher, name: tuple[str, str]
) -> None:
    for _, chunks in content.read([entry]):
        for chunk in hasher.watch(entry, chunks, name):
            file.write(chunk)


def _dtype(entry: Entry) -> np.dtype[Any]:
    if entry.dtype is None:
        raise TypeError("an array without elements")
    return entry.dtype


def _held(content: Content, *, members: bool) -> tuple[list[Entry], list[LeftOut]]:
    """Return what numpy's files hold, and what they do not; of arrays that are members of a zip by name."""
    left_out: list[LeftOut] = []
    chosen: list[Entry] = []
    for entry in content.entries:
        if entry.dtype is None or is_ml_dtype(entry.dtype):
            left_out.append(("/".join(entry.name), f"numpy names no {entry.dtype or 'such bytes'}"))
        elif members and "\0" in "".join(entry.name):
            left_out.append(("/".join(entry.name), "a zip ends names at NUL"))
        else:
            chosen.append(entry)
    return chosen, left_out + left_of_ties(chosen) + left_of_values(content)
