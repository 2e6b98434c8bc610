"""Keeps the catalogue of a run as its rounds are saved: cheaply, and no save fails for it."""

from __future__ import annotations

import threading
import time

from archive import tuning
from archive.checkpoints.catalogue import Catalogue, KnownRound, is_due
from archive.checkpoints.cataloguefile import digest_of, find_catalogue, write_catalogue
from archive.checkpoints.filetable import KnownFile
from archive.checkpoints.knownrounds import count_files, read_batches
from archive.checkpoints.roundfile import ClientFile
from archive.checkpoints.roundreader import RoundReader
from archive.checkpoints.savedrounds import SavedRounds
from archive.errors import ArchiveError, CatalogueWarning
from archive.tools.spelling import CATALOGUE

__all__ = ["CatalogueKeeper"]


class CatalogueKeeper:
    """What a store that saves rounds knows of its catalogue, and has not written yet.

    Several threads may save rounds: one of them writes, and the others do not wait. A pickle of it knows
    nothing.
    """

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._digest = ""
        self._nbytes = self._saves = 0
        self._next = 0.0  # when it may be written again, by the clock that is never set
        self._own = SavedRounds()
        self._read: list[KnownRound] = []  # of this store, and not in the catalogue
        self._folded = False  # some are in the catalogue here, and not in its file
        self._others: list[int] = []  # rounds that were there before, and are not in it
        self._gone: set[int] = set()
        self._off = False
        self._busy = threading.Lock()

    def __reduce__(self) -> tuple[type[CatalogueKeeper], tuple[()]]:
        return CatalogueKeeper, ()

    def read_client(self, file: ClientFile, known: KnownFile) -> None:
        """Take note of what was read of a client file of the next round."""
        if not self._off:
            self._own.read_client(file, known)

    def forget(self, number: int) -> None:
        """Forget the client files of a round that is not saved yet."""
        self._own.forget(number)

    def remove(self, number: int) -> None:
        """Take note that a round was removed."""
        self._own.remove(number)
        self._read = [one for one in self._read if one.number != number]
        self._gone.add(number)

    def save(self, number: int, files: RoundReader) -> CatalogueWarning | None:
        """Take note that a round was saved; write the catalogue if that is due. Return what went wrong."""
        if self._off:
            return None
        self._gone.discard(number)
        self._own.add(number)
        self._saves += 1
        if not self._busy.acquire(blocking=False):  # nor would it come back in a fork of a thread that has it
            return None
        try:
            self._update(files)
        except (ArchiveError, MemoryError) as error:
            self._stop()
            return CatalogueWarning(f"the catalogue of the run is not written any more: {error}")
        finally:
            self._busy.release()
        return None

    def _update(self, files: RoundReader) -> None:
        self._read += self._own.read(files)
        if self._catalogue is not None and count_files(self._read) > tuning.CATALOGUE_FOLDED:
            self._fold(self._catalogue, [])
        if not self._due:
            return
        if self._catalogue is None:
            self._load(files)
            if self._off or not self._due:
                return
        if self._catalogue is None or not (self._read or self._others or self._folded):
            return
        place = files.at(CATALOGUE)
        if digest_of(place) != self._digest:  # another process wrote it, or it is gone
            self._catalogue = self._catalogue.join(find_catalogue(place, clients=True)[0])
        catalogue = self._fold(self._catalogue, self._read_others(files))
        if self._folded:
            report = write_catalogue(files.location, catalogue)
            self._digest, self._nbytes, self._saves = report.digest, report.file_bytes, 0
            pause = 0.0 if files.remote else tuning.SETTLED_SECONDS  # younger rounds would not be in it
            self._next = time.monotonic() + pause
            self._folded = False
            self._gone.clear()

    @property
    def _due(self) -> bool:
        return is_due(self._saves, self._nbytes) and time.monotonic() >= self._next

    def _load(self, files: RoundReader) -> None:
        """Read what is there, and leave out what became of other files."""
        found, self._digest, self._nbytes = find_catalogue(files.at(CATALOGUE), clients=True)
        listed = files.listed()
        if files.remote and not all(entry.tag for entry in listed.values()):
            self._stop()  # no listing would prove anything
            return
        fresh = set(found.fresh(listed))
        self._catalogue = found.without(set(found.numbers) - fresh)
        ours = {*fresh, *self._own.numbers, *(one.number for one in self._read)}
        self._others = [number for number in listed if number not in ours]

    def _read_others(self, files: RoundReader) -> list[KnownRound]:
        """Read some of the rounds that were there before."""
        found: list[KnownRound] = []
        for count, read in read_batches(files, self._others, tuning.CATALOGUE_FILES):
            self._others = self._others[count:]
            found += read
            if count_files(found) >= tuning.CATALOGUE_FILES:
                break
        return found

    def _fold(self, catalogue: Catalogue, others: list[KnownRound]) -> Catalogue:
        """Take rounds that were read into the catalogue."""
        read, self._read = [*others, *self._read], []
        self._folded = self._folded or any(one.file.tag for one in read)
        self._catalogue = catalogue.updated(read, self._gone)
        return self._catalogue

    def _stop(self) -> None:
        self._off, self._catalogue = True, None
        self._own.clear()
        self._read.clear()
