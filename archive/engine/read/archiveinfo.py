"""Facts about an open archive, known without reading an array byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archive.display.shortfields import ShortFields
from archive.engine.read.reader import Reader
from archive.format.constants import KINDS, NO_ALIAS, VERSION_MAJOR
from archive.format.footer import Footer

__all__ = ["Info", "info_of"]


@dataclass(frozen=True, slots=True, repr=False)
class Info(ShortFields):
    """Facts about an archive, known without reading an array byte."""

    path: str
    """Absolute path."""
    version: str
    """Format version, ``major.minor``."""
    container: str
    """Container that was saved: ``recordset``, ``recorddict`` or ``context``."""
    created: str
    """Creation time, ISO 8601 in UTC."""
    writer: str
    """Program that wrote it."""
    records: tuple[tuple[str, str, int], ...]
    """(kind, name, number of arrays) of every record."""
    arrays: int
    """Arrays, tied ones counted each."""
    array_bytes: int
    """Bytes of array data, tied arrays counted once."""
    file_bytes: int
    """Length of the file."""
    access: Literal["mmap", "pread", "remote", "cache", "h5py"]
    """``h5py``: foreign. ``remote`` despite ``cache=``: the store names no versions, or the disk is full."""
    verified: str
    """Regions checked at open, and bytes checked when handed out."""


def info_of(reader: Reader) -> Info:
    """Return the facts about an archive."""
    index = reader.index
    owners = index.alias_of == NO_ALIAS
    first = {
        "first": "an array's bytes when first handed out",
        "open": "all array bytes at open",
        "off": "nothing else",
    }
    footer = reader.footer
    return Info(
        path=reader.path,
        version=f"{VERSION_MAJOR}.{footer.minor}" if footer is not None else "",
        container=reader.values.text_of("container"),
        created=reader.values.text_of("created"),
        writer=reader.values.text_of("writer"),
        records=tuple(
            (KINDS[record.kind], record.name, int(count))
            for record, count in zip(index.records, index.record_rows["arrays"], strict=True)
        ),
        arrays=index.arrays,
        array_bytes=int(index.stored_nbytes[owners].sum()),
        file_bytes=reader.source.nbytes,
        access="h5py" if footer is None else _access(reader),
        verified="nothing: a foreign file has no digests"
        if footer is None
        else f"{_checked_at_open(reader, footer)} at open; {first[reader.verify]}",
    )


def _access(reader: Reader) -> Literal["mmap", "pread", "remote", "cache"]:
    if reader.source.pinned:
        return "cache" if reader.source.keeps else "remote"
    return "mmap" if reader.source.mapped else "pread"


def _checked_at_open(reader: Reader, footer: Footer) -> str:
    """Return which regions were checked ([FOOTER-7])."""
    if not reader.source.pinned:
        return "metadata, index and values"
    return f"index and values, not the {footer.meta_bytes} bytes of HDF5 metadata,"
