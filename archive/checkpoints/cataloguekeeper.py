"""Keeps the catalogue of a run as its rounds are saved: cheaply, and no save fails for it."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from archive import tuning
from archive.checkpoints.catalogue import Catalogue, is_due
from archive.checkpoints.cataloguefile import digest_of, find_catalogue, read_known_rounds, write_catalogue
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.roundfile import ClientFile
from archive.checkpoints.roundreader import RoundReader
from archive.display.shortfields import ShortFields
from archive.errors import ArchiveError, CatalogueWarning
from archive.tools.spelling import CATALOGUE

__all__ = ["CatalogueKeeper", "CatalogueReport", "rebuild_catalogue"]

AT_ONCE = 256
"""Rounds that a rebuilding reads before it makes columns of them."""


class CatalogueKeeper:
    """What a store that saves rounds knows of its catalogue, and has not written yet.

    A pickle of it knows nothing.
    """

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._digest = ""
        self._nbytes = self._saves = 0
        self._own: dict[int, float] = {}  # rounds that this store saved and did not write, and since when
        self._others: list[int] = []  # rounds that were there before, and are not in it
        self._gone: set[int] = set()
        self._clients: dict[int, dict[ClientFile, KnownFile]] = {}  # of rounds of this store
        self._off = False

    def __reduce__(self) -> tuple[type[CatalogueKeeper], tuple[()]]:
        return CatalogueKeeper, ()

    def read_client(self, file: ClientFile, known: KnownFile) -> None:
        """Take note of what was read of a client file of the next round."""
        if known.tag and not self._off:
            self._clients.setdefault(file.round, {})[file] = known

    def remove(self, number: int) -> None:
        """Take note that a round was removed."""
        self._own.pop(number, None)
        self._clients.pop(number, None)
        self._gone.add(number)

    def save(self, number: int, files: RoundReader) -> CatalogueWarning | None:
        """Take note that a round was saved; write the catalogue if that is due. Return what went wrong."""
        if self._off:
            return None
        self._gone.discard(number)
        self._own[number] = time.time()
        self._saves += 1
        if not is_due(self._saves, self._nbytes):
            return None
        try:
            self._update(files)
        except ArchiveError as error:
            self._stop()
            return CatalogueWarning(f"the catalogue of the run is not written any more: {error}")
        return None

    def _update(self, files: RoundReader) -> None:
        place = files.at(CATALOGUE)
        if self._catalogue is None:
            self._load(files)
            if self._off or not is_due(self._saves, self._nbytes):
                return
        ready = self._ready(files.remote)
        if self._catalogue is None or not (ready or self._others):
            return
        if digest_of(place) != self._digest:  # another process wrote it, or it is gone
            self._catalogue = self._catalogue.join(find_catalogue(place, clients=True)[0])
        known = {file: one for found in self._clients.values() for file, one in found.items()}
        several = max(1, tuning.CATALOGUE_FILES * len(self._own) // (len(self._own) + len(known)))
        others, self._others = self._others[:several], self._others[several:]
        read = read_known_rounds(files, [*others, *ready], known)
        for number in ready:
            self._own.pop(number)
            self._clients.pop(number, None)
        # a clock of the file system that is ahead of ours: once more, later
        self._own |= {one.number: time.time() for one in read if not one.file.tag}
        if any(one.file.tag for one in read):
            catalogue = self._catalogue.updated(read, self._gone)
            report = write_catalogue(files.location, catalogue)
            self._catalogue, self._digest, self._nbytes = catalogue, report.digest, report.file_bytes
            self._saves = 0
            self._gone.clear()

    def _load(self, files: RoundReader) -> None:
        """Read what is there, and leave out what became of other files."""
        found, self._digest, self._nbytes = find_catalogue(files.at(CATALOGUE), clients=True)
        listed = files.listed()
        if files.remote and not all(entry.tag for entry in listed.values()):
            self._stop()  # no listing would prove anything
            return
        fresh = set(found.fresh(listed))
        self._catalogue = found.without(set(found.numbers) - fresh)
        self._others = [number for number in listed if number not in fresh and number not in self._own]

    def _ready(self, remote: bool) -> list[int]:
        """Return the rounds whose files may be read: nothing tells yet whether a file changes that is new."""
        if remote:
            return list(self._own)
        before = time.time() - 1.1 * tuning.SETTLED_SECONDS
        old = itertools.takewhile(lambda pair: pair[1] <= before, self._own.items())
        return [number for number, _ in itertools.islice(old, 2 * tuning.CATALOGUE_ROUNDS)]

    def _stop(self) -> None:
        self._off, self._catalogue = True, None
        self._clients.clear()


@dataclass(frozen=True, slots=True, repr=False)
class CatalogueReport(ShortFields):
    """A catalogue that was written."""

    url: str
    """Path or URL of its file."""
    rounds: int
    """Rounds that it knows. It lacks those that cannot be read, and of a local folder those that were saved
    in the last seconds."""
    file_bytes: int
    """Length of its file."""


def rebuild_catalogue(files: RoundReader) -> CatalogueReport:
    """Write the catalogue of a run anew, from its files alone.

    Raises
    ------
    ArchiveError
        The folder cannot be read, or the catalogue not be written.
    """
    digest_of(files.at(CATALOGUE))
    numbers, made = files.numbers(), Catalogue()
    for at in range(0, len(numbers), AT_ONCE):
        made = made.updated(read_known_rounds(files, numbers[at : at + AT_ONCE], {}), ())
    report = write_catalogue(files.location, made)
    return CatalogueReport(files.shown(CATALOGUE), len(made.numbers), report.file_bytes)
