"""The file of a catalogue: read where it is sound, and written whole."""

from __future__ import annotations

import contextlib
import errno

from archive import reading, tuning, writing
from archive.checkpoints.catalogue import Catalogue, make_catalogue
from archive.checkpoints.filetable import ARRAYS
from archive.checkpoints.roundfile import GONE, UNREADABLE
from archive.checkpoints.tablecheck import parse_table
from archive.engine.read.open import open_reader
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, ExistsError, HostileFileError, TruncatedError, VersionError
from archive.format.constants import KIND_CONFIGS
from archive.format.index import RecordName
from archive.records import Array, ArrayRecord, RecordSet
from archive.storage.folder import make_place
from archive.storage.location import locate_source
from archive.storage.url import Location
from archive.tools.spelling import CATALOGUE, CATALOGUE_RECORD

__all__ = [
    "digest_of",
    "find_catalogue",
    "read_catalogue",
    "write_catalogue",
]

VERSION = 1


def read_catalogue(location: Location, *, clients: bool) -> tuple[Catalogue, str, int]:
    """Return a catalogue, the digest of its file, and the length of it.

    Parameters
    ----------
    location : Location
    clients : bool
        With the files of clients, which are the longer part.

    Raises
    ------
    ArchiveError
        The file is missing, damaged, of another version, or not a catalogue.
    """
    parts = ("rounds", "clients") if clients else ("rounds",)
    with reading.open(location, access="auto" if location.remote else "pread") as handle:
        path, nbytes = handle._reader.path, handle._reader.source.nbytes
        mark = handle.records.config_records.get(CATALOGUE_RECORD)
        if mark is None or mark.get("version") != VERSION:
            raise VersionError(
                "not a catalogue of a run that this version reads", path=path, key=CATALOGUE_RECORD
            )
        if nbytes > tuning.CATALOGUE_MOST_BYTES:
            raise HostileFileError(f"a catalogue of {nbytes} bytes", path=path)
        wanted = [(part, name) for part in parts for name in ARRAYS]
        try:
            records = handle.load(keys=wanted).array_records
            tables = [
                parse_table({name: records[part][name].numpy() for name in ARRAYS}, path) for part in parts
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise HostileFileError(f"a catalogue with other arrays: {error}", path=path) from error
        return make_catalogue(*tables, path=path), handle._reader.identity.hex(), nbytes


def write_catalogue(folder: Location, catalogue: Catalogue) -> SaveReport:
    """Write a catalogue into the folder of a run; it replaces another, and nothing else.

    The file is not synced: a power cut may leave a file whose digests fail, and readers pass over that.

    Raises
    ------
    ArchiveError
        The file cannot be written.
    """
    place = make_place(folder.path, CATALOGUE, folder.options)
    tables = {"rounds": catalogue.rounds, "clients": catalogue.clients}
    records = RecordSet()
    for part, table in tables.items():
        records[part] = ArrayRecord(
            {name: Array.from_numpy_ndarray(column) for name, column in table.arrays().items()}
        )
    return writing.save(
        records,
        place,
        configs={CATALOGUE_RECORD: {"version": VERSION}},
        durable=False,
        storage_options=folder.options if folder.remote else None,
    )


def digest_of(location: Location) -> str:
    """Return the digest of the catalogue in a file; empty where it is missing, or a rest of one.

    Raises
    ------
    ExistsError
        Somebody's file has its name.
    ArchiveError
        The file cannot be read.
    """
    try:
        reader = open_reader(location, access="pread", verify="first")
    except (TruncatedError, *GONE):
        return ""
    except UNREADABLE as error:
        if not _is_left(location):
            raise _taken("a file", location) from error
        return ""
    with contextlib.closing(reader):
        if RecordName(KIND_CONFIGS, CATALOGUE_RECORD) not in reader.index.records:
            raise _taken("an archive", location)
        return reader.identity.hex()


def _is_left(location: Location) -> bool:
    """Return whether what cannot be read was a catalogue: it has its mark, or a power cut left zeros."""
    try:
        with contextlib.closing(locate_source(location, "pread")) as source:
            content = bytes(source.read(0, min(source.nbytes, tuning.CATALOGUE_MOST_BYTES)))
    except GONE:
        return True
    return CATALOGUE_RECORD.encode() in content or not content.strip(b"\0")


def _taken(what: str, location: Location) -> ExistsError:
    return ExistsError(
        f"{what} has the name of the catalogue, and no catalogue is written",
        path=location.display,
        errno=errno.EEXIST,
        remedy="give it another name",
    )


def find_catalogue(location: Location, *, clients: bool) -> tuple[Catalogue, str, int]:
    """Return what `read_catalogue` does; an empty catalogue, without digest and length, where that fails."""
    try:
        return read_catalogue(location, clients=clients)
    except ArchiveError:
        return Catalogue(), "", 0
