"""The file of a catalogue: read where it is sound, written whole, and what its rows are made of."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping, Sequence

from archive import reading, tuning, writing
from archive.checkpoints.catalogue import Catalogue, KnownRound, make_catalogue
from archive.checkpoints.filetable import ARRAYS, KnownFile
from archive.checkpoints.paths import round_path
from archive.checkpoints.roundfile import DAMAGE, GONE, ClientFile, clients_of
from archive.checkpoints.roundreader import RoundReader
from archive.checkpoints.tablecheck import parse_table
from archive.engine.read.open import open_reader, tail_bytes
from archive.engine.read.reader import Reader
from archive.engine.report import SaveReport
from archive.errors import ArchiveError, ExistsError, HostileFileError, VersionError
from archive.format.constants import KIND_CONFIGS
from archive.format.index import RecordName
from archive.records import Array, ArrayRecord, RecordSet
from archive.storage.folder import make_place
from archive.storage.url import Location
from archive.tools.archivefacts import facts_of
from archive.tools.spelling import CATALOGUE
from archive.workers import map_archives

__all__ = [
    "digest_of",
    "find_catalogue",
    "read_catalogue",
    "read_known",
    "read_known_rounds",
    "write_catalogue",
]

MARK = "fedarchive.catalogue"
"""Config record of a catalogue: ``version``."""
VERSION = 1
_UNREADABLE = (*DAMAGE, *GONE, VersionError)


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
        There is none, or it is damaged, of another version, or somebody else's.
    """
    parts = ("rounds", "clients") if clients else ("rounds",)
    with reading.open(location, access="auto" if location.remote else "pread") as handle:
        path, nbytes = handle._reader.path, handle._reader.source.nbytes
        mark = handle.records.config_records.get(MARK)
        if mark is None or mark.get("version") != VERSION:
            raise VersionError("not a catalogue of a run that this version reads", path=path, key=MARK)
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

    It is not synced: a power cut may leave one whose digests fail, which is none.

    Raises
    ------
    ArchiveError
        It cannot be written.
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
        configs={MARK: {"version": VERSION}},
        durable=False,
        storage_options=folder.options if folder.remote else None,
    )


def digest_of(location: Location) -> str:
    """Return the digest of the catalogue in a file; empty where there is none, or a damaged one.

    Raises
    ------
    ExistsError
        Somebody's archive has its name.
    ArchiveError
        Nobody can tell.
    """
    try:
        reader = open_reader(location, access="pread", verify="first")
    except _UNREADABLE:
        return ""
    with contextlib.closing(reader):
        if RecordName(KIND_CONFIGS, MARK) not in reader.index.records:
            raise ExistsError(
                "an archive has the name of the catalogue, and no catalogue is written",
                path=location.display,
                errno=errno.EEXIST,
                remedy="give it another name",
            )
        return reader.identity.hex()


def find_catalogue(location: Location, *, clients: bool) -> tuple[Catalogue, str, int]:
    """Return what `read_catalogue` does; an empty one, without digest and length, where none is sound."""
    try:
        return read_catalogue(location, clients=clients)
    except ArchiveError:
        return Catalogue(), "", 0


def read_known(location: Location) -> KnownFile:
    """Return what is known of a file after it was read.

    Raises
    ------
    ArchiveError
        It is missing or damaged.
    """
    with contextlib.closing(open_reader(location, access="pread", verify="first")) as reader:
        return _known(reader)


def read_known_rounds(
    files: RoundReader, numbers: Sequence[int], known: Mapping[ClientFile, KnownFile]
) -> list[KnownRound]:
    """Return what is known of rounds and the files of their clients after they were read.

    Rounds whose own file is missing or damaged are left out. ``known`` has files that were read already.

    Raises
    ------
    ArchiveError
        The network failed, or the system lacks memory or descriptors.
    """

    def read_round(number: int) -> tuple[int, KnownFile, list[ClientFile]] | None:
        location = files.at(round_path(number))
        with (
            contextlib.suppress(*_UNREADABLE),
            contextlib.closing(open_reader(location, access="pread", verify="first")) as reader,
        ):
            return (
                number,
                _known(reader),
                [file for _, file in sorted((clients_of(reader, number) or {}).items())],
            )
        return None

    def read_client(file: ClientFile) -> KnownFile | None:
        with contextlib.suppress(*_UNREADABLE):
            return read_known(files.at(file.path))
        return None

    rounds = [one for one in map_archives(read_round, numbers, remote=files.remote) if one is not None]
    unread = [file for *_, named in rounds for file in named if file not in known]
    read = dict(zip(unread, map_archives(read_client, unread, remote=files.remote), strict=True))
    return [
        KnownRound(number, own, [(file, known.get(file) or read.get(file)) for file in named])
        for number, own, named in rounds
    ]


def _known(reader: Reader) -> KnownFile:
    tail = tail_bytes(reader.footer) if reader.footer is not None else 0
    return KnownFile(facts_of(reader), tail, reader.source.tag)
