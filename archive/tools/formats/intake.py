"""Writes content of any format into an archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from archive.dtypes import NDArray
from archive.engine.storagespec import elements_spec
from archive.engine.write.create import ArchiveWriter
from archive.engine.write.inputs import unstorable
from archive.errors import HostileFileError, ValueRangeError
from archive.storage.url import Location
from archive.tools.formats.archives import ArchiveContent
from archive.tools.formats.entries import ArraysContent, Content, Entry, Hasher, chunks_of

__all__ = ["renamed", "require_distinct", "write_content"]


def write_content(content: Content, writer: ArchiveWriter, hasher: Hasher) -> None:
    """Write all of a content into an archive; arrays that share their bytes are tied."""
    first: dict[object, Entry] = {}
    for entry, chunks in content.read(content.entries):
        tied = None if entry.identity is None or not entry.nbytes else first.get(entry.identity)
        if tied is not None and (tied.dtype, tied.shape) == (entry.dtype, entry.shape):
            for _ in hasher.watch(entry, chunks):
                pass
            writer.tie(*entry.name, tied.name)
            continue
        if entry.identity is not None:
            first[entry.identity] = entry
        _add(content, entry, chunks, writer, hasher)
    for name, values in content.metrics.items():
        writer.metrics[name] = values
    for name, values in content.configs.items():
        writer.configs[name] = values
    writer.attributes |= content.attributes


def _add(
    content: Content, entry: Entry, chunks: Iterator[NDArray], writer: ArchiveWriter, hasher: Hasher
) -> None:
    """Write one array: in pieces where it is stored as it comes."""
    is_text = entry.dtype is not None and entry.dtype.kind == "U"
    if isinstance(content, ArchiveContent) and not is_text:  # text is stored as UTF-8, and comes as elements
        writer.add_stored(*entry.name, content.spec(entry), hasher.watch(entry, chunks), None)
        return
    plain = entry.dtype is not None and not is_text and not entry.fortran
    if isinstance(content, ArraysContent):
        plain = plain and entry.place.numpy().flags.c_contiguous
    if plain and entry.dtype is not None:
        try:
            spec = elements_spec(entry.dtype, entry.shape, False)
        except (TypeError, ValueError) as error:
            raise unstorable(error, entry.name) from error
        writer.add_stored(*entry.name, spec, hasher.watch(entry, chunks), None)
        return
    elements = None if isinstance(content, ArraysContent) else entry.assemble(chunks)
    writer.add(*entry.name, entry.place if elements is None else elements)
    for _ in hasher.watch(entry, chunks if elements is None else chunks_of(elements)):
        pass


def renamed(entries: list[Entry], names: list[str], location: Location) -> list[Entry]:
    """Return entries ``arr_0``, ``arr_1``, ... under their names.

    Raises
    ------
    ValueRangeError
        There are more or fewer.
    """
    wanted = [f"arr_{number}" for number in range(len(names))]
    if sorted(entry.key for entry in entries) != sorted(wanted):
        raise ValueRangeError(
            f"{len(names)} names for {len(entries)} arrays, which have to be called arr_0, arr_1, ...",
            path=location.display,
            remedy="give the names of all arrays, in their order",
        )
    by_key = dict(zip(wanted, names, strict=True))
    order = {key: number for number, key in enumerate(wanted)}
    return [
        replace(entry, key=by_key[entry.key]) for entry in sorted(entries, key=lambda entry: order[entry.key])
    ]


def require_distinct(content: Content, location: Location) -> None:
    """Raise HostileFileError where two arrays have one name."""
    seen: set[tuple[str, str]] = set()
    for entry in content.entries:
        if entry.name in seen:
            raise HostileFileError(
                "two arrays of one name",
                path=location.display,
                key="/".join(entry.name),
                remedy="rename one of them",
            )
        seen.add(entry.name)
