"""The catalogue of a run: what its files said when they were read, and what of that is true still. Pure.

It is never an authority. What it says of a file counts while length and tag of that file, as a listing has
them, are those of the file that was read; anything else is read from the file itself. So a history is the
same with and without it, whatever happened to either of them. Only who may write into the folder of a run,
and so into its rounds, can make it tell lies; `CheckpointStore.verify` looks at the rounds alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from archive import tuning
from archive.checkpoints.filetable import FileTable, KnownFile, TableRow, make_table, proof_of
from archive.checkpoints.roundfile import ClientFile, RoundFile
from archive.errors import HostileFileError
from archive.storage.folder import Entry
from archive.tools.archivefacts import Facts

__all__ = ["Catalogue", "KnownRound", "Listed", "is_due", "make_catalogue"]

_NOTHING = make_table([])

Listed: TypeAlias = Mapping[int, Entry | None]
"""Rounds as a listing has them; None for one whose file is to be read whatever the catalogue says."""


@dataclass(frozen=True, slots=True)
class KnownRound:
    """A round that was read, and the files of its clients, sorted by name."""

    number: int
    file: KnownFile
    clients: Sequence[tuple[ClientFile, KnownFile | None]]

    @property
    def rows(self) -> tuple[TableRow, list[TableRow]]:
        """The row of its file, and those of its clients."""
        clients = []
        for file, known in self.clients:
            # of another file than the one that the round names a history says so: it has to read it
            same = known if known is not None and known.tag and known.facts.digest == file.digest else None
            clients.append(TableRow(self.number, file.spelled, file.write, file.digest, same))
        return TableRow(self.number, "", "", self.file.facts.digest, self.file), clients


@dataclass(frozen=True)
class Catalogue:
    """What is known of the files of a run."""

    rounds: FileTable = _NOTHING
    """One row a round, in order of their numbers."""
    clients: FileTable = _NOTHING
    """One row for each client of each round, in order of their numbers, and by name within a round; without
    rows where a catalogue was read for its rounds alone."""

    @property
    def numbers(self) -> list[int]:
        """The rounds that it knows."""
        found: list[int] = self.rounds.columns["round"].tolist()
        return found

    def fresh(self, listed: Listed) -> list[int]:
        """Return the rounds whose files are those that were read."""
        pairs = zip(self.numbers, self.rounds.proofs(), strict=True)
        return [number for number, proof in pairs if _proves(proof, listed.get(number))]

    def fresh_rounds(self, listed: Listed, *, clients: bool, remote: bool) -> dict[int, RoundFile]:
        """Return the rounds whose files need not be read.

        Parameters
        ----------
        listed : mapping of int to Entry or None
        clients : bool
            With the files of their clients. A history of rounds alone says less of long remote files, and
            has the same facts whether they are read or not.
        remote : bool
            Whether the run is in a remote folder.
        """
        fresh = self.fresh(listed)
        if not fresh:
            return {}
        table = _rows_of(self.rounds, fresh)
        facts = table.facts(count_all=clients or not remote, most_tail=tuning.VALUES_TAIL_BYTES)
        named: dict[int, dict[str, ClientFile]] = {number: {} for number in fresh} if clients else {}
        for file in _files(_rows_of(self.clients, fresh)) if clients else ():
            named[file.round][file.name] = file
        return {
            number: RoundFile(number, one, named.get(number))
            for number, one in zip(fresh, facts, strict=True)
        }

    def fresh_clients(
        self, numbers: Collection[int], listed: Mapping[str, Entry], *, remote: bool
    ) -> dict[ClientFile, Facts]:
        """Return the facts of those client files of some rounds that need not be read.

        ``listed`` has the files by their path in the run.
        """
        table = _rows_of(self.clients, numbers)
        files, proofs = _files(table), table.proofs()
        fresh = [_proves(proof, listed.get(file.path)) for file, proof in zip(files, proofs, strict=True)]
        facts = table.select(np.array(fresh, bool)).facts(
            count_all=not remote, most_tail=tuning.VALUES_TAIL_BYTES
        )
        kept = (file for file, is_fresh in zip(files, fresh, strict=True) if is_fresh)
        return dict(zip(kept, facts, strict=True))

    def without(self, numbers: Iterable[int]) -> Catalogue:
        """Return the catalogue without some rounds."""
        going = np.array(sorted(set(numbers)), np.int64)
        tables = (
            table.select(~np.isin(table.columns["round"], going)) for table in (self.rounds, self.clients)
        )
        return make_catalogue(*tables)

    def join(self, other: Catalogue) -> Catalogue:
        """Return this catalogue with the rounds that only another one has."""
        more = other.without(self.numbers)
        return make_catalogue(
            self.rounds.join(more.rounds).ordered(), self.clients.join(more.clients).ordered()
        )

    def updated(self, read: Sequence[KnownRound], gone: Iterable[int]) -> Catalogue:
        """Return the catalogue after some rounds were read and others removed."""
        rows = [one.rows for one in sorted(read, key=lambda one: one.number) if one.file.tag]
        rounds, clients = (
            make_table([row for row, _ in rows]),
            make_table([c for _, more in rows for c in more]),
        )
        kept = self.without([*gone, *(one.number for one in read)])
        return make_catalogue(rounds, clients).join(kept)


def make_catalogue(rounds: FileTable, clients: FileTable = _NOTHING, *, path: str = "") -> Catalogue:
    """Return the catalogue of two tables.

    Raises
    ------
    HostileFileError
        A round has two rows, or a client two in one round; or no name.
    """
    numbers, names = rounds.columns["round"], clients.columns["name"].tolist()
    pairs = set(zip(clients.columns["round"].tolist(), names, strict=True))
    if (numbers[1:] == numbers[:-1]).any() or len(pairs) != len(clients):
        raise HostileFileError("a catalogue that names a file twice", path=path)
    if any(not clients.texts[name] for name in set(names)):
        raise HostileFileError("a catalogue with a client without a name", path=path)
    return Catalogue(rounds, clients)


def is_due(saves: int, nbytes: int) -> bool:
    """Return whether a catalogue is to be rewritten after so many saves of rounds, by its length.

    So the bytes written for it, a save, are at most `tuning.CATALOGUE_BYTES` up to 2 MB, and then a
    thirty-second of its length.

    Examples
    --------
    >>> is_due(1, 10_000), is_due(1, 200_000), is_due(4, 200_000), is_due(32, 1 << 30)
    (True, False, True, True)
    """
    return saves >= min(1 + nbytes // tuning.CATALOGUE_BYTES, tuning.CATALOGUE_ROUNDS)


def _proves(proof: bytes, entry: Entry | None) -> bool:
    return bool(proof) and entry is not None and proof == proof_of(entry.nbytes, entry.tag)


def _rows_of(table: FileTable, numbers: Collection[int]) -> FileTable:
    keep = np.isin(table.columns["round"], np.fromiter(numbers, np.int64, len(numbers)))
    return table if keep.all() else table.select(keep)


def _files(table: FileTable) -> list[ClientFile]:
    columns, texts = (table.columns[name].tolist() for name in ("round", "name", "write")), table.texts
    return [
        ClientFile(number, texts[name], texts[write], digest)
        for number, name, write, digest in zip(*columns, table.digests(), strict=True)
    ]
