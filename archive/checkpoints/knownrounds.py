"""What a catalogue says of rounds and the files of their clients: read from these files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from archive.checkpoints.catalogue import KnownRound
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.paths import round_path
from archive.checkpoints.roundfile import UNREADABLE, ClientFile, clients_of
from archive.checkpoints.roundreader import RoundReader
from archive.engine.read.open import open_reader, tail_bytes
from archive.engine.read.reader import Reader
from archive.storage.url import Location
from archive.tools.archivefacts import facts_of
from archive.workers import map_archives

__all__ = ["count_files", "read_batches", "read_known", "read_known_rounds"]


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
            contextlib.suppress(*UNREADABLE),
            contextlib.closing(open_reader(location, access="pread", verify="first")) as reader,
        ):
            return (
                number,
                _known(reader),
                [file for _, file in sorted((clients_of(reader, number) or {}).items())],
            )
        return None

    def read_client(file: ClientFile) -> KnownFile | None:
        with contextlib.suppress(*UNREADABLE):
            return read_known(files.at(file.path))
        return None

    rounds = [one for one in map_archives(read_round, numbers, remote=files.remote) if one is not None]
    unread = [file for *_, named in rounds for file in named if file not in known]
    read = dict(zip(unread, map_archives(read_client, unread, remote=files.remote), strict=True))
    return [
        KnownRound(number, own, [(file, known.get(file) or read.get(file)) for file in named])
        for number, own, named in rounds
    ]


def read_batches(
    files: RoundReader, numbers: Sequence[int], most: int
) -> Iterator[tuple[int, list[KnownRound]]]:
    """Yield numbers of rounds and what `read_known_rounds` read of them, some ``most`` files at a time.

    Nobody knows beforehand how many clients a round has: the first batch is one round.
    """
    at = done = 0
    while at < len(numbers):
        share = max(1, most * at // done) if done else 1
        found = read_known_rounds(files, numbers[at : at + share], {})
        at, done = min(at + share, len(numbers)), done + max(count_files(found), share)
        yield share, found


def count_files(found: Sequence[KnownRound]) -> int:
    """Return how many files rounds have, with those of their clients."""
    return sum(1 + len(one.clients) for one in found)


def _known(reader: Reader) -> KnownFile:
    tail = tail_bytes(reader.footer) if reader.footer is not None else 0
    return KnownFile(facts_of(reader), tail, reader.source.tag)
